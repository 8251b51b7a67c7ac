from common.networks.exported.handler import YoloHandler as ModelHandler

__all__ = ["ModelHandler"]
