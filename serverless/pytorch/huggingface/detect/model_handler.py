from common.networks.huggingface.detect import Detection as ModelHandler

__all__ = ["ModelHandler"]
