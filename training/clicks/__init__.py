"""`python -m training.clicks`: a tiny EdgeTAM that finds drawn shapes by clicks and follows them through frames.

It stands in where published weights can't be had: small enough for a repository, trained in minutes on a CPU, and what
it finds can be compared with the exact truth of a drawing.
"""
