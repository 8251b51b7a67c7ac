"""Engines that run model files: one module for each library, behind the interface in `interface`."""
