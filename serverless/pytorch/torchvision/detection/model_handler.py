from common.torchvision import Detection as ModelHandler

__all__ = ["ModelHandler"]
