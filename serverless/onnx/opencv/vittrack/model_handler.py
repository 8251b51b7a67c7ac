from common.networks.vittrack import VitTrack as ModelHandler

__all__ = ["ModelHandler"]
