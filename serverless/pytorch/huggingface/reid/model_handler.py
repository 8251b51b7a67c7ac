from common.networks.huggingface.embedding import TransformersEmbedding as ModelHandler

__all__ = ["ModelHandler"]
