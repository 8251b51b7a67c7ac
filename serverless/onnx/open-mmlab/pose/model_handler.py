from common.networks.top_down.handler import ExportedTopDown as ModelHandler

__all__ = ["ModelHandler"]
