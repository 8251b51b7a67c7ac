"""The error of a file that can't be read as a checkpoint."""


class BadCheckpoint(Exception):
    """The file is damaged or too large, or does something that no checkpoint does; the message says what."""
