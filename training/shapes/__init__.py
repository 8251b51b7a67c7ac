"""Tiny YOLO networks for all five tasks, trained on drawn shapes: what the tests, the shapes function and the demo use."""
