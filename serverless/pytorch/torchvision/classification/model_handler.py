from common.networks.torchvision import Classification as ModelHandler

__all__ = ["ModelHandler"]
