from common.torchvision import InstanceSegmentation as ModelHandler

__all__ = ["ModelHandler"]
