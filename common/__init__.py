"""What all functions share: requests, images, shapes, labels, replies and the Nuclio adapter.

Importing this package, or any module that `common.nuclio` needs, loads numpy and Pillow and nothing
heavier; OpenCV, ONNX Runtime and torch are imported where they are first used.
"""
