"""A stand-in of a torch.nn.Module: its children, tensors and attributes, each looked up with a message for what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import StartupError
from tools.checkpoints.standins import Instance
from tools.checkpoints.tensors import Tensor


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the network."""

    instance: Instance
    where: str
    """Its place in the network, for messages: "layer 4, cv1"."""

    @property
    def kind(self) -> str:
        """Its class, such as models.common.Conv."""
        return str(self.instance.maker)

    def has(self, name: str) -> bool:
        """Whether it has a child, a tensor or an attribute that is not None.

        Args:
            name: Of the child, tensor or attribute.
        """
        return any(table.get(name) is not None for table in self._tables("_modules", "_parameters", "_buffers")) or (
            self.instance.attributes.get(name) is not None
        )

    def child(self, name: str) -> Module:
        """One of its modules.

        Args:
            name: Its name.

        Raises:
            StartupError: The module is missing.
        """
        [modules] = self._tables("_modules")
        found = modules.get(name)
        if not isinstance(found, Instance):
            raise self.error(f"has no module {name}")
        return Module(found, f"{self.where}, {name}")

    def children(self) -> list[Module]:
        """Its modules in their order, as of a Sequential or a ModuleList."""
        [modules] = self._tables("_modules")
        return [self.child(name) for name in modules]

    def tensor(self, name: str) -> NDArray[np.float32]:
        """A parameter or buffer, or an attribute that is a tensor.

        Args:
            name: Its name.

        Raises:
            StartupError: The tensor is missing, or has values that are not finite.
        """
        tables = [*self._tables("_parameters", "_buffers"), self.instance.attributes]
        found = next((table[name] for table in tables if isinstance(table.get(name), Tensor)), None)
        if found is None:
            raise self.error(f"has no tensor {name}")
        values = found.array().astype(np.float32)
        if not np.isfinite(values).all():
            raise self.error(f"{name} has values that are not finite: the training diverged, or the file is damaged")
        return values

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute that is plain data.

        Args:
            name: Its name.
            default: For a module without it.
        """
        return self.instance.attributes.get(name, default)

    def whole(self, name: str, default: int | None = None) -> int:
        """An attribute that is a whole number.

        Args:
            name: Its name.
            default: For a module without it; None: it must be there.

        Raises:
            StartupError: It is not a whole number from 0 to 65536.
        """
        value = self.get(name, default)
        if type(value) is not int or not 0 <= value <= 1 << 16:
            raise self.error(f"{name}: expected a whole number")
        return value

    def pair(self, name: str) -> tuple[int, int]:
        """An attribute of two numbers, or one for both.

        Args:
            name: Its name.

        Raises:
            StartupError: It is neither.
        """
        value = self.get(name)
        values = (value, value) if type(value) is int else value
        fits = isinstance(values, (tuple, list)) and len(values) == 2 and all(type(v) is int for v in values)
        if not fits or not all(0 <= v <= 1 << 16 for v in values):
            raise self.error(f"{name}: expected one or two whole numbers")
        return values[0], values[1]

    def error(self, problem: str) -> StartupError:
        """The error for this module.

        Args:
            problem: What is wrong with it.
        """
        return StartupError(f"{self.where} ({self.kind}): {problem}")

    def _tables(self, *names: str) -> list[dict[Any, Any]]:
        found = [self.instance.attributes.get(name) for name in names]
        return [table if isinstance(table, dict) else {} for table in found]
