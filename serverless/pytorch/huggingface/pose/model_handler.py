from common.networks.huggingface.top_down import TransformersTopDown as ModelHandler

__all__ = ["ModelHandler"]
