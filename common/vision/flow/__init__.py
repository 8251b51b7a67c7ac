"""Following an object from frame to frame without a network, for the tracker serverless/opencv/opticalflow.

Points of the plane are complex numbers here, x + iy: multiplication by a number of length s and angle a scales by s and
rotates by a.
"""
