from common.networks.huggingface.classify import Classification as ModelHandler

__all__ = ["ModelHandler"]
