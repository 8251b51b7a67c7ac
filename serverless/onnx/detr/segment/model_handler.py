from common.networks.exported.handler import ExportedDetector as ModelHandler

__all__ = ["ModelHandler"]
