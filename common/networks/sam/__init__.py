"""Segment Anything of all generations through `transformers`: one implementation of clicks, one of tracking."""
