from common.networks.huggingface.segment import Segmentation as ModelHandler

__all__ = ["ModelHandler"]
