"""`python -m tools.export_encoder`: a SAM function's image encoder as an ONNX file, and what that is worth here."""
