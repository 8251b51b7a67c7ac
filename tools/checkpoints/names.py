"""Which names a checkpoint may hold. None of them is ever imported or called here; but other programs would."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable
from typing import Any

from tools.checkpoints.archive import Content
from tools.checkpoints.standins import Instance, Name
from tools.checkpoints.tensors import STORAGES, TYPES

_SCALARS = (
    "set",
    "frozenset",
    "list",
    "tuple",
    "dict",
    "int",
    "float",
    "complex",
    "bool",
    "bytes",
    "bytearray",
    "slice",
)
_NUMPY = ("scalar", "_reconstruct")
_REBUILDS = ("tensor", "tensor_v2", "tensor_v3", "parameter", "parameter_with_state")

PLAIN_DATA = frozenset(
    {
        *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _SCALARS),
        *("collections.OrderedDict", "collections.defaultdict", "_codecs.encode", "argparse.Namespace"),
        *("copy_reg._reconstructor", "copyreg._reconstructor", "__builtin__.object", "builtins.object"),
        *(f"datetime.{name}" for name in ("datetime", "date", "timedelta", "timezone")),
        *(f"pathlib.{name}" for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path")),
        *(f"pathlib._local.{name}" for name in ("PosixPath", "WindowsPath")),
        *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in _NUMPY),
        *(
            "numpy.dtype",
            "numpy.ndarray",
            "numpy.bool_",
            "numpy.float64",
            "numpy.float32",
            "numpy.int64",
            "numpy.int32",
        ),
        *(
            "torch.Size",
            "torch.device",
            "torch.Tensor",
            "torch.nn.parameter.Parameter",
            "torch.serialization._get_layout",
        ),
        *(f"{module}.{name}" for module in ("torch", "torch.storage") for name in (*STORAGES, "TypedStorage")),
        *(f"torch.{name}" for name in TYPES),
        *(f"torch._utils._rebuild_{name}" for name in _REBUILDS),
    }
)
"""Names of plain data: harmless wherever they are called."""

_ULTRALYTICS = re.compile(
    r"ultralytics\.(yolo\.)?(nn\.modules(\.\w+)?|nn\.tasks|utils|utils\.loss|utils\.tal|data\.augment)\.[A-Z]\w+"
    r"|ultralytics\.(yolo\.)?utils\.loss\.v8\w+Loss|torch\.nn\.modules\.\w+\.[A-Z]\w+"
    r"|torchvision\.transforms\.\w+\.[A-Z]\w+|torch\.nn\.parallel\.\w+\.[A-Z]\w+"
)
_DANGEROUS = re.compile(
    r"torch\.(load|hub|jit|ops|package|utils|classes|multiprocessing|distributed|_dynamo|_inductor)\b.*|numpy\.(testing|f2py|distutils|ctypeslib)\b.*"
    r"|(dill|cloudpickle|joblib\.\w*load\w*|pip|setuptools|pkg_resources|distutils|IPython|requests|urllib3|nt|posix)\b.*"
)
_HARMLESS = re.compile(  # parts of the standard library that networks are saved with; alone they can't do harm
    r"(functools\.partial|math|enum|collections|decimal|fractions|uuid|ipaddress|random|dataclasses|zoneinfo|typing|abc)\b.*"
    r"|types\.SimpleNamespace|re\._compile|operator\.itemgetter|logging\.(Logger|getLogger|RootLogger)"
)
_METHODS = ("forward", "fuseforward", "forward_fuse")


def not_allowed(content: Content, allowed: Collection[str]) -> list[str]:
    """The names in a checkpoint that are neither plain data nor allowed, in the order of their first use.

    Args:
        content: Of the checkpoint.
        allowed: Further names, such as models.common.Conv.
    """
    found = [str(name) for name in content.names if str(name) not in PLAIN_DATA and str(name) not in allowed]
    return _without_lookups(found, content)


def not_of_ultralytics(content: Content) -> list[str]:
    """The names in a checkpoint that Ultralytics' package does not write, in the order of their first use.

    Args:
        content: Of the checkpoint.
    """
    return [name for name in not_allowed(content, ()) if not _ULTRALYTICS.fullmatch(name)]


def dangerous(names: Iterable[str]) -> list[str]:
    """Those of some names that no weights need: functions that run commands, open files, import modules.

    Args:
        names: That are not allowed.
    """
    return [
        name
        for name in names
        if _DANGEROUS.fullmatch(name) or (name.partition(".")[0] in _STANDARD and not _HARMLESS.fullmatch(name))
    ]


def _without_lookups(names: list[str], content: Content) -> list[str]:
    # A class whose attribute is another class's method is written as getattr(Detect, "forward").
    if all(_is_method(arguments) for arguments in content.looked_up):
        return [name for name in names if name not in ("builtins.getattr", "__builtin__.getattr")]
    return names


def _is_method(arguments: tuple[Any, ...]) -> bool:
    return len(arguments) == 2 and isinstance(arguments[0], (Name, Instance)) and arguments[1] in _METHODS


_STANDARD = frozenset(sys.stdlib_module_names) | {"__builtin__", "copy_reg", "commands", "nt", "posix"}
