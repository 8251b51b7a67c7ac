"""Every layout that a file of the family can have: found from its shapes and metadata, or refused with the remedy."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest

from common.errors import StartupError
from common.networks import formats
from common.networks.engine import Tensor
from common.networks.formats.coco import COCO_CATEGORIES
from common.networks.formats.layout import OutputLayout
from common.networks.formats.metadata import TASKS, DetectionOutput, Metadata
from common.networks.formats.registry import LAYOUTS, find_layout
from common.networks.formats.signature import Dimensions, Hints, Signature
from tools.collection import ROOT

SIZE = (640, 640)
COCO = tuple(f"class {i}" for i in range(80))
TWO = ("cat", "dog")


def ultralytics(task: str, names: tuple[str, ...] = COCO, **more: object) -> Metadata:
    head = {"detect": "Detect", "segment": "Segment", "pose": "Pose", "obb": "OBB", "classify": "Classify"}[task]
    return Metadata(**{"names": names, "task": task, "head": head, "end2end": False} | more)  # type: ignore[arg-type]


Found = tuple[str, str, Dimensions]


def said(name: str, task: str, classes: int | None, **more: object) -> Found:
    return name, task, Dimensions(classes, **more)  # type: ignore[arg-type]


def signature(
    shapes: dict[str, tuple[int, ...]],
    metadata: Metadata = Metadata(),  # noqa: B008
    hints: Hints = Hints(),  # noqa: B008
    size: tuple[int, int] = SIZE,
    dtype: type = np.float32,
) -> Signature:
    image = Tensor("images", (1, 3, *size), np.dtype(np.float32))
    # Class indices, not rfdetr's logits.
    whole = {name for name, shape in shapes.items() if name == "labels" and len(shape) < 3}
    outputs = tuple(
        Tensor(name, shape, np.dtype(np.int64 if name in whole else dtype)) for name, shape in shapes.items()
    )
    return Signature((image,), outputs, size, metadata, hints)


def found(
    shapes: dict[str, tuple[int, ...]],
    metadata: Metadata = Metadata(),  # noqa: B008
    hints: Hints = Hints(),  # noqa: B008
    size: tuple[int, int] = SIZE,
) -> Found:
    layout, dimensions = find_layout(signature(shapes, metadata, hints, size))
    return layout.name, layout.task, dimensions


MASKS = (1, 32, 160, 160)
CASES: dict[str, tuple[dict[str, tuple[int, ...]], Metadata, Found]] = {
    # Ultralytics' own exports, raw.
    "v8 detect": ({"output0": (1, 84, 8400)}, ultralytics("detect"), said("yolov8", "detect", 80)),
    "v8 one class": ({"output0": (1, 5, 8400)}, ultralytics("detect", ("a",)), said("yolov8", "detect", 1)),
    "v8 segment": (
        {"output0": (1, 116, 8400), "output1": MASKS},
        ultralytics("segment"),
        said("yolov8", "segment", 80, masks=1, extra=32),
    ),
    "v8 pose": (
        {"output0": (1, 56, 8400)},
        ultralytics("pose", ("person",), joints=(17, 3)),
        said("yolov8", "pose", 1, extra=51, joints=(17, 3)),
    ),
    "v8 obb": ({"output0": (1, 20, 21504)}, ultralytics("obb", COCO[:15]), said("yolov8", "obb", 15, extra=1)),
    "v8 many classes, few places": (
        {"output0": (1, 1204, 84)},
        ultralytics("detect", tuple(map(str, range(1200)))),
        said("yolov8", "detect", 1200),
    ),
    "classify": (
        {"output0": (1, 1000)},
        ultralytics("classify", tuple(map(str, range(1000)))),
        said("classify", "classify", 1000),
    ),
    # End to end: by the network itself, or by a suppression that the exporter put behind it.
    "v26 detect": ({"output0": (1, 300, 6)}, ultralytics("detect", end2end=True), said("end2end", "detect", 80)),
    "v26 two classes": (
        {"output0": (1, 300, 6)},
        ultralytics("detect", TWO, end2end=True),
        said("end2end", "detect", 2),
    ),
    "v26 segment": (
        {"output0": (1, 300, 38), "output1": MASKS},
        ultralytics("segment", end2end=True),
        said("end2end", "segment", 80, masks=1, extra=32),
    ),
    "v26 pose": (
        {"output0": (1, 300, 57)},
        ultralytics("pose", ("person",), end2end=True, joints=(17, 3)),
        said("end2end", "pose", 1, extra=51, joints=(17, 3)),
    ),
    "v26 obb": (
        {"output0": (1, 300, 7)},
        ultralytics("obb", COCO[:15], end2end=True),
        said("end2end", "obb", 15, extra=1),
    ),
    "nms=True": ({"output0": (1, 300, 6)}, ultralytics("detect", nms=True), said("end2end", "detect", 80)),
    "nms=True, not said": ({"output0": (1, 300, 6)}, ultralytics("detect"), said("end2end", "detect", 80)),
    "nms=True of an older exporter, two classes": (
        {"output0": (1, 300, 6)},
        Metadata(names=TWO, task="detect", nms=True),
        said("end2end", "detect", 2),
    ),
    "v10's own exporter": (
        {"output0": (1, 300, 6)},
        Metadata(names=COCO, task="detect"),
        said("end2end", "detect", 80),
    ),
    # RT-DETR has rows of six too, with another meaning.
    "rtdetr": (
        {"output0": (1, 300, 6)},
        ultralytics("detect", head="RTDETRDecoder"),
        said("rtdetr", "detect", 80),
    ),
    "rtdetr, a score for each class": (
        {"output0": (1, 300, 84)},
        Metadata(names=COCO, task="detect"),
        said("rtdetr", "detect", 80),
    ),
    # YOLOv5 writes names, but no task; YOLOv7 and YOLOR write nothing.
    "v5": ({"output0": (1, 25200, 85)}, Metadata(names=COCO), said("yolov5", "detect", 80)),
    "v5 one class": ({"output0": (1, 25200, 6)}, Metadata(names=("a",)), said("yolov5", "detect", 1)),
    "v5-seg": (
        {"output0": (1, 25200, 117), "output1": MASKS},
        Metadata(names=COCO),
        said("yolov5", "segment", 80, masks=1, extra=32),
    ),
    "v5 with maps": (
        {"output": (1, 25200, 85), "345": (1, 3, 80, 80, 85), "403": (1, 3, 40, 40, 85), "461": (1, 3, 20, 20, 85)},
        Metadata(names=COCO),
        said("yolov5", "detect", 80),
    ),
    "v7 grid": (
        {"output": (1, 25200, 85), "528": (1, 3, 80, 80, 85), "544": (1, 3, 40, 40, 85), "560": (1, 3, 20, 20, 85)},
        Metadata(),
        said("yolov7", "detect", 80),
    ),
    "v7 grid, one class": ({"output": (1, 25200, 6)}, Metadata(), said("yolov7", "detect", 1)),
    "v7 p6": ({"output": (1, 25500, 85)}, Metadata(), said("yolov7", "detect", 80)),
    "v7 end2end": ({"output": (0, 7)}, Metadata(), said("yolov7-end2end", "detect", None)),
    "v7 end2end, one found": ({"output": (1, 7)}, Metadata(), said("yolov7-end2end", "detect", None)),
    "yolor in three": (
        {"classes": (25200, 80), "xy": (25200, 2), "wh": (25200, 2)},
        Metadata(),
        said("yolor", "detect", 80),
    ),
    "yolor in two": ({"classes": (1, 25200, 80), "boxes": (1, 25200, 4)}, Metadata(), said("yolor", "detect", 80)),
    "v8 without metadata": ({"output0": (1, 84, 8400)}, Metadata(), said("yolov8", "detect", 80)),
    "v8-seg without metadata": (
        {"output0": (1, 116, 8400), "output1": MASKS},
        Metadata(),
        said("yolov8", "segment", 80, masks=1, extra=32),
    ),
    "mmrotate": ({"dets": (1, 1999, 6), "labels": (1, 1999)}, Metadata(), said("mmrotate", "obb", None)),
    # Other packages.
    "ssd": ({"detection_out": (1, 1, 200, 7)}, Metadata(), said("ssd", "detect", None, first_class=1)),
    "ssd, its operation found": (
        {"527": (1, 1, 200, 7)},
        Metadata(detection_output=DetectionOutput(3, background_first=False)),
        said("ssd", "detect", 3),
    ),
    "omz": ({"boxes": (100, 5), "labels": (100,)}, Metadata(), said("omz-boxes", "detect", None, parts=(0, 1))),
    "omz, nothing found": (
        {"labels": (0,), "boxes": (0, 5)},
        Metadata(),
        said("omz-boxes", "detect", None, parts=(1, 0)),
    ),
    "mmdeploy": (
        {"dets": (1, 100, 5), "labels": (1, 100)},
        Metadata(),
        said("mmdeploy", "detect", None, parts=(0, 1)),
    ),
    "mmdeploy, masks of boxes": (
        {"dets": (1, 100, 5), "labels": (1, 100), "masks": (1, 100, 28, 28)},
        Metadata(),
        said("mmdeploy", "segment", None, parts=(0, 1), masks=2),
    ),
    "mmdeploy, masks of the input": (
        {"dets": (1, 100, 5), "labels": (1, 100), "masks": (1, 100, 640, 640)},
        Metadata(),
        said("mmdeploy", "segment", None, parts=(0, 1), masks=2),
    ),
    "torchvision": (
        {"boxes": (20, 4), "labels": (20,), "scores": (20,)},
        Metadata(),
        said("torchvision", "detect", None, parts=(0, 1, 2), first_class=1),
    ),
    # Without a word about the kind of network, the number of names tells a softmax, which has a logit more for no object.
    "detr": (
        {"logits": (1, 100, 3), "pred_boxes": (1, 100, 4)},
        Metadata(names=TWO),
        said("detr", "detect", 2, extra=1, parts=(0, 1), most=100),
    ),
    "detr with masks": (
        {"pred_boxes": (1, 100, 4), "logits": (1, 100, 3), "pred_masks": (1, 100, 16, 16)},
        Metadata(names=TWO),
        said("detr", "segment", 2, extra=1, parts=(1, 0), masks=2, most=100),
    ),
    "rt-detr": (
        {"logits": (1, 300, 2), "pred_boxes": (1, 300, 4)},
        Metadata(names=TWO),
        said("detr-sigmoid", "detect", 2, extra=1, parts=(0, 1), most=300),
    ),
    "rfdetr, COCO": (
        {"dets": (1, 300, 4), "labels": (1, 300, 91)},
        Metadata(),
        said("rfdetr", "detect", 91, extra=1, parts=(1, 0), most=300, names=COCO_CATEGORIES),
    ),
    "rfdetr with masks": (
        {"dets": (1, 100, 4), "labels": (1, 100, 4), "4245": (1, 100, 108, 108)},
        Metadata(),
        said("rfdetr", "segment", 4, extra=1, parts=(1, 0), masks=2, most=100),
    ),
    "mmrotate, cut": ({"boxes": (1, 2000, 5), "scores": (1, 15, 2000)}, Metadata(), said("mmrotate-raw", "obb", 15)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_finds(case: tuple[dict[str, tuple[int, ...]], Metadata, Found]) -> None:
    shapes, metadata, expected = case
    size = (64, 64) if (1, 1204, 84) in shapes.values() else (1024, 1024) if (1, 20, 21504) in shapes.values() else SIZE
    size = size if (1, 25500, 85) not in shapes.values() else (640, 640)
    assert found(shapes, metadata, size=size) == expected


def test_labels_say_what_the_file_does_not() -> None:
    assert found({"o": (1, 56, 8400)}, hints=Hints(likely_task="pose", classes=1, joints=17)) == said(
        "yolov8", "pose", 1, extra=51, joints=(17, 3)
    )
    assert found({"o": (1, 20, 8400)}, hints=Hints(task="obb")) == said("yolov8", "obb", 15, extra=1)
    # A column for each place of the grids is raw, though its width could be many joints.
    assert found({"o": (1, 56, 8400)}, hints=Hints(task="pose", classes=1)) == said(
        "yolov8", "pose", 1, extra=51, joints=(17, 3)
    )
    # A label's type is no word about the file: masks may be given as boxes.
    assert found({"o": (1, 117, 8400), "p": MASKS}, hints=Hints(likely_task="detect"))[1] == "segment"


DETR = {"logits": (1, 100, 3), "pred_boxes": (1, 100, 4)}


def test_which_detr_it_is() -> None:
    """Outputs of the same names and shapes mean different things: config.json or the number of names decides, or nobody."""
    for model_type in ("detr", "yolos", "table-transformer"):
        assert found(DETR, hints=Hints(model_type=model_type))[::2] == (
            "detr",
            Dimensions(2, extra=1, parts=(0, 1), most=100),
        )
    for model_type in ("rt_detr", "rt_detr_v2", "d_fine", "deimv2", "rf_detr", "conditional_detr", "deformable_detr"):
        assert found(DETR, hints=Hints(model_type=model_type))[::2] == (
            "detr-sigmoid",
            Dimensions(3, extra=1, parts=(0, 1), most=100),
        )
    # RF-DETR has more logits than classes, and yet no softmax.
    assert found(DETR, hints=Hints(model_type="rf_detr", names=TWO))[0] == "detr-sigmoid"
    assert found(DETR, hints=Hints(layout="detr"))[0] == "detr"
    assert found(DETR, hints=Hints(layout="detr-sigmoid"))[0] == "detr-sigmoid"
    refused = "a DETR exported from transformers, of an unknown kind: put its config.json and preprocessor_config.json"
    for hints in (Hints(), Hints(classes=2), Hints(classes=3), Hints(model_type="new_detr"), Hints(task="detect")):
        with pytest.raises(StartupError, match=refused):
            found(DETR, hints=hints)
    with pytest.raises(StartupError, match=refused):
        found(DETR, Metadata(names=COCO))


def test_what_is_set_by_hand_decides() -> None:
    rows = {"output0": (1, 300, 6)}
    assert found(rows, hints=Hints(layout="end2end")) == said("end2end", "detect", None)
    assert found(rows, hints=Hints(layout="rtdetr")) == said("rtdetr", "detect", None)
    table = {"output0": (1, 25200, 6)}
    assert found(table, Metadata(names=("a",)), Hints(layout="yolov7")) == said("yolov7", "detect", 1)
    assert found(table, hints=Hints(layout="yolov5")) == said("yolov5", "detect", 1)
    # Another number of places than any network of the family has.
    assert found({"output0": (1, 84, 777)}, hints=Hints(layout="yolov8")) == said("yolov8", "detect", 80)
    with pytest.raises(
        StartupError, match=r"LAYOUT=yolov5 means \(1, N, 5 \+ classes \+ more\).*\(1, 84, 8400\).*80 class names"
    ):
        found({"output0": (1, 84, 8400)}, Metadata(names=COCO), Hints(layout="yolov5"))
    with pytest.raises(StartupError, match="LAYOUT: expected auto or one of yolov8, end2end"):
        found(rows, hints=Hints(layout="yolo99"))
    with pytest.raises(StartupError, match="TASK: expected one of detect, segment, pose, obb, classify"):
        found(rows, hints=Hints(task="boxes"))


@pytest.mark.parametrize(
    ("shapes", "metadata", "message"),
    [
        # Undecoded maps, and an operation that only TensorRT has.
        ({"a": (1, 3, 80, 80, 85), "b": (1, 3, 40, 40, 85), "c": (1, 3, 20, 20, 85)}, Metadata(), "export.py .*--grid"),
        ({"a": (1, 255, 80, 80), "b": (1, 255, 40, 40), "c": (1, 255, 20, 20)}, Metadata(), "not decoded into boxes"),
        (
            {"num_dets": (1, 1), "det_boxes": (1, 100, 4), "det_scores": (1, 100), "det_classes": (1, 100)},
            Metadata(),
            "only TensorRT has.*--end2end --max-wh",
        ),
        # Three meanings share rows of six.
        (
            {"output0": (1, 300, 6)},
            Metadata(),
            r"fit the layouts end2end or rtdetr, .* set LAYOUT to the right one \(end2end: \(1, n, 6",
        ),
        ({"output0": (1, 300, 6)}, Metadata(names=TWO, task="detect"), "fit the layouts end2end or rtdetr"),
        # Metadata and shape disagree.
        (
            {"output0": (1, 84, 8400)},
            ultralytics("detect", end2end=True),
            "fit none.*metadata: task=detect, head=Detect, end2end=True, 80 class names",
        ),
        ({"output0": (1, 84, 8400)}, ultralytics("detect", TWO), "fit none.*2 class names"),
        ({"output0": (1, 84, 8400)}, ultralytics("segment"), "fit none"),
        ({"output0": (1, 10)}, ultralytics("classify", TWO), "fit none"),
        ({"output0": (1, 84, 8400)}, ultralytics("detect", head="RTDETRDecoder"), "fit none"),
        # Rows of seven of another network than YOLOv7.
        ({"graph2_flat_predictions": (0, 7)}, Metadata(), "fit none"),
        # Tasks that CVAT has no shapes for, and things that are no detectors.
        ({"output0": (1, 640, 640)}, Metadata(task="semantic"), "task is semantic; served here: detect"),
        ({"embedding": (1, 512)}, Metadata(task="detect", names=COCO), "fit none"),
        ({"output0": (1, 84, 777)}, Metadata(), "fit none.*yolo export model=best.pt format=onnx"),
    ],
)
def test_refuses(shapes: dict[str, tuple[int, ...]], metadata: Metadata, message: str) -> None:
    with pytest.raises(StartupError, match=message):
        found(shapes, metadata)


def test_every_layout_that_is_written_is_listed() -> None:
    written: set[OutputLayout] = set()
    for module in pkgutil.iter_modules(formats.__path__, f"{formats.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            written.update(
                item for item in (value if isinstance(value, tuple) else [value]) if isinstance(item, OutputLayout)
            )
    assert written == set(LAYOUTS) and len(written) == len(LAYOUTS)
    assert {layout.task for layout in LAYOUTS} == set(TASKS)


def test_the_readme_explains_every_layout() -> None:
    text = (ROOT / "serverless/onnx/yolo/README.md").read_text(encoding="utf-8")
    assert all(f"`{layout.name}`" in text for layout in LAYOUTS)


def test_other_outputs_beside_a_table_rule_it_out() -> None:
    with pytest.raises(StartupError, match="fit none"):
        found({"boxes": (1, 84, 8400), "count": (1, 1)}, Metadata(names=COCO))
    with pytest.raises(StartupError, match="fit none"):
        find_layout(signature({"map": (1, 84, 8400)}, Metadata(names=COCO), dtype=np.uint8))


def test_values_decide_between_layouts_of_one_shape() -> None:
    """RT-DETR's older rows with two classes are as wide as final rows, whose class index is a whole number."""
    file = signature({"output0": (1, 300, 6)}, Metadata(names=TWO, task="detect"))
    table = np.full((1, 300, 6), 0.25, np.float32)
    assert find_layout(file, [table])[0].name == "rtdetr"
    table[..., 5] = 1
    with pytest.raises(StartupError, match="fit the layouts end2end or rtdetr"):
        find_layout(file, [table])
