"""Model files exported to ONNX or OpenVINO: `model` opens one and runs it on an image, `handler` is the ModelHandler for it."""
