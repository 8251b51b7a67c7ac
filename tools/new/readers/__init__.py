"""Reads model files of every kind: one `Reader` for each, in the order in which they are asked.

    top_down          DETECTOR=...: pose networks behind a detector
    huggingface       folders with config.json and model.safetensors, and names on the Hugging Face hub
    exported          .onnx, OpenVINO's .xml, .torchscript: detectors and classifiers of known output layouts
    checkpoint        YOLOv5's and YOLOv7's own .pt; what any other checkpoint is
    ultralytics       .pt of Ultralytics' package
    vittrack          .onnx, .xml: KIND=tracker, networks like OpenCV's VitTrack
    embedding         .onnx, .xml, folders of the Hugging Face hub: KIND=reid, networks that describe pictures

To add a kind of files, write a module with a `READER` and list it here; a function of the collection that runs such files
(`Facts.like`) has to exist.
"""

from __future__ import annotations

from pathlib import Path

from common.errors import StartupError, describe
from tools.checkpoints.identify import identify
from tools.new.facts import Facts, Given
from tools.new.readers import checkpoint, embedding, exported, huggingface, top_down, ultralytics, vittrack
from tools.new.readers.reader import Reader

READERS: tuple[Reader, ...] = (
    top_down.READER,
    huggingface.READER,
    exported.READER,
    checkpoint.READER,
    ultralytics.READER,
    vittrack.READER,
    embedding.READER,
)


def read_model(given: Given, workshop: Path) -> Facts:
    """Opens a model and reads what it says about itself.

    Args:
        given: What the command line says.
        workshop: An empty folder for files that are made on the way; it is deleted when the function is written.

    Returns:
        What the model's files say.

    Raises:
        StartupError: The model can't be served; the message says what to do about it.
    """
    for reader in READERS:
        if reader.recognises(given):
            if reader is not ultralytics.READER:
                given.refuse("AS_IS", reason="for Ultralytics' .pt files, which their package runs then")
            return reader.read(given, workshop)
    if not given.path.exists():
        raise StartupError(f"WEIGHTS: there is no {given.weights}")
    served = sorted({kind for reader in READERS for kind in reader.kinds})
    if given.kind not in served:
        raise StartupError(
            f"KIND={given.kind}: a model file becomes a function of kind {' or '.join(served)}; leave out WEIGHTS for a template"
        )
    seen = f": {identify(given.path).verdict.what}" if given.path.is_file() else ""
    fitting = [reader.files for reader in READERS if given.kind in reader.kinds]
    kinds = f"KIND={given.kind}: " if given.kind != "detector" else ""
    raise StartupError(f"WEIGHTS: {kinds}expected {'; '.join(fitting)}; got {describe(given.path.name)}{seen}")
