"""Annotates whole tasks and projects of a CVAT server, or a folder of images, from the shell.

The function runs in worker processes here, or behind one or several addresses, while frames are downloaded and annotations
uploaded. A journal lists what was uploaded, so that an interrupted run can be resumed.
"""
