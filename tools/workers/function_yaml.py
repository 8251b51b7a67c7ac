"""The function.yaml of a container: Nuclio puts it at /opt/nuclio, and CVAT's own functions read their labels there.

A worker process on this machine may not write to /opt, and several functions share it. So `open` gives the function's own
file for exactly that path, in a worker process alone: `provide` changes `builtins.open` and `io.open`, which `pathlib`
calls too. What goes past `open`, such as `os.path.exists` or a library in C, sees the machine as it is.
"""

from __future__ import annotations

import builtins
import io
import os
from pathlib import Path
from typing import Any

PATH_IN_CONTAINER = "/opt/nuclio/function.yaml"

_open = io.open


def provide(directory: Path) -> None:
    """From now on, this process finds the function.yaml of a directory under `PATH_IN_CONTAINER`.

    Args:
        directory: the function's. A directory without the file changes nothing: opening it then fails as it would.
    """
    own = str(directory / "function.yaml")

    def open_function_yaml(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        path = os.fspath(file) if isinstance(file, (str, bytes, os.PathLike)) else ""
        reads = not set(mode) & set("wax+")
        return _open(own if reads and os.fsdecode(path) == PATH_IN_CONTAINER else file, mode, *arguments, **named)

    builtins.open = io.open = open_function_yaml  # type: ignore[assignment]
