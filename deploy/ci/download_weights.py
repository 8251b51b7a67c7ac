"""Puts the weights attached to a release where functions look for them: `python3 -m deploy.ci.download_weights TAG`.

An asset is called weights-<name of the function>.tar.gz and holds what goes into the folder weights/ of the function: a
folder for each variant. `tar -C serverless/onnx/yolo/detect/weights -czf weights-onnx-yolo-detect.tar.gz .` makes one.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploy.checksum import pieces, sha256
from deploy.ci.program import must, run
from deploy.console import DeploymentError, human_size
from deploy.definition import functions

_PREFIX, _SUFFIX = "weights-", ".tar.gz"


def download(arguments: Sequence[str]) -> None:
    """Downloads and unpacks the weights.

    Args:
        arguments: The tag of the release.

    Raises:
        DeploymentError: They can't be downloaded, belong to no function, or are damaged.
    """
    (tag,) = arguments
    assets = json.loads(must("gh", "release", "view", tag, "--json", "assets"))["assets"]
    names = [asset["name"] for asset in assets if asset["name"].startswith(_PREFIX)]
    if not names:
        print(f"no weights are attached to {tag}: the functions fetch theirs")
        return
    directories = {function.name: function.directory for function in functions.find([], "cpu")}
    with tempfile.TemporaryDirectory() as folder:
        must("gh", "release", "download", tag, "--pattern", f"{_PREFIX}*{_SUFFIX}", "--dir", folder)
        for archive in sorted(Path(folder).iterdir()):
            name = archive.name[len(_PREFIX) : -len(_SUFFIX)]
            directory = directories.get(name)
            if directory is None:
                raise DeploymentError(f"{archive.name}: there is no function {name}")
            print(f"{name}: {human_size(_unpack(archive, directory / 'weights'))}")


def _unpack(archive: Path, folder: Path) -> int:
    """Unpacks and checks the weights of a function; returns their size in bytes."""
    folder.mkdir(exist_ok=True)
    must("tar", "-C", str(folder), "--no-same-owner", "-xzf", str(archive))
    for record in sorted(folder.rglob("weights.sha256")):
        _check(record)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _check(record: Path) -> None:
    """Where digests were recorded when the files were fetched first, they must still hold."""
    for line in record.read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        with (record.parent / name).open("rb") as file:
            found = sha256(pieces(file))
        if found != expected:
            raise DeploymentError(f"{record.parent / name} is damaged: its SHA-256 is not the one in {record.name}")


if __name__ == "__main__":
    run("download_weights", download, "TAG")
