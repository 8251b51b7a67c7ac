"""Measures the memory of functions, for `resources` in their function.yaml."""
