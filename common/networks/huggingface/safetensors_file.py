"""The header of a .safetensors file, read without torch: which tensors are in it, and whether it is whole.

A file begins with the length of its header (8 bytes, little-endian), then the header, a JSON object, then the tensors' bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from common.errors import StartupError

_LONGEST_HEADER = 100_000_000  # bytes; the library has the same limit


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """What the header says about a tensor."""

    dtype: str
    """Such as F32, BF16 or I64."""
    shape: tuple[int, ...]
    """Its size along each axis."""

    @property
    def is_integer(self) -> bool:
        """Whether its values are whole numbers: a counter or a table of indices, never a weight of a float network."""
        return self.dtype.startswith(("I", "U", "BOOL"))


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file by name, without their values.

    Args:
        path: The .safetensors file.

    Raises:
        StartupError: It is not such a file, or its size is not what the header says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(_LONGEST_HEADER, size - 8):
            raise StartupError(f"{path}: not a .safetensors file, or cut off in its header: {_pointer(path, size)}")
        try:
            content = json.loads(file.read(length))
            entries = {name: entry for name, entry in content.items() if name != "__metadata__"}
            tensors = {
                name: StoredTensor(str(entry["dtype"]), tuple(map(int, entry["shape"])))
                for name, entry in entries.items()
            }
            end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
            raise StartupError(f"{path}: not a .safetensors file: its header can't be read") from error
    if 8 + length + end != size:
        raise StartupError(
            f"{path}: expected {8 + length + end} bytes by its header, got {size}: the file is "
            f"{'cut off' if size < 8 + length + end else 'damaged'}; copy or fetch it again"
        )
    return tensors


def _pointer(path: Path, size: int) -> str:
    """Says so when a file is what git leaves in place of a large file that was not fetched."""
    with path.open("rb") as file:
        if file.read(23) == b"version https://git-lfs":
            return "it is a pointer of git-lfs; run git lfs pull"
    return f"it has {size} bytes"
