from common.networks.torchvision import InstanceSegmentation as ModelHandler

__all__ = ["ModelHandler"]
