"""What the outputs of exported networks mean: `layout` recognises a file, `decode` turns its outputs into detections.

`metadata` reads what the exporter wrote into a file; `nms` and `masks` are shared by the layouts; `rotated_graph` cuts
MMRotate's files before an operation that ONNX Runtime lacks.
"""
