"""Pixels and geometry: image files, bitmaps, boxes and points, and their ways into a network and back."""
