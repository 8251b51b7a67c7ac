"""The files of a function's directory: Nuclio copies all of them beside its wrapper, with no way to leave any out."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from tools.check.findings import Finding, error, warning

_LARGE_FILE = 100 * 2**20
_LEFTOVERS = (".git", ".hg", ".svn", ".venv", "venv", "node_modules", ".tox", ".mypy_cache", ".pytest_cache")
# What the wrapper and its SDK import; a module of the function by that name is found first.
_WRAPPER_MODULES = {
    "argparse", "asyncio", "base64", "datetime", "functools", "http", "inspect", "json", "logging", "msgpack",
    "nuclio_sdk", "re", "requests", "signal", "socket", "ssl", "traceback", "types", "urllib",
}  # fmt: skip
_FAILS = "Nuclio copies the directory, and the deployment fails here"


def check_directory(directory: Path) -> Iterator[Finding]:
    """Checks the files of a function's directory.

    Args:
        directory: The directory with the function.yaml.

    Yields:
        What is wrong; each finding names the path, relative to the directory, as its field.
    """
    for path in _walk(directory):
        name = str(path.relative_to(directory))
        if path.name in _LEFTOVERS and path.is_dir() and not path.is_symlink():
            why = "Nuclio copies the whole directory into the image"
            yield warning("files.leftover", name, "only what the function needs", f"the directory {name}", why)
        elif not path.is_dir() or path.is_symlink():
            yield from _check_file(path, name)
    yield from _check_modules(directory)


def _walk(directory: Path) -> Iterator[Path]:
    """Everything below a directory in alphabetical order; not into symbolic links and leftovers."""
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False) and entry.name not in _LEFTOVERS:
            yield from _walk(Path(entry.path))


def _check_file(path: Path, name: str) -> Iterator[Finding]:
    try:
        status = path.stat()
    except OSError:
        got = f"a broken symbolic link to {os.readlink(path)}" if path.is_symlink() else "nothing to read"
        yield error("files.link", name, "a file", got, _FAILS)
        return
    if stat.S_ISDIR(status.st_mode):
        why = "Nuclio copies links as files, and the deployment fails at a directory"
        got = f"a symbolic link to the directory {os.readlink(path)}"
        yield error("files.link", name, "a directory of its own", got, why)
    elif not stat.S_ISREG(status.st_mode):
        why = "Nuclio copies the directory, and hangs or fails here"
        yield error("files.special", name, "plain files", "a pipe, socket or device", why)
    elif not os.access(path, os.R_OK):
        yield error(
            "files.unreadable", name, "a file that you may read", f"mode {stat.filemode(status.st_mode)}", _FAILS
        )
    elif status.st_size > _LARGE_FILE:
        why = (
            "Nuclio copies the directory at every deployment and sends it to Docker; fetch weights when the image is "
            "built, or mount them"
        )
        expected, got = f"files of at most {_LARGE_FILE // 2**20} MiB", f"{status.st_size / 2**20:.0f} MiB"
        yield warning("files.size", name, expected, got, why)


def _check_modules(directory: Path) -> Iterator[Finding]:
    for path in sorted(directory.iterdir()):
        name = path.stem if path.suffix == ".py" else path.name if (path / "__init__.py").is_file() else ""
        got = f"a module called {name}"
        if name in _WRAPPER_MODULES:
            why = f"it lies beside Nuclio's wrapper, which then imports it in place of its own {name}"
            yield error("files.shadow", path.name, "a name that no module of the wrapper has", got, why)
        elif name in sys.stdlib_module_names:
            why = f"it hides the standard library's {name} from all packages of the function"
            yield warning("files.shadow", path.name, "a name that no module of Python's library has", got, why)
