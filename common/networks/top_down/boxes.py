"""Which of a detector's classes have a pose, and the label of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.cvat.labels import Label, Labels
from common.errors import StartupError, describe, listed
from common.networks.results import loose_name

_USUAL = "person"


def labels_of_classes(
    labels: Labels, names: Sequence[str] | None, wanted: str | None, first_class: int = 0
) -> Mapping[int, Label]:
    """The classes whose boxes get a pose, and the label of that pose.

    Each label takes the class of its own name. If the function has a single label, it takes the wanted classes; without any,
    and without a class of its name, `person` or the detector's only class; of a detector without class names, the first class.

    Args:
        labels: The function's labels.
        names: The names of the detector's classes, from the first one on; None if it has no names.
        wanted: The option DETECTOR_CLASSES: names or indices separated by commas; None or "" if it is not set.
        first_class: The index of the detector's first class: 1 where 0 is the background.

    Returns:
        Class index -> label.

    Raises:
        StartupError: There are no such classes, or it is not certain which are meant.
    """
    if not labels:
        raise StartupError("expected a label of type skeleton in function.yaml, got no labels")
    single = next(iter(labels.values())) if len(labels) == 1 else None
    if wanted and wanted.strip():
        if single is None:
            raise StartupError(
                "DETECTOR_CLASSES: for a function with one label; each of several takes the class of its name"
            )
        return {_index(part.strip(), names, first_class): single for part in wanted.split(",") if part.strip()}
    if names is None:
        if single is None:
            raise StartupError(
                f"the detector's classes have no names: expected one label, got {listed(list(labels), 4)}"
            )
        return {first_class: single}
    by_name = _indices(names, first_class)
    found = {by_name[loose_name(label.name)]: label for label in labels.values() if loose_name(label.name) in by_name}
    if single is not None and not found:
        if _USUAL in by_name or len(names) == 1:
            return {by_name.get(_USUAL, first_class): single}
        wanted = single.name if loose_name(single.name) == _USUAL else f"{single.name} or {_USUAL}"
        raise StartupError(
            f"the detector has no class {wanted}; its {len(names)} classes: {listed(list(names), 6)}. Set "
            "DETECTOR_CLASSES to those whose boxes get a pose"
        )
    if missing := [label.name for label in labels.values() if label not in found.values()]:
        raise StartupError(
            f"the detector has no class for the labels {listed(missing, 4)}; its {len(names)} classes: {listed(list(names), 6)}"
        )
    return found


def _indices(names: Sequence[str], first_class: int) -> dict[str, int]:
    """Class indices by loose name; of classes with the same name the first."""
    return {loose_name(name): index for index, name in reversed(list(enumerate(names, first_class)))}


def _index(part: str, names: Sequence[str] | None, first_class: int) -> int:
    by_name = _indices(names or (), first_class)
    if loose_name(part) in by_name:
        return by_name[loose_name(part)]
    if part.isdecimal() and (names is None or first_class <= int(part) < first_class + len(names)):
        return int(part)
    classes = f"one of its {len(names)} classes ({listed(list(names), 6)})" if names else "indices of classes"
    raise StartupError(f"DETECTOR_CLASSES: expected {classes}, got {describe(part)}")
