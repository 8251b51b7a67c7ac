"""Small functions of each kind, written to a directory: real files, found and loaded as Nuclio's wrapper would."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tools.collection import ROOT

# What is brighter than half of the range counts as the object, in all of them.
DETECTOR = """
    import numpy as np
    from common.shapes import Rectangle

    class ModelHandler:
        def __init__(self, config, *, margin: int = 0):
            self.margin = margin

        def infer(self, image, threshold):
            y, x = np.nonzero(image.mean(axis=2) > 127)
            if not len(y) or threshold > 0.8:
                return []
            box = (x.min() - self.margin, y.min() - self.margin, x.max() + 1 + self.margin, y.max() + 1 + self.margin)
            return [Rectangle(label="bright", box_xyxy=box, score=0.8, attributes={"text": "hell Ü"})]
"""
INTERACTOR = """
    import numpy as np

    class ModelHandler:
        def __init__(self, config):
            pass

        def embed(self, image):
            return image.mean(axis=2) > 127

        def segment(self, embedding, prompt):
            mask = embedding.copy()
            for x, y in prompt.neg_points_xy:
                mask[int(y)] = False
            if prompt.box_xyxy is not None:
                left, top, right, bottom = (int(v) for v in prompt.box_xyxy)
                inside = np.zeros_like(mask)
                inside[top:bottom, left:right] = True
                mask &= inside
            return mask
"""
TRACKER = """
    import numpy as np
    from common.errors import BadState
    from common.shapes import Mask, Rectangle

    class ModelHandler:
        def __init__(self, config):
            pass

        def prepare(self, image):
            return image.mean(axis=2) > 127

        def start(self, frame, shape):
            return {"type": shape.type, "frames": 1}

        def track(self, frame, state):
            if set(state) != {"type", "frames"}:
                raise BadState("expected a state with type and frames")
            state["frames"] += 1
            if not frame.any():
                return None, state
            mask = Mask.from_full(frame)
            return mask if state["type"] == "mask" else Rectangle(box_xyxy=mask.box_xyxy), state
"""
REID = """
    import numpy as np

    class ModelHandler:
        def __init__(self, config):
            pass

        def embed(self, image, boxes_xyxy):
            colours = [image[int(t) : int(b), int(l) : int(r)].mean(axis=(0, 1)) for l, t, r, b in boxes_xyxy]
            return np.array(colours, np.float32)
"""
HANDLERS = {"detector": DETECTOR, "interactor": INTERACTOR, "tracker": TRACKER, "reid": REID}
LABELS = [
    {"name": "bright", "type": "rectangle", "attributes": [{"name": "text", "input_type": "text", "values": [""]}]},
    {"name": "mask", "type": "mask"},
]


def write_function(
    directory: Path,
    kind: str = "detector",
    handler: str | None = None,
    *,
    labels: Sequence[Mapping[str, Any]] = LABELS,
    annotations: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    workers: int = 1,
) -> Path:
    """A function's directory with the collection's own main.py; `handler` is the text of its model_handler.py."""
    directory.mkdir(parents=True, exist_ok=True)
    spec = json.dumps(labels) if kind == "detector" else ""
    content = {
        "metadata": {
            "name": f"test-{kind}",
            "namespace": "cvat",
            "annotations": {"name": f"A {kind}", "type": kind, "spec": spec, **(annotations or {})},
        },
        "spec": {
            "description": f"A {kind} of the tests",
            "runtime": "python:3.11",
            "handler": "main:handler",
            "env": [{"name": name, "value": value} for name, value in (env or {}).items()],
            "triggers": {"myHttpTrigger": {"kind": "http", "numWorkers": workers}},
        },
    }
    (directory / "function.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    main = ROOT / "serverless/opencv/grabcut/main.py"
    (directory / "main.py").write_bytes(main.read_bytes())
    (directory / "model_handler.py").write_text(textwrap.dedent(handler or HANDLERS[kind]), encoding="utf-8")
    return directory
