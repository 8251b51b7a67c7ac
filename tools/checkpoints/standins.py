"""What a pickle names, as inert values: nothing here is ever called."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that a pickle refers to."""

    module: str
    """Such as torch.nn.modules.conv."""
    name: str
    """Such as Conv2d."""

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Instance:
    """An object that a pickle describes: what makes it, and its state."""

    maker: Name
    """The class, or the function that would have been called."""
    arguments: tuple[Any, ...] = ()
    """What the maker would have been given."""
    state: Any = None
    """Usually the object's attributes by name."""
    items: list[Any] = field(default_factory=list)
    """What was appended, for subclasses of list; (key, value) for subclasses of dict."""

    @property
    def attributes(self) -> dict[Any, Any]:
        """The object's attributes by name; none when its state is something else."""
        return self.state if isinstance(self.state, dict) else {}
