"""Storages and tensors of a checkpoint as numpy arrays; their values are read when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.checkpoints.errors import BadCheckpoint
from tools.checkpoints.standins import Name

TYPES = {
    "float32": "f4",
    "float64": "f8",
    "float16": "f2",
    "bfloat16": "bf16",
    "int64": "i8",
    "int32": "i4",
    "int16": "i2",
    "int8": "i1",
    "uint8": "u1",
    "bool": "?",
}
"""Types of torch, and numpy's for them; it has none for bfloat16."""

STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}
"""Classes of torch's storages, and the type of their values."""


def item_size(dtype: str) -> int:
    """Bytes of a value.

    Args:
        dtype: A key of TYPES.
    """
    return 2 if dtype == "bfloat16" else np.dtype(TYPES[dtype]).itemsize


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """The values that one or several tensors show."""

    dtype: str
    """A key of TYPES."""
    count: int
    """How many values."""
    read: Callable[[], bytes]
    """Reads them."""
    order: str = "<"
    """Of the bytes of a value, as numpy writes it."""

    def array(self, dtype: str) -> NDArray[Any]:
        """All values, one dimension.

        Args:
            dtype: A key of TYPES.

        Raises:
            BadCheckpoint: The file holds fewer.
        """
        content = self.read()
        if len(content) < self.count * item_size(self.dtype):
            raise BadCheckpoint(f"a storage of {self.count} values has {len(content)} bytes: the file is cut off")
        if dtype != "bfloat16":
            return np.frombuffer(content, np.dtype(self.order + TYPES[dtype]))
        # The upper half of a float32.
        return (np.frombuffer(content, np.dtype(self.order + "u2")).astype(np.uint32) << 16).view(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A view of a storage."""

    storage: Storage
    dtype: str
    """A key of TYPES."""
    offset: int
    """Index of the first value."""
    size: tuple[int, ...]
    """Of each dimension."""
    stride: tuple[int, ...]
    """Values between neighbours of each dimension."""

    @property
    def count(self) -> int:
        """How many values."""
        return math.prod(self.size)

    def array(self) -> NDArray[Any]:
        """The values; floating-point ones as float32 unless they are float64.

        Raises:
            BadCheckpoint: The tensor doesn't fit its storage.
        """
        values = self.storage.array(self.dtype)
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.size, self.stride, strict=True))
        # A stride of 0 would make a tensor of any size from one value.
        if self.count and (last >= values.size or self.count > values.size):
            raise BadCheckpoint(f"a tensor of the size {list(self.size)} in a storage of {values.size} values")
        if not self.count:
            return np.zeros(self.size, values.dtype)
        step = values.dtype.itemsize
        view = np.lib.stride_tricks.as_strided(
            values[self.offset :], self.size, [stride * step for stride in self.stride], writeable=False
        )
        return np.ascontiguousarray(view, np.float32 if view.dtype == np.float16 else view.dtype.newbyteorder("="))


def rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """What a checkpoint's call of torch._utils._rebuild_tensor_v2 describes.

    Args:
        storage: A Storage.
        offset: Index of the first value.
        size: Of each dimension.
        stride: Values between neighbours of each dimension.

    Raises:
        BadCheckpoint: The arguments don't describe a tensor.
    """
    if not isinstance(storage, Storage):
        raise BadCheckpoint("a tensor without a storage")
    return _tensor(storage, storage.dtype, offset, size, stride)


def rebuild_tensor_with_type(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> Tensor:
    """What a checkpoint's call of torch._utils._rebuild_tensor_v3 describes: as `rebuild_tensor`, with a type.

    Args:
        storage: A Storage.
        offset: Index of the first value.
        size: Of each dimension.
        stride: Values between neighbours of each dimension.
        dtype: A name such as torch.float32.

    Raises:
        BadCheckpoint: The arguments don't describe a tensor.
    """
    if not isinstance(storage, Storage):
        raise BadCheckpoint("a tensor without a storage")
    if not isinstance(dtype, Name) or dtype.module != "torch" or dtype.name not in TYPES:
        raise BadCheckpoint(f"a tensor of the type {dtype}")
    return _tensor(storage, dtype.name, offset, size, stride)


def _tensor(storage: Storage, dtype: str, offset: Any, size: Any, stride: Any) -> Tensor:
    shapes = isinstance(size, (tuple, list)) and isinstance(stride, (tuple, list)) and len(size) == len(stride) <= 16
    if not shapes or not all(type(value) is int and value >= 0 for value in (offset, *size, *stride)):
        raise BadCheckpoint("a tensor whose size is not a list of numbers")
    return Tensor(storage, dtype, offset, tuple(size), tuple(stride))
