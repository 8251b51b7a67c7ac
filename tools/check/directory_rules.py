"""The files of a function's directory: Nuclio copies all of them beside its wrapper, with no way to leave any out."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from tools.check.findings import Findings

_LARGE_FILE = 100 * 2**20
_LEFTOVERS = (".git", ".hg", ".svn", ".venv", "venv", "node_modules", ".tox", ".mypy_cache", ".pytest_cache")
# What the wrapper and its SDK import; a module of the function by that name is found first.
_WRAPPER_MODULES = {
    "argparse", "asyncio", "base64", "datetime", "functools", "http", "inspect", "json", "logging", "msgpack",
    "nuclio_sdk", "re", "requests", "signal", "socket", "ssl", "traceback", "types", "urllib",
}  # fmt: skip


def check_directory(directory: Path, findings: Findings) -> None:
    """All rules on the files of a function's directory."""
    leftovers = []
    for path in _walk(directory):
        name = str(path.relative_to(directory))
        if path.is_dir() and not path.is_symlink():
            if path.name in _LEFTOVERS:
                leftovers.append(name)
            continue
        _check_file(path, name, findings)
    for name in leftovers:
        findings.warn(
            "files.leftover",
            name,
            expected="only what the function needs",
            got=f"the directory {name}",
            why="Nuclio copies the whole directory into the image",
        )
    _check_names(directory, findings)


def _walk(directory: Path) -> Iterator[Path]:
    """Everything below a directory in alphabetical order; not into symbolic links and leftovers."""
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False) and entry.name not in _LEFTOVERS:
            yield from _walk(Path(entry.path))


def _check_file(path: Path, name: str, findings: Findings) -> None:
    try:
        status = path.stat()
    except OSError:
        findings.error(
            "files.link",
            name,
            expected="a file",
            got=f"a symbolic link to nowhere, {os.readlink(path)}" if path.is_symlink() else "nothing to read",
            why="Nuclio copies the directory, and the deployment fails here",
        )
        return
    if stat.S_ISDIR(status.st_mode):
        findings.error(
            "files.link",
            name,
            expected="a directory of its own",
            got=f"a symbolic link to the directory {os.readlink(path)}",
            why="Nuclio copies links as files, and the deployment fails at a directory",
        )
    elif not stat.S_ISREG(status.st_mode):
        findings.error(
            "files.special",
            name,
            expected="plain files",
            got="a pipe, socket or device",
            why="Nuclio copies the directory, and waits here for ever or fails",
        )
    elif not os.access(path, os.R_OK):
        findings.error(
            "files.unreadable",
            name,
            expected="a file that you may read",
            got=f"mode {stat.filemode(status.st_mode)}",
            why="Nuclio copies the directory, and the deployment fails here",
        )
    elif status.st_size > _LARGE_FILE:
        findings.warn(
            "files.size",
            name,
            expected=f"files of at most {_LARGE_FILE // 2**20} MiB",
            got=f"{status.st_size / 2**20:.0f} MiB",
            why="Nuclio copies the directory at every deployment and sends it to Docker; fetch weights when the "
            "image is built, or mount them",
        )


def _check_names(directory: Path, findings: Findings) -> None:
    for path in sorted(directory.iterdir()):
        name = path.stem if path.suffix == ".py" else path.name if (path / "__init__.py").is_file() else ""
        if name in _WRAPPER_MODULES:
            findings.error(
                "files.shadow",
                path.name,
                expected="a name that no module of the wrapper has",
                got=f"a module called {name}",
                why=f"it lies beside Nuclio's wrapper, which then imports it in place of its own {name}",
            )
        elif name in sys.stdlib_module_names:
            findings.warn(
                "files.shadow",
                path.name,
                expected="a name that no module of Python's library has",
                got=f"a module called {name}",
                why=f"it comes before the library's {name} for all packages of the function",
            )
