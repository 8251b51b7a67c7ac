"""Programs of the host as small shell scripts, for tests of a single module of `deploy`."""

from __future__ import annotations

from pathlib import Path

from deploy.commands import Commands
from deploy.console import Console


class Programs:
    """The programs on the path, and a run of the scripts that uses them."""

    def __init__(self, folder: Path):
        """Puts nothing on the path.

        Args:
            folder: For the programs, and for what the run leaves.
        """
        self.bin, self.scratch = folder / "bin", folder / "scratch"
        self.bin.mkdir()
        self.scratch.mkdir()
        self.console = Console("deploy_cpu.sh")
        self.commands = Commands(self.console, self.scratch)

    def write(self, name: str, text: str, *, folder: Path | None = None) -> Path:
        """Makes a program.

        Args:
            name: Its name.
            text: What its shell does.
            folder: Where; by default a folder of the path.
        """
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path
