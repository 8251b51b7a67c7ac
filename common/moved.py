"""Modules that have moved: their old names still work and say once what they are called now.

Functions that people wrote against an earlier layout import `common.nuclio` or `common.mask`. Such an import gives the
module of today, the same object that its new name gives, with a DeprecationWarning that names it.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from types import CodeType, ModuleType

_ROOMS = {
    "cvat": "annotation conform labels reply request skeleton",
    "vision": "image letterbox mask matching tiling",
    "networks": "engine loader runtime sam torchvision weights",
    "serving": "compression embedding_cache kinds log native nuclio options stages state store",
}
MOVED = {
    f"common.{module}": f"common.{room}.{module}" for room, names in _ROOMS.items() for module in names.split()
} | {
    "common.yolo": "common.networks.formats",
    "common.yolo.found": "common.networks.results",
    "common.yolo.handler": "common.networks.exported.handler",
    "common.yolo.model": "common.networks.exported.model",
}


def new_name(name: str) -> str | None:
    """What a module is called now.

    Args:
        name: Its full name, such as "common.yolo.handler".

    Returns:
        The full name of today, or None for a module that has not moved.
    """
    if name in MOVED:
        return MOVED[name]
    package, _, module = name.rpartition(".")
    new_package = new_name(package) if package else None
    return None if new_package is None else f"{new_package}.{module}"


def install() -> None:
    """Makes `import` find moved modules by their old names, in this process."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Moved())


class _Moved(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules by their old names and gives them under these.

    It comes first among the finders: a submodule of a moved package would otherwise be loaded a second time, from its file.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        new = new_name(fullname)
        return None if new is None else importlib.machinery.ModuleSpec(fullname, self, origin=new)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(str(spec.origin))
        spec.loader_state = module.__spec__
        warnings.warn(f"{spec.name} is now {spec.origin}", DeprecationWarning, stacklevel=2)
        return module

    def get_code(self, name: str) -> CodeType | None:
        """The code that `python -m` runs under the old name."""
        new = str(new_name(name))
        loader = importlib.util.find_spec(new).loader  # type: ignore[union-attr]
        return loader.get_code(new)  # type: ignore[union-attr]

    def exec_module(self, module: ModuleType) -> None:
        # The import system has put the spec of the old name in the place of the module's own.
        module.__spec__ = module.__spec__.loader_state  # type: ignore[union-attr]
