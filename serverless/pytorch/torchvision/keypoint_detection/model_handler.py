from common.torchvision import KeypointDetection as ModelHandler

__all__ = ["ModelHandler"]
