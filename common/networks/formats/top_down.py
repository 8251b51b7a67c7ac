"""Top-down pose networks, which are no detectors: they find the joints in a box that a detector has found."""

from __future__ import annotations

import numpy as np

from common.networks.formats.layout import UnreadableOutputs
from common.networks.formats.signature import Signature

_REMEDY = (
    "of a top-down pose network, which finds the joints of what is in a box: it needs a detector in front of it. Use the function "
    "serverless/onnx/open-mmlab/pose, or make one: make new WEIGHTS=pose.onnx DETECTOR=detector.onnx"
)
_MOST_JOINTS = 150  # of the whole body there are 133
_STRIDES = (2, 4, 8)  # pixels of the input for a cell of a heat map


def _is_rows(file: Signature) -> bool:
    return {"simcc_x", "simcc_y"} <= set(file.names)


def _is_heatmaps(file: Signature) -> bool:
    if len(file.outputs) != 1 or len(file.shapes[0]) != 4 or not np.issubdtype(file.outputs[0].dtype, np.floating):
        return False
    _, joints, height, width = file.shapes[0]
    return 1 < joints <= _MOST_JOINTS and any(file.size_hw == (height * stride, width * stride) for stride in _STRIDES)


ROWS = UnreadableOutputs(match=_is_rows, remedy=f"the outputs are the rows of scores (SimCC) {_REMEDY}")
HEATMAPS = UnreadableOutputs(match=_is_heatmaps, remedy=f"the output may be the heat maps {_REMEDY}")
