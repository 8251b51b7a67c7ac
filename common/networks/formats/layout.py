"""What the outputs of a model file mean: found from its metadata and from the outputs' shapes together.

Several layouts share a shape, and metadata may be missing or may not say enough: a layout is taken only when exactly one
agrees with both. Everything else is refused with what to do about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.errors import StartupError, describe
from common.networks.formats.metadata import TASKS, Metadata

# Name -> what stands in the outputs. N: places of the network's grids, n: detections.
LAYOUTS = {
    "yolov8": "(1, 4 + classes + more, N): centre, size, a score for each class; YOLOv5u, 8, 9, 11, 12, 26",
    "end2end": "(1, n, 6 + more): corners, score, class; YOLOv10, 26, or exported with nms=True",
    "yolov5": "(1, N, 5 + classes + more): centre, size, objectness, a score for each class",
    "yolov7": "as yolov5, but with one class the objectness alone is the score; YOLOv7 --grid, YOLOR",
    "yolov7-end2end": "(n, 7): image, corners, class, score; YOLOv7 --end2end --max-wh",
    "yolor": "(N, classes) scores, then (N, 2) centres and (N, 2) sizes or (N, 4), normalised; YOLOR ONNX_EXPORT",
    "rtdetr": "(1, n, 6) or (1, n, 4 + classes): centre and size, normalised, of the stretched image",
    "mmrotate": "dets (1, n, 6): centre, size, angle, score; labels (1, n)",
    "mmrotate-raw": "boxes (1, N, 5): centre, size, angle; scores (1, classes, N)",
    "classify": "(1, classes) probabilities",
}
_EXPORT = "yolo export model=best.pt format=onnx"
_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """The meaning of a file's outputs.

    name: a key of LAYOUTS. task: one of TASKS. classes: how many, None when the outputs don't tell.
    main: the place of the output with the boxes. prototypes: the place of the masks' prototypes, -1 when there are none.
    extra: values of a detection beside box, score and class: mask coefficients, joints, or the angle.
    joints: (how many, values for each) of a pose.
    found: from what, for the log.
    """

    name: str
    task: str
    classes: int | None
    main: int = 0
    prototypes: int = -1
    extra: int = 0
    joints: tuple[int, int] | None = None
    found: str = field(default="", compare=False)

    @property
    def suppressed(self) -> bool:
        """Whether the detections are final: each object once."""
        return self.name in ("end2end", "yolov7-end2end", "rtdetr", "mmrotate", "classify")

    @property
    def stretched(self) -> bool:
        """Whether the image fills the network's input, without its proportions."""
        return self.name == "rtdetr"

    @property
    def from_mmrotate(self) -> bool:
        return self.name in ("mmrotate", "mmrotate-raw")


@dataclass(frozen=True, slots=True)
class Hints:
    """What is known apart from the file: from options and from the function's labels. None: nothing.

    layout, task: set by hand. likely_task, classes, joints: what the labels suggest, used where the file doesn't say.
    """

    layout: str | None = None
    task: str | None = None
    likely_task: str | None = None
    classes: int | None = None
    joints: int | None = None


def find_layout(
    shapes: Mapping[str, Shape], size_hw: tuple[int, int], metadata: Metadata, hints: Hints | None = None
) -> Layout:
    """The layout of a file whose outputs, in order, have these names and shapes for an input of `size_hw`.

    Raises StartupError, with the export command that would work, when no layout agrees or several do.
    """
    file = _File(shapes, size_hw, metadata, hints or Hints())
    if file.hints.task is not None and file.hints.task not in TASKS:
        raise StartupError(f"TASK: expected one of {', '.join(TASKS)}, got {describe(file.hints.task)}")
    _refuse_unusable(file)
    chosen = file.hints.layout
    if chosen is not None:
        if chosen not in LAYOUTS:
            raise StartupError(f"LAYOUT: expected auto or one of {', '.join(LAYOUTS)}, got {describe(chosen)}")
        candidates = [layout for layout in file.candidates(sure=True) if layout.name == chosen]
        if not candidates:
            raise StartupError(
                f"LAYOUT={chosen} means {LAYOUTS[chosen]}; the file's outputs are {file.outputs}"
                f"{file.class_count_said}: they don't fit"
            )
        return candidates[0]
    candidates = file.candidates(sure=False)
    if len(candidates) == 1:
        return candidates[0]
    known = ", ".join(LAYOUTS)
    if candidates:
        fitting = " or ".join(layout.name for layout in candidates)
        raise StartupError(
            f"the outputs {file.outputs} fit the layouts {fitting}, and the file doesn't say which: set LAYOUT to the right one"
        )
    said = file.contradiction()
    raise StartupError(
        f"the outputs {file.outputs}{file.class_count_said} fit none of the layouts {known}{said}; export it again ({_EXPORT}), "
        "or set LAYOUT and TASK if you know what they are"
    )


