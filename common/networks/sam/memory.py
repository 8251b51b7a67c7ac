"""What a video model remembers of an object in a frame, as bytes: a map of features, and a pointer."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

PRECISIONS = ("f32", "bf16", "int8")
_LEVEL = 1  # of deflate: a higher one gains next to nothing on numbers like these
_F32, _BF16, _INT8 = b"F", b"B", b"I"


def pack_memory(memory: NDArray[np.float32], precision: str) -> bytes:
    """A map of features as bytes.

    Args:
        memory: (N, 1, C) float32.
        precision: "f32" keeps all of it, "bf16" the upper half of each number, rounded; "int8" rounds each channel to 255 steps of
            its own size.
    """
    if precision == "int8":
        channels = memory.reshape(-1, memory.shape[-1])
        steps = np.maximum(np.abs(channels).max(axis=0) / 127, np.finfo(np.float32).tiny).astype(np.float32)
        values = np.rint(channels / steps).astype(np.int8)
        # Channel by channel: neighbours in the image are alike.
        return _INT8 + steps.tobytes() + zlib.compress(values.T.tobytes(), _LEVEL)
    bits = np.ascontiguousarray(memory, np.float32).reshape(-1).view(np.uint32)
    if precision == "f32":
        return _F32 + _planes(bits, (24, 16, 8, 0))
    # To the nearest, to the even one of two; the highest of all numbers would overflow, and no memory has it.
    return _BF16 + _planes(bits + 0x7FFF + ((bits >> 16) & 1), (24, 16))


def unpack_memory(data: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The inverse of `pack_memory`.

    Args:
        data: What it returned.
        shape: (N, 1, C) of the map.

    Returns:
        float32 of that shape.

    Raises:
        ValueError: It did not return these bytes.
    """
    count, channels = int(np.prod(shape)), shape[-1]
    if data[:1] in (_F32, _BF16):
        shifts = (24, 16, 8, 0) if data[:1] == _F32 else (24, 16)
        planes = np.frombuffer(_inflate(data[1:], len(shifts) * count), np.uint8).reshape(-1, count)
        bits = np.zeros(count, np.uint32)
        for plane, shift in zip(planes, shifts, strict=True):
            bits |= plane.astype(np.uint32) << shift
        return bits.view(np.float32).reshape(shape)
    if data[:1] == _INT8 and len(data) > 1 + 4 * channels:
        steps = np.frombuffer(data[1 : 1 + 4 * channels], np.float32)
        values = np.frombuffer(_inflate(data[1 + 4 * channels :], count), np.int8).reshape(channels, -1).T
        return (values * steps).reshape(shape)
    raise ValueError("expected a memory of a frame, got something else")


def pack_pointer(pointer: NDArray[np.float32]) -> bytes:
    """A pointer as bytes, exactly: it is small.

    Args:
        pointer: float32 of any shape.
    """
    return pointer.astype("<f4").tobytes()


def unpack_pointer(data: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The inverse of `pack_pointer`.

    Args:
        data: What it returned.
        shape: Of the pointer.

    Returns:
        float32 of that shape.

    Raises:
        ValueError: The size is another one.
    """
    return np.frombuffer(data, "<f4").reshape(shape).copy()


def _planes(bits: NDArray[np.uint32], shifts: tuple[int, ...]) -> bytes:
    """All first bytes, then all second ones, ...: signs and exponents are similar, so they deflate well."""
    planes = np.stack([(bits >> shift) & 0xFF for shift in shifts]).astype(np.uint8)
    return zlib.compress(planes.tobytes(), _LEVEL)


def _inflate(data: bytes, size: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError(f"the memory of a frame is damaged: {error}") from error
    if len(raw) != size:
        raise ValueError(f"the memory of a frame has {len(raw)} bytes or more, expected {size}")
    return raw
