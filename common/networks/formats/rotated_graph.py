"""MMRotate's files as mmdeploy exports them, without the operation that only mmdeploy's own library has."""

from __future__ import annotations

from pathlib import Path

from common.errors import StartupError

_OPERATION = "NMSRotated"


def cut_rotated_nms(path: Path) -> bytes | None:
    """Cuts a model at its operation NMSRotated, which ONNX Runtime lacks.

    Args:
        path: The model file.

    Returns:
        The model, as an ONNX file's bytes, that ends in the operation's inputs: `boxes` (1, N, 5) and `scores`
        (1, classes, N). None for a model without such an operation.

    Raises:
        StartupError: The model has several of them, or the package onnx, which this needs, is not installed.
    """
    if path.suffix != ".onnx" or _OPERATION.encode() not in path.read_bytes():
        return None
    try:
        import onnx
    except ImportError as error:
        raise StartupError(
            f"{path}: taking {_OPERATION} out of the model needs the package onnx: pip install onnx"
        ) from error
    model = onnx.load(str(path))
    graph = model.graph
    nodes = [node for node in graph.node if node.op_type == _OPERATION]
    if len(nodes) != 1:
        raise StartupError(f"{path}: expected one operation {_OPERATION} in the model, found {len(nodes)}")
    wanted = dict(zip(nodes[0].input[:2], ("boxes", "scores"), strict=True))
    producers = {output: node for node in graph.node for output in node.output}
    needed, waiting = set(), list(wanted)
    while waiting:
        producer = producers.get(waiting.pop())
        if producer is not None and id(producer) not in needed:
            needed.add(id(producer))
            waiting.extend(producer.input)
            # Branches of If and Loop read outer values without naming them as inputs.
            for attribute in producer.attribute:
                waiting.extend(name for inner in attribute.g.node for name in inner.input)
    kept = [node for node in graph.node if id(node) in needed]
    kept += [onnx.helper.make_node("Identity", [source], [target]) for source, target in wanted.items()]
    used = {name for node in kept for name in node.input}
    del graph.node[:], graph.output[:]
    graph.node.extend(kept)
    initializers = [constant for constant in graph.initializer if constant.name in used]
    del graph.initializer[:]
    graph.initializer.extend(initializers)
    free = {"boxes": ["batch", "places", 5], "scores": ["batch", "classes", "places"]}
    graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in free.items()
    )
    standard = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(standard)
    content: bytes = model.SerializeToString()
    return content
