"""mypy over the functions' own files: `make lint` runs `python -m tests.check_types` beside mypy itself.

They are no packages: their folders have dashes in their names, and all files are called main.py and model_handler.py. For
mypy each folder gets a link with the name of a package of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tools.collection import COLLECTION, ROOT, function_directories

_LINKS = ROOT / ".mypy_cache" / "functions"


def main() -> int:
    """Prints what mypy finds, with the real paths of the files; returns its exit status."""
    _LINKS.mkdir(parents=True, exist_ok=True)
    files, real_paths = [], {}
    for directory in function_directories():
        package = "_".join(directory.relative_to(COLLECTION).parts).replace("-", "_")
        link = _LINKS / package
        link.unlink(missing_ok=True)
        link.symlink_to(directory)
        files += [f"{package}/{file.name}" for file in sorted(directory.glob("*.py"))]
        real_paths[f"{package}/"] = f"{directory.relative_to(ROOT)}/"
    ended = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", "--explicit-package-bases", *files],
        cwd=_LINKS,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    text = ended.stdout
    for link_path, real_path in real_paths.items():
        text = text.replace(link_path, real_path)
    print(text, end="")
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main())
