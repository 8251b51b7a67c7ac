"""The packages of this environment as the `.venv` of make, so that a test can run make's targets without installing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

STAMPS = (".serve", ".annotate", ".test")


def linked_environment(folder: Path) -> dict[str, str]:
    """Makes the environment in an empty folder; returns the variables that a command needs to use it."""
    folder.mkdir(parents=True)
    for name in ("bin", "lib", "pyvenv.cfg"):
        (folder / name).symlink_to(Path(sys.prefix) / name)
    for stamp in STAMPS:  # as after the installation
        (folder / stamp).touch()
    return {**os.environ, "VENV": str(folder), "OMP_NUM_THREADS": "1"}
