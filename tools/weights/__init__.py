"""Fetches the weights of functions, with a bar for each file: `python -m tools.weights`, `make weights`."""
