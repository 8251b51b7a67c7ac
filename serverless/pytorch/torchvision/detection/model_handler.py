from common.networks.torchvision import Detection as ModelHandler

__all__ = ["ModelHandler"]
