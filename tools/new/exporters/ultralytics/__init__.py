"""Ultralytics' .pt files as ONNX, exported by their package (AGPL-3.0)."""
