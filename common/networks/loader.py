"""Finds the `ModelHandler` of a function's directory, under a module name of its own.

Several functions can be loaded in one process this way, though each has a module called model_handler.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path

from common.errors import StartupError


def load_handler_class(directory: str | Path) -> type:
    """The class ModelHandler of a function.

    Args:
        directory: The function's directory, with its `model_handler.py`.

    Raises:
        StartupError: The file, or the class in it, is missing.
    """
    path = Path(directory).resolve() / "model_handler.py"
    name = f"model_handler_{hashlib.blake2b(str(path).encode(), digest_size=6).hexdigest()}"
    module = sys.modules.get(name)
    if module is None:
        if not path.is_file():
            raise StartupError(f"{path}: no such file")
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise StartupError(f"{path}: not a Python module")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    handler_class = getattr(module, "ModelHandler", None)
    if not isinstance(handler_class, type):
        raise StartupError(f"{path}: expected a class named ModelHandler")
    return handler_class
