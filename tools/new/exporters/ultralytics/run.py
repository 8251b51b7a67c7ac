"""Has Ultralytics' package export a .pt file, in a process of its own, and compares both files' answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import StartupError
from common.networks.exported.model import ExportedModel
from common.vision.image import decode_image
from tools.new.exporters.comparison import Comparison
from tools.new.exporters.environment import python_for
from tools.new.exporters.ultralytics.export import LOWEST_SCORE
from tools.new.sample import PHOTOGRAPH

_HERE = Path(__file__).parent
_MODULES = ("ultralytics", "torch", "onnx")
_MODEL = "model.pt"
_SECONDS = 1800  # the largest networks take minutes
_OWN_WAY = "AS_IS=1 makes a function that runs the .pt with their package"


def export(path: Path, size_hw: tuple[int, int] | None, pictures: Sequence[Path], workshop: Path) -> tuple[Path, str]:
    """Exports a .pt file to ONNX.

    Args:
        path: The file; it has to be one that names nothing but parts of Ultralytics' package, which loads it as a pickle.
        size_hw: Height and width of the input in pixels; None for the size that it was trained with.
        pictures: More image files to compare the answers on.
        workshop: An empty folder for the files.

    Returns:
        The ONNX file in the workshop, and a sentence about what was compared.

    Raises:
        StartupError: The export fails, or the exported file gives other results.
    """
    images = _pictures(pictures)
    python = python_for(_HERE, _MODULES)
    print("Ultralytics' package, which is licensed under AGPL-3.0, exports the file to ONNX ...", flush=True)
    # Their package takes some names for other files or networks: yolov5n.pt, x-world.pt, o'brien.pt.
    copy_checked(path, workshop / _MODEL)
    files = [workshop / f"picture{i}.npy" for i in range(len(images))]
    for file, image in zip(files, images, strict=True):
        np.save(file, image)
    job = workshop / "job.json"
    job.write_text(json.dumps({"model": _MODEL, "size": size_hw, "pictures": [str(file) for file in files]}))
    report = _run(python, job, path)
    answers = [dict(np.load(file.with_suffix(".npz"))) for file in files]
    onnx = (workshop / report["onnx"]).rename(workshop / f"{path.stem}.onnx")
    return (
        onnx,
        f"Exported from {path.name} by ultralytics {report['version']}; {_compare(onnx, path, images, answers)}",
    )


def copy_checked(path: Path, target: Path) -> None:
    """Copies a .pt; an archive is packed again, so that torch reads exactly the entries that were checked.

    Args:
        path: The file.
        target: The copy.
    """
    with path.open("rb") as file:
        # What torch goes by, and the check: pickles may have an archive behind them.
        is_archive = file.read(4) == b"PK\x03\x04"
    if not is_archive:
        shutil.copyfile(path, target)
        return
    with zipfile.ZipFile(path) as given, zipfile.ZipFile(target, "w") as made:
        for entry in given.infolist():
            made.writestr(entry.filename, given.read(entry))


def _run(python: Path, job: Path, path: Path) -> dict[str, Any]:
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        done = subprocess.run(  # noqa: S603
            [str(python), "-I", str(_HERE / "export.py"), str(job)],
            cwd=job.parent,
            env=settings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StartupError(f"{path}: the export was given up after {_SECONDS // 60} minutes; {_OWN_WAY}") from error
    except OSError as error:
        raise StartupError(f"{path}: {python} can't be run: {error.strerror}") from error
    report = job.with_name("report.json")
    if done.returncode or not report.is_file():
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1][:250] if lines else f"its process ended with status {done.returncode}"
        raise StartupError(f"{path}: Ultralytics' package can't export it: {reason}; {_OWN_WAY}")
    content: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return content


def _pictures(more: Sequence[Path]) -> list[NDArray[np.uint8]]:
    from training.shapes.draw import draw_shapes

    photograph = decode_image(PHOTOGRAPH.read_bytes(), "the sample picture")
    try:
        own = [decode_image(file.read_bytes(), "IMAGE") for file in more]
    except OSError as error:
        raise StartupError(f"IMAGE: {error.filename}: {error.strerror}") from error
    pictures = [photograph, photograph[:, ::-1], np.rot90(photograph), draw_shapes(1).image, *own]
    return [np.ascontiguousarray(picture) for picture in pictures]


def _compare(
    onnx: Path, path: Path, images: Sequence[NDArray[np.uint8]], answers: Sequence[dict[str, NDArray[Any]]]
) -> str:
    model = ExportedModel(onnx, engine="onnxruntime")
    comparison = Comparison()
    for image, answer in zip(images, answers, strict=True):
        comparison.add(model, image, answer, LOWEST_SCORE)
    if not comparison.agrees:
        raise StartupError(
            f"{path}: the exported file's results differ from those of the .pt: {comparison.unmatched} of {comparison.detections} "
            f"detections on {len(images)} pictures differ, the others by {comparison}; {_OWN_WAY}"
        )
    if not comparison.detections:
        return f"neither file finds anything on {len(images)} sample pictures"
    things = "tags" if model.layout.task == "classify" else f"the {comparison.detections} best detections"
    return f"on {len(images)} pictures {things} of both files differ by {comparison}"
