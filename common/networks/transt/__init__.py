"""TransT: an object is found by attention between its picture and a part of the next frame.

X. Chen, B. Yan, J. Zhu, D. Wang, X. Yang and H. Lu: Transformer Tracking, CVPR 2021. Written from the paper; the parameters have
the names of the published checkpoint.
"""
