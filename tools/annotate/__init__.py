"""Annotates whole tasks and projects of a CVAT server, or a folder of images, from the shell.

A function runs in worker processes here, or behind one or several addresses; frames come and annotations go side by
side with that. Everything that was uploaded stands in a journal, so that a run that was cut off goes on where it was.
"""
