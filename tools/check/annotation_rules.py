"""What CVAT makes of the annotations of a function.yaml: kind, name, labels, and the settings of each kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from common.config import KINDS
from common.errors import describe
from tools.check.consequences import BREAKS_LIST
from tools.check.document import Document
from tools.check.findings import Findings
from tools.check.label_rules import check_spec
from tools.check.values import as_text, mapping, nearest

SAM_ID = "pth-facebookresearch-sam-vit-h"
TRACKED_TYPES = ("rectangle", "ellipse", "polygon", "polyline", "points", "cuboid", "mask", "skeleton")
_FIELD = "metadata.annotations"
_WHOLE = re.compile(r"\s*[+-]?\d+\s*")  # what Python's int() takes
_BOX_FLAGS = ("startswith_box", "startswith_box_optional")
_INTERACTOR = ("min_pos_points", "min_neg_points", *_BOX_FLAGS, "help_message", "animated_gif")
_KIND_OF_KEY = {**dict.fromkeys(_INTERACTOR, "interactor"), "supported_shape_types": "tracker"}
_KNOWN = ("type", "name", "spec", "version", "framework", *_KIND_OF_KEY)


def check_annotations(document: Document, findings: Findings) -> None:
    """All rules of CVAT on `metadata.annotations`."""
    metadata = mapping(document.content.get("metadata"))
    annotations = metadata.get("annotations")
    if not isinstance(annotations, Mapping) or not annotations:
        findings.error(
            "annotations.missing",
            _FIELD,
            expected="an object with type, name and spec",
            got="nothing" if annotations is None else describe(annotations),
            why=f"without annotations {BREAKS_LIST}",
        )
        return
    kind = annotations.get("type")
    if kind not in KINDS:
        findings.error(
            "annotations.type",
            f"{_FIELD}.type",
            expected=", ".join(KINDS),
            got="nothing" if kind is None else describe(kind),
            why="CVAT leaves functions of any other type out of its list",
        )
    if not as_text(annotations.get("name")).strip():
        findings.warn(
            "annotations.name",
            f"{_FIELD}.name",
            expected="a name for the list of models",
            got="nothing" if annotations.get("name") is None else describe(annotations["name"]),
            why="CVAT shows the id in its place, or an empty line",
        )
    _check_keys(annotations, kind, findings)
    _check_whole_numbers(annotations, kind, findings)
    _check_box_flags(annotations, findings)
    check_spec(annotations.get("spec"), kind, document, findings)
    if kind == "interactor":
        _check_interactor(annotations, findings)
    if kind == "tracker":
        _check_shape_types(annotations, findings)
    if metadata.get("name") == SAM_ID:
        _check_sam_id(kind, findings)


def _check_keys(annotations: Mapping[Any, Any], kind: Any, findings: Findings) -> None:
    for key in annotations:
        if key in _KIND_OF_KEY and kind in KINDS and _KIND_OF_KEY[key] != kind:
            findings.warn(
                "annotations.other-kind",
                f"{_FIELD}.{key}",
                expected=f"no such key for a {kind}",
                got=f"{key}, which is for a function of type {_KIND_OF_KEY[key]}",
                why="CVAT takes no notice of it",
            )
        elif key not in _KNOWN and (meant := nearest(str(key), _KNOWN)):
            findings.warn(
                "annotations.unknown-key",
                f"{_FIELD}.{key}",
                expected=meant,
                got=str(key),
                why="CVAT takes no notice of it",
                remedy=f"did you mean {meant}?",
            )


def _check_whole_numbers(annotations: Mapping[Any, Any], kind: Any, findings: Findings) -> None:
    for key in ("version", "min_pos_points", "min_neg_points"):
        if key in annotations and not _WHOLE.fullmatch(as_text(annotations[key])):
            findings.error(
                "annotations.whole-number",
                f"{_FIELD}.{key}",
                expected="a whole number in quotes",
                got=describe(annotations[key]),
                why=BREAKS_LIST,
            )


def _check_box_flags(annotations: Mapping[Any, Any], findings: Findings) -> None:
    for key in _BOX_FLAGS:
        text = as_text(annotations.get(key))
        if text.strip().lower() in ("false", "no", "off", "0", "none", "null"):
            findings.error(
                "annotations.false-is-true",
                f"{_FIELD}.{key}",
                expected=f"no {key} at all",
                got=describe(annotations[key]),
                why="CVAT reads any text that is not empty as true",
                remedy="remove the line",
            )
        elif text and text.strip().lower() != "true":
            findings.warn(
                "annotations.false-is-true",
                f"{_FIELD}.{key}",
                expected='"true", or no such key',
                got=describe(annotations[key]),
                why="CVAT reads any text that is not empty as true",
            )


def _check_interactor(annotations: Mapping[Any, Any], findings: Findings) -> None:
    version = as_text(annotations.get("version")).strip()
    if not version or (_WHOLE.fullmatch(version) and int(version) < 2):
        findings.warn(
            "annotations.version",
            f"{_FIELD}.version",
            expected='"2"',
            got="nothing" if not version else describe(annotations["version"]),
            why="CVAT takes the function for one with the old interface, whose requests and replies differ",
        )
    for key, lowest in (("min_pos_points", 0), ("min_neg_points", -1)):
        text = as_text(annotations.get(key))
        if _WHOLE.fullmatch(text) and int(text) < lowest:
            findings.error(
                "annotations.points",
                f"{_FIELD}.{key}",
                expected=f"{lowest} or more" + (", where -1 means that there are none" if lowest else ""),
                got=describe(annotations[key]),
                why="CVAT's UI waits for that number of points before it calls the function",
            )
    gif = as_text(annotations.get("animated_gif")).strip()
    if gif and not gif.startswith(("https://", "http://", "data:image/")):
        findings.warn(
            "annotations.gif",
            f"{_FIELD}.animated_gif",
            expected="the address of a picture, https://...",
            got=describe(gif),
            why="CVAT's UI shows the picture from that address",
        )


def _check_shape_types(annotations: Mapping[Any, Any], findings: Findings) -> None:
    if "supported_shape_types" not in annotations:
        return
    field, value = f"{_FIELD}.supported_shape_types", annotations["supported_shape_types"]
    types = [name.strip() for name in as_text(value).split(",") if name.strip()]
    if not types:
        findings.error(
            "annotations.shape-types",
            field,
            expected="a list such as rectangle, polygon, or no such key",
            got=describe(value),
            why="CVAT leaves the function out of its list",
        )
    for name in types:
        if name not in TRACKED_TYPES:
            meant = nearest(name, TRACKED_TYPES)
            findings.error(
                "annotations.shape-types",
                field,
                expected=f"some of {', '.join(TRACKED_TYPES)}",
                got=describe(name),
                why="no shape of CVAT has this type, so the function is never called for one",
                remedy=f"did you mean {meant}?" if meant else "",
            )


def _check_sam_id(kind: Any, findings: Findings) -> None:
    why = "CVAT's UI decodes the reply of this id in the browser with SAM ViT-H's decoder, as an embedding"
    if kind != "interactor":
        findings.error(
            "annotations.sam-id", "metadata.name", expected="another name", got=SAM_ID, why=why + ", whatever it is"
        )
    else:
        findings.warn(
            "annotations.sam-id",
            "metadata.name",
            expected='another name, unless the reply is {"blob": ...} made by SAM ViT-H',
            got=SAM_ID,
            why=why,
        )