class _File:
    def __init__(self, shapes: Mapping[str, Shape], size_hw: tuple[int, int], metadata: Metadata, hints: Hints):
        self.names, self.shapes = list(shapes), list(shapes.values())
        self.size_hw, self.metadata, self.hints = size_hw, metadata, hints
        self.classes = len(metadata.names) if metadata.names else None
        tables = [i for i, shape in enumerate(self.shapes) if len(shape) == 3]
        # Undecoded maps may stand beside the table; of several tables none is the one with everything in it.
        self.main = tables[0] if len(tables) == 1 else -1
        self.prototypes = next((i for i, shape in enumerate(self.shapes) if len(shape) == 4), -1)
        segments = self.main >= 0 and self.prototypes >= 0 and len(self.shapes) == 2
        self.task = hints.task or metadata.task or ("segment" if segments else hints.likely_task)

    @property
    def outputs(self) -> str:
        return ", ".join(f"{name} {shape}" for name, shape in zip(self.names, self.shapes, strict=True))

    @property
    def class_count_said(self) -> str:
        return f" with {self.classes} class names" if self.classes else ""

    def candidates(self, sure: bool) -> list[Layout]:
        """The layouts that agree with shapes and metadata. sure: the layout was named by hand: shapes are enough."""
        if by_name := self._mmrotate():
            return by_name
        found = [
            *self._classify(),
            *self._yolor(),
            *self._rows_of_seven(),
            *self._rtdetr(sure),
            *self._final_rows(sure),
            *self._raw_columns(sure),
            *self._raw_rows(sure),
        ]
        if self.metadata.head == "RTDETRDecoder" and not sure:
            found = [layout for layout in found if layout.name == "rtdetr"]
        return found

    def contradiction(self) -> str:
        told = {"task": self.metadata.task, "end2end": self.metadata.end2end, "head": self.metadata.head}
        texts = [f"{key}={value}" for key, value in told.items() if value is not None]
        return f" that agree with its metadata ({', '.join(texts)})" if texts else ""

    def _make(self, name: str, classes: int | None, extra: int = 0, task: str | None = None, main: int = 0) -> Layout:
        kind = task or self.task or "detect"
        said = [
            f"{key}={value}" for key, value in (("task", self.metadata.task), ("head", self.metadata.head)) if value
        ]
        if self.metadata.end2end is not None:
            said.append(f"end2end={self.metadata.end2end}")
        if self.metadata.names:
            said.append(f"{len(self.metadata.names)} names")
        if self.hints.layout:
            said.append("LAYOUT set by hand")
        return Layout(
            name=name,
            task=kind,
            classes=classes,
            main=main,
            prototypes=self.prototypes if kind == "segment" else -1,
            extra=extra,
            joints=self._joints(extra) if kind == "pose" else None,
            found=f"{', '.join(said) or 'no metadata'}; {self.outputs}",
        )

    def _mmrotate(self) -> list[Layout]:
        if self.names == ["dets", "labels"] and _ends(self.shapes[0], 3, 6) and len(self.shapes[1]) == 2:
            return [self._make("mmrotate", self.classes, task="obb")]
        cut = self.names == ["boxes", "scores"] and _ends(self.shapes[0], 3, 5) and len(self.shapes[1]) == 3
        if cut and self.shapes[1][2] == self.shapes[0][1]:
            return [self._make("mmrotate-raw", self.shapes[1][1], task="obb")]
        return []

    def _classify(self) -> list[Layout]:
        if len(self.shapes) != 1 or len(self.shapes[0]) != 2 or self.task not in ("classify", None):
            return []
        count = self.shapes[0][1]
        if self.task is None and (count == 7 or count < 2):
            return []
        return [self._make("classify", count, task="classify")] if self.classes in (None, count) else []

    def _yolor(self) -> list[Layout]:
        flat = [shape[1:] if len(shape) == 3 and shape[0] == 1 else shape for shape in self.shapes]
        if not all(len(shape) == 2 for shape in flat) or [shape[1] for shape in flat[1:]] not in ([2, 2], [4]):
            return []
        places, count = flat[0]
        if any(shape[0] != places for shape in flat) or self.classes not in (None, count):
            return []
        return [self._make("yolor", count, task="detect")] if self.task in ("detect", None) else []

    def _rows_of_seven(self) -> list[Layout]:
        fits = len(self.shapes) == 1 and len(self.shapes[0]) == 2 and self.shapes[0][1] == 7
        return (
            [self._make("yolov7-end2end", self.classes, task="detect")]
            if fits and self.task in ("detect", None)
            else []
        )

    def _rtdetr(self, sure: bool) -> list[Layout]:
        if self.main < 0 or self.task not in ("detect", None):
            return []
        _, rows, columns = self.shapes[self.main]
        said = self.metadata.head == "RTDETRDecoder"
        if columns == 6 and (said or sure):
            return [self._make("rtdetr", self.classes, main=self.main, task="detect")]
        # Files of older exporters have a score for each class, and don't say what head they have.
        older = self.metadata.head is None and self.metadata.end2end is None and not self.metadata.nms
        older = older and self.classes is not None
        scored = self.classes in (None, columns - 4) and columns > 4 and rows not in self._places(1, 3)
        if scored and (said or sure or older):
            return [self._make("rtdetr", columns - 4, columns - 4, main=self.main, task="detect")]
        return []

    def _final_rows(self, sure: bool) -> list[Layout]:
        if self.main < 0 or self.task == "classify":
            return []
        _, rows, columns = self.shapes[self.main]
        if columns != 6 + (self._extra(columns - 6) or 0):
            return []
        final = self._make("end2end", self.classes, columns - 6, main=self.main)
        metadata = self.metadata
        if sure or metadata.end2end or metadata.nms:
            return [final]
        # Without a word about it, a column for each place of the grids is the network's raw output.
        if rows in self._places(1, 3) or columns in self._places(1):
            return []
        if metadata.names or metadata.task or metadata.end2end is False or columns != 6:
            return [final]
        return [final, self._make("rtdetr", None, main=self.main)]  # both have rows of six

    def _raw_columns(self, sure: bool) -> list[Layout]:
        if self.main < 0 or self.task == "classify" or (self.metadata.end2end is True and not sure):
            return []
        _, rows, columns = self.shapes[self.main]
        count = self._class_count(rows - 4)
        if count is None or (self.classes is None and not sure and columns not in self._places(1)):
            return []
        return [self._make("yolov8", count, rows - 4 - count, main=self.main)]

    def _raw_rows(self, sure: bool) -> list[Layout]:
        # Ultralytics' own package, which writes the task, exports no such layout.
        if self.main < 0 or self.task not in ("detect", "segment", None) or (self.metadata.task and not sure):
            return []
        _, rows, columns = self.shapes[self.main]
        count = self._class_count(columns - 5)
        if count is None or (self.classes is None and not sure and rows not in self._places(3)):
            return []
        extra = columns - 5 - count
        if sure:
            return [self._make(name, count, extra, main=self.main) for name in ("yolov5", "yolov7")]
        # YOLOv5's exporter writes the names; those of YOLOv7 and YOLOR write nothing.
        return [self._make("yolov5" if self.metadata.names else "yolov7", count, extra, main=self.main)]

    def _class_count(self, values: int) -> int | None:
        """How many of so many values are scores of classes; None when it can't be."""
        if self.classes is not None:
            return self.classes if self._extra(values - self.classes) == values - self.classes else None
        if self.task == "pose" and self.hints.classes and self._extra(values - self.hints.classes):
            return self.hints.classes
        extra = {"segment": self._coefficients(), "obb": 1, "pose": None}.get(self.task or "detect", 0)
        return values - extra if extra is not None and values > extra else None

    def _extra(self, left: int) -> int | None:
        """How many values of a detection stand beside box, score and class, by the task; None when it can't be.

        left: as many as there are, for a pose whose number of joints nobody says.
        """
        if self.task == "segment":
            return self._coefficients()
        if self.task == "obb":
            return 1
        if self.task != "pose":
            return 0
        if self.metadata.joints:
            return self.metadata.joints[0] * self.metadata.joints[1]
        if self.hints.joints:
            return left if left in (2 * self.hints.joints, 3 * self.hints.joints) else None
        return left if left > 0 and (left % 3 == 0 or left % 2 == 0) else None

    def _joints(self, extra: int) -> tuple[int, int]:
        if self.metadata.joints:
            return self.metadata.joints
        if self.hints.joints:
            return self.hints.joints, extra // self.hints.joints
        return (extra // 3, 3) if extra % 3 == 0 else (extra // 2, 2)

    def _coefficients(self) -> int | None:
        return self.shapes[self.prototypes][1] if self.prototypes >= 0 else None

    def _places(self, *anchors: int) -> set[int]:
        """Possible numbers of grid places of the whole network, with so many boxes at each."""
        height, width = self.size_hw
        counts = {sum((height // stride) * (width // stride) for stride in strides) for strides in _STRIDES}
        return {count * number for count in counts for number in anchors}


def _ends(shape: Shape, dimensions: int, last: int) -> bool:
    return len(shape) == dimensions and shape[-1] == last


def _refuse_unusable(file: _File) -> None:
    if set(file.names) >= {"num_dets", "det_boxes", "det_scores", "det_classes"}:
        raise StartupError(refused_tensorrt())
    if file.metadata.task not in (None, *TASKS):
        raise StartupError(f"the model's task is {file.metadata.task}; served here: {', '.join(TASKS)}")
    maps = all(len(shape) >= 4 for shape in file.shapes)
    if maps and (len(file.shapes) > 1 or len(file.shapes[0]) == 5):
        raise StartupError(
            f"the outputs {file.outputs} are maps that are not decoded into boxes; export again: "
            f"python export.py --weights best.pt --grid (YOLOv7), python export.py --weights best.pt --include onnx (YOLOv5), "
            f"{_EXPORT} (Ultralytics)"
        )


def refused_tensorrt() -> str:
    """What to tell someone whose file holds an operation that only TensorRT has."""
    return (
        "the model ends in an operation that only TensorRT has (num_dets, det_boxes, ...) and can't run in ONNX Runtime or "
        "OpenVINO; export again: python export.py --weights best.pt --grid --end2end --max-wh 640 (YOLOv7), "
        f"or {_EXPORT} (Ultralytics)"
    )
