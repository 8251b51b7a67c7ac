from common.torchvision import Classification as ModelHandler

__all__ = ["ModelHandler"]
