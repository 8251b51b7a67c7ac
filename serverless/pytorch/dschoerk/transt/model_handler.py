from common.networks.transt.tracker import TransTTracker as ModelHandler

__all__ = ["ModelHandler"]
