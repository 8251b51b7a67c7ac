"""`python -m training.detr`: a tiny RT-DETR that finds drawn shapes, for the tests of the functions for the DETR family."""
