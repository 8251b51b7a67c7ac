"""Networks that follow an object, with the inputs and outputs of OpenCV's VitTrack."""

from __future__ import annotations

from pathlib import Path

from tools.new.facts import Facts, Given
from tools.new.readers.exported import beside
from tools.new.readers.reader import Reader

_SUFFIXES = (".onnx", ".xml")


def _recognises(given: Given) -> bool:
    path = given.path
    if given.kind != "tracker":
        return False
    return path.is_dir() if path.suffix not in _SUFFIXES else path.exists()


def _read(given: Given, workshop: Path) -> Facts:
    from common.networks.exported.model import model_file
    from common.networks.vittrack import VitTrackNetwork

    given.refuse("LAYOUT", "IMAGE_SIZE", "DETECTOR", reason="for a detector, got KIND=tracker")
    file = model_file(given.path)
    network = VitTrackNetwork(file, engine="openvino" if file.suffix == ".xml" else "onnxruntime")
    return Facts(
        files=(file, *beside(file)),
        like="onnx/opencv/vittrack",
        size_hw=(network.search_side, network.search_side),
    )


READER = Reader("an .onnx or OpenVINO's .xml with VitTrack's inputs and outputs", ("tracker",), _recognises, _read)
