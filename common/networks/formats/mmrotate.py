"""What mmdeploy exports of MMRotate's networks: turned boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.networks.engine import Array
from common.networks.formats.detections import Candidates
from common.networks.formats.layout import OutputLayout, Suppression
from common.networks.formats.mmdeploy_pipeline import IMAGENET, read_pipeline
from common.networks.formats.nms import rotated_nms_exact
from common.networks.formats.preparation import Preparation
from common.networks.formats.rotated_graph import cut_rotated_nms
from common.networks.formats.signature import Dimensions, Signature


def _prepare(path: Path) -> Preparation:
    return read_pipeline(path) or IMAGENET  # as all of MMRotate's configurations have it


def _match_final(file: Signature) -> Dimensions | None:
    if file.names != ["dets", "labels"] or [len(shape) for shape in file.shapes] != [3, 2]:
        return None
    return Dimensions(file.classes) if file.shapes[0][2] == 6 else None


def _read_final(outputs: Sequence[Array], dimensions: Dimensions) -> Candidates:
    table = outputs[0][0]
    return Candidates(boxes=table[:, :4], scores=table[:, 5], classes=outputs[1][0], angles=table[:, 4])


FINAL = OutputLayout(
    name="mmrotate",
    task="obb",
    outputs="dets (1, n, 6): centre, size, angle, score; labels (1, n)",
    match=_match_final,
    read=_read_final,
    preparation=IMAGENET,
    prepare_for=_prepare,
)


def _match_raw(file: Signature) -> Dimensions | None:
    if file.names != ["boxes", "scores"] or [len(shape) for shape in file.shapes] != [3, 3]:
        return None
    (_, places, columns), (_, classes, scored) = file.shapes
    return Dimensions(classes) if columns == 5 and scored == places else None


def _read_raw(outputs: Sequence[Array], dimensions: Dimensions) -> Candidates:
    table = outputs[0][0]
    return Candidates(boxes=table[:, :4], scores=outputs[1][0].T, angles=table[:, 4])


RAW = OutputLayout(
    name="mmrotate-raw",
    task="obb",
    outputs="boxes (1, N, 5): centre, size, angle; scores (1, classes, N)",
    match=_match_raw,
    read=_read_raw,
    multiple_classes=True,
    lowest_score=0.05,  # mmdeploy's own, before its suppression
    suppression=Suppression(rotated_nms_exact, iou=0.1),
    preparation=IMAGENET,
    prepare_for=_prepare,
    rewrite=cut_rotated_nms,
)
