from common.networks.torchvision import KeypointDetection as ModelHandler

__all__ = ["ModelHandler"]
