"""A small YOLO that finds drawn shapes: masks."""

from common.networks.exported.handler import ExportedDetector as ModelHandler

__all__ = ["ModelHandler"]
