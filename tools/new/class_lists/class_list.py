"""The names of classes, in order or by the ids that a file gives them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from common.errors import StartupError, listed

_BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class ClassList:
    """Names of classes, as the user gives them."""

    names: tuple[str, ...]
    """At least one; those with ids in the order of the ids."""
    ids: tuple[int, ...] | None = None
    """The id of each name, ascending and 0 or more; None where the order says it all."""
    source: str = "LABELS"
    """What the names come from, for messages."""

    @property
    def in_order(self) -> bool:
        """Whether the first name is that of class 0, the second that of class 1, and so on."""
        return self.ids is None or self.ids == tuple(range(len(self.names)))

    def for_model(self, classes: int | None, first: int = 0) -> dict[int, str]:
        """The names by the class indices of a model.

        Ids that begin at 1 or have gaps, as COCO's do, are taken as class indices if the model has so many classes (the
        others stay without a name), and as an order if it has as many classes as there are names.

        Args:
            classes: How many the model has, without the background; None where its outputs don't tell.
            first: The index of the first: 1 where 0 is the background, which lists may have as their first name.

        Raises:
            StartupError: The list isn't one of a model with so many classes.
        """
        if first == 1 and self.in_order and len(self.names) > 1 and self.names[0].strip("_").casefold() == _BACKGROUND:
            return ClassList(self.names[1:], source=self.source).for_model(classes, first)
        repeated = [name for name, count in Counter(self.names).items() if count > 1]
        # Published lists, such as ImageNet's, have some twice; only the model can tell them from a slip of the pen.
        if repeated and (classes is None or self.source == "LABELS"):
            raise StartupError(f"{self.source}: {listed(repeated, 6)} is listed more than once")
        if classes is None:
            if first == 1 and self.ids is not None and self.ids[0] > 0:
                return dict(zip(self.ids, self.names, strict=True))
            if not self.in_order:
                raise StartupError(
                    f"{self.source}: the ids {self._written_ids()} are not 0 to {len(self.names) - 1}, and the model doesn't say "
                    "how many classes it has: list the names in the model's order, from class 0, one on each line"
                )
            return dict(enumerate(self.names, first))
        if len(self.names) == classes:
            return dict(enumerate(self.names, first))
        if self.ids is not None and not self.in_order and first <= self.ids[0] and self.ids[-1] < classes + first:
            return dict(zip(self.ids, self.names, strict=True))
        ids = "" if self.in_order else f" with the ids {self._written_ids()}"
        raise StartupError(
            f"{self.source}: the model has {classes} class{'' if classes == 1 else 'es'}, got {len(self.names)} "
            f"name{'' if len(self.names) == 1 else 's'}{ids}"
        )

    def _written_ids(self) -> str:
        return f"{self.ids[0]} to {self.ids[-1]}" if self.ids else ""
