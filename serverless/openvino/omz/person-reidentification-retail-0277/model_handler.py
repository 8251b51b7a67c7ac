from common.networks.embedding import ExportedEmbedding as ModelHandler

__all__ = ["ModelHandler"]
