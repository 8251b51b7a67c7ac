from common.networks.yolo.handler import YoloHandler as ModelHandler

__all__ = ["ModelHandler"]
