"""Small ONNX files for tests whose outputs are computed from the picture, so that the right answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

Size = int | str
JOINT_COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}
"""The joints that `colour_poses` finds: discs of these colours, RGB, on grey."""


def save(
    path: Path,
    nodes: Sequence[NodeProto],
    constants: dict[str, NDArray[np.generic]],
    inputs: dict[str, Sequence[Size]],
    outputs: dict[str, Sequence[Size]],
    input_type: int = TensorProto.FLOAT,
) -> Path:
    """Writes a graph; sizes of axes are numbers, or names for free ones."""
    graph = helper.make_graph(
        list(nodes),
        "computed",
        [helper.make_tensor_value_info(name, input_type, list(shape)) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def mean_colours(
    path: Path,
    size_hw: tuple[Size, Size] = (64, 32),
    *,
    batch: Size = "N",
    cells: tuple[int, int] = (4, 2),
    softmax: bool = False,
    input_type: int = TensorProto.FLOAT,
) -> Path:
    """An embedding network: the mean colours of a grid of cells, (batch, 3 x rows x columns); needs whole cells."""
    height, width = (side if isinstance(side, int) else 64 for side in size_hw)
    kernel = [height // cells[0], width // cells[1]]
    nodes = [
        helper.make_node("Cast", ["images"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("AveragePool", ["values"], ["cells"], kernel_shape=kernel, strides=kernel),
        helper.make_node("Flatten", ["cells"], ["flat"]),
        helper.make_node("Softmax" if softmax else "Identity", ["flat"], ["descriptors"]),
    ]
    shape = (batch, 3 * cells[0] * cells[1] if isinstance(size_hw[0], int) else "D")
    return save(path, nodes, {}, {"images": (batch, 3, *size_hw)}, {"descriptors": shape}, input_type)


def colour_poses(
    path: Path,
    codec: str = "udp",
    input_hw: tuple[int, int] = (256, 192),
    *,
    batch: Size = "N",
    mean: Sequence[float] = (123.675, 116.28, 103.53),
    deviation: Sequence[float] = (58.395, 57.12, 57.375),
) -> Path:
    """A top-down pose network whose joints are discs of JOINT_COLOURS, on grey.

    Its heat maps, of a quarter of the input's size, or rows of scores, of twice its sides, peak in the middle of a disc.
    codec: msra or dark (cell i is at pixel 4 i), udp (the outermost cells are at the outermost pixels), simcc.
    mean, deviation: the normalisation that is undone, so that other numbers find nothing.
    """
    height, width = input_hw
    colours = np.array(list(JOINT_COLOURS.values()), np.float64) / 255
    # 1 for the colour itself, 0 or less for grey and for each of the others.
    weights = np.stack([_selector(colours, i) for i in range(len(colours))])
    constants: dict[str, NDArray[np.generic]] = {
        "scale": (np.array(deviation) / 255).astype(np.float32).reshape(1, 3, 1, 1),
        "shift": (np.array(mean) / 255).astype(np.float32).reshape(1, 3, 1, 1),
        "weights": weights[:, :3].astype(np.float32).reshape(-1, 3, 1, 1),
        "bias": weights[:, 3].astype(np.float32),
    }
    nodes = [
        helper.make_node("Mul", ["input", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["colours"]),
        helper.make_node("Conv", ["colours", "weights", "bias"], ["alike"]),
        helper.make_node("Relu", ["alike"], ["masks"]),
    ]
    for before, after in (("masks", "soft"), ("soft", "softer"), ("softer", "maps")):  # three boxes make a bell
        pool = {"kernel_shape": [9, 9], "strides": [1, 1], "pads": [4, 4, 4, 4], "count_include_pad": 1}
        nodes.append(helper.make_node("AveragePool", [before], [after], **pool))
    joints = len(colours)
    if codec == "simcc":
        modes = {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}
        constants |= {f"sizes_{axis}": np.array([1, 1, 2], np.float32) for axis in "xy"}
        for axis, over in (("x", 2), ("y", 3)):
            nodes.append(helper.make_node("ReduceMax", ["maps"], [f"max_{axis}"], axes=[over], keepdims=0))
            nodes.append(helper.make_node("Resize", [f"max_{axis}", "", f"sizes_{axis}"], [f"simcc_{axis}"], **modes))
        outputs = {"simcc_x": (batch, joints, 2 * width), "simcc_y": (batch, joints, 2 * height)}
    else:
        mode = "align_corners" if codec == "udp" else "asymmetric"
        nodes.append(
            helper.make_node(
                "Resize", ["maps", "", "quarter"], ["output"], mode="linear", coordinate_transformation_mode=mode
            )
        )
        constants["quarter"] = np.array([1, 1, 0.25, 0.25], np.float32)
        outputs = {"output": (batch, joints, height // 4, width // 4)}
    return save(path, nodes, constants, {"input": (batch, 3, height, width)}, outputs)


def _selector(colours: NDArray[np.float64], i: int) -> NDArray[np.float64]:
    """Weights of red, green, blue and 1 that give 1 for one of the colours, and less than 0 for the others and for greys."""
    others = [colour for j, colour in enumerate(colours) if j != i]
    greys = [np.full(3, level) for level in (0.1, 0.5, 0.9)]
    rows = np.array([[*colour, 1] for colour in (colours[i], *others, *greys)])
    wanted = np.array([1.0] + [-0.5] * len(others) + [-0.5] * len(greys))
    weights, *_ = np.linalg.lstsq(rows, wanted, rcond=None)
    return np.asarray(weights / (rows[0] @ weights))
