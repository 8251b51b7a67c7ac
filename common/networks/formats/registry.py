"""All output layouts, and which one a file has: exactly one must match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from common.errors import StartupError
from common.networks.engine import Array
from common.networks.formats import (
    detr,
    mmdeploy,
    mmrotate,
    omz,
    ssd,
    top_down,
    torchvision_export,
    ultralytics,
    wongkinyiu,
    yolov5,
)
from common.networks.formats.layout import OutputLayout
from common.networks.formats.metadata import TASKS
from common.networks.formats.signature import Dimensions, Signature

LAYOUTS = (
    *ultralytics.RAW,
    *ultralytics.END2END,
    *yolov5.ROWS,
    *wongkinyiu.ROWS,
    wongkinyiu.END2END,
    wongkinyiu.YOLOR,
    ultralytics.RTDETR,
    ultralytics.RTDETR_OLDER,
    mmrotate.FINAL,
    mmrotate.RAW,
    *mmdeploy.LAYOUTS,
    ssd.SSD,
    ssd.SSD_WITH_SIZE,
    omz.BOXES,
    omz.MASK_RCNN,
    *torchvision_export.LAYOUTS,
    *detr.LAYOUTS,
    ultralytics.CLASSIFY,
    yolov5.CLASSIFY,
)
UNREADABLE = (wongkinyiu.TENSORRT, wongkinyiu.UNDECODED_MAPS, detr.UNCERTAIN, top_down.ROWS, top_down.HEATMAPS)


def find_layout(
    file: Signature, outputs: Sequence[Array] | None = None, layouts: Sequence[OutputLayout] = LAYOUTS
) -> tuple[OutputLayout, Dimensions]:
    """The layout of a file's outputs.

    Args:
        file: What the file shows, and what is set by hand.
        outputs: What the network answered to an example, in the file's order: its values have to agree as well. None: only
            names, shapes and metadata are looked at.
        layouts: Those to choose from.

    Returns:
        The layout and the file's dimensions in it.

    Raises:
        StartupError: No layout matches, or several do; with what was seen and what to do.
    """
    hints = file.hints
    names = list(dict.fromkeys(layout.name for layout in layouts))
    StartupError.check(hints.task in (None, *TASKS), "TASK", f"one of {', '.join(TASKS)}", hints.task)
    known = hints.layout in (None, *names)
    StartupError.check(known, "LAYOUT", f"auto or one of {', '.join(names)}", hints.layout)
    for unreadable in UNREADABLE:
        if unreadable.match(file):
            raise StartupError(f"{unreadable.remedy}. Seen: {file}")
    if file.metadata.task not in (None, *TASKS):
        raise StartupError(f"the model's task is {file.metadata.task}; served here: {', '.join(TASKS)}")
    chosen = hints.layout or (file.metadata.layout if file.metadata.layout in names else None)
    wanted = [layout for layout in layouts if chosen in (None, layout.name)]
    fitting = [(layout, dimensions) for layout in wanted if (dimensions := _match(layout, file)) is not None]
    problems = [
        None if outputs is None else _problem(layout, dimensions, file, outputs) for layout, dimensions in fitting
    ]
    found = [fit for fit, problem in zip(fitting, problems, strict=True) if problem is None]
    if len(found) == 1 or (found and file.by_hand):
        return found[0]
    if found:
        meanings = {layout.name: layout.outputs for layout, _ in found}
        raise StartupError(
            f"the outputs fit the layouts {' or '.join(meanings)}, and the file doesn't say which: set LAYOUT to the right one "
            f"({'; '.join(f'{name}: {meaning}' for name, meaning in meanings.items())}). Seen: {file}"
        )
    if fitting:
        (layout, _), problem = fitting[0], problems[0]
        raise StartupError(
            f"the outputs have the shapes of the layout {layout.name} ({layout.outputs}), but for an example image "
            f"{problem}. Seen: {file}"
        )
    if hints.layout is not None:
        expected = next(layout.outputs for layout in wanted)
        raise StartupError(f"LAYOUT={hints.layout} means {expected}; the file's outputs don't fit. Seen: {file}")
    task = f" with TASK={hints.task}" if hints.task else ""
    vector = len(file.outputs) == 1 and len(file.outputs[0].shape) == 2
    other = "; one that describes a picture by a vector needs another KIND (docs/new.md)" if vector else ""
    raise StartupError(
        f"the outputs fit none of the layouts known here{task}. Seen: {file}. Export a YOLO model again (yolo export "
        "model=best.pt format=onnx); another model needs a handler of its own (make new NAME=<name> KIND=detector)"
        f"{other}. If you know what the outputs are, set TASK and LAYOUT: {', '.join(_possible(file, outputs, layouts) or names)}"
    )


def _possible(file: Signature, outputs: Sequence[Array] | None, layouts: Sequence[OutputLayout]) -> list[str]:
    """The names of the layouts that a file could have by its shapes and values, if LAYOUT said so."""
    found = []
    for layout in layouts:
        by_hand = replace(file, hints=replace(file.hints, layout=layout.name))
        dimensions = _match(layout, by_hand)
        if dimensions is not None and (outputs is None or _problem(layout, dimensions, by_hand, outputs) is None):
            found.append(layout.name)
    return list(dict.fromkeys(found))


def _match(layout: OutputLayout, file: Signature) -> Dimensions | None:
    known = set(layout.further_inputs)
    fits = known - layout.optional_inputs <= file.further_inputs <= known
    return layout.match(file) if fits else None


def _problem(
    layout: OutputLayout, dimensions: Dimensions, file: Signature, outputs: Sequence[Array]
) -> StartupError | None:
    try:
        named = None if file.classes is None else file.classes + dimensions.first_class
        layout.read(outputs, dimensions).check(
            dimensions.classes if named is None else named,
            normalised=layout.normalised,
            distribution=layout.distribution and not file.by_hand,
        )
    except StartupError as error:
        return error
    return None
