"""torch's file formats: a zip archive since 1.6, several pickles in a row before, and plain pickles."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from tools.checkpoints.errors import BadCheckpoint
from tools.checkpoints.standins import Name
from tools.checkpoints.tensors import STORAGES, Storage, item_size
from tools.checkpoints.unpickler import Unpickler

LARGEST_PICKLE = 64 << 20  # bytes, without the tensors' values; a detector's has some 0.3 MB
_MOST_ENTRIES = 100_000
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


@dataclass(slots=True)
class Content:
    """What a checkpoint holds."""

    value: Any = None
    """Usually a dictionary; of stand-ins (`standins`) and Tensors, whose values can be read while the file is open."""
    names: list[Name] = field(default_factory=list)
    """Everything that the file names, in the order of its first use."""
    looked_up: list[tuple[Any, ...]] = field(default_factory=list)
    """The arguments of each call of getattr."""
    problem: str = ""
    """Why the value could not be read; then `names` has those that were seen so far."""

    def unpickle(self, unpickler: Unpickler, pickles: int = 1) -> list[Any]:
        """Reads pickles, and takes over what they name, also when one of them is damaged.

        Args:
            unpickler: At the first of them.
            pickles: How many.

        Returns:
            Their values.

        Raises:
            BadCheckpoint: One of them is damaged.
        """
        try:
            return [unpickler.load() for _ in range(pickles)]
        finally:
            self.names, self.looked_up = list(unpickler.names), unpickler.looked_up


@contextmanager
def opened(path: Path) -> Iterator[Content]:
    """A checkpoint, open.

    Args:
        path: The file.

    Raises:
        OSError: The file can't be read.
    """
    content = Content()
    with path.open("rb") as file:
        archive = None
        try:
            if zipped := file.read(4) == b"PK\x03\x04":
                archive = zipfile.ZipFile(file)
            (_read_zip if zipped else _read_pickles)(archive or file, content)
        except BadCheckpoint as error:
            content.problem = str(error)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, UnicodeError) as error:
            content.problem = f"the file is damaged or cut off: {error}"
        yield content


def is_torchscript(names: Sequence[str]) -> bool:
    """Whether a zip archive is a TorchScript program.

    Args:
        names: Of the archive's entries.
    """
    inside = {PurePosixPath(name).parts[1:] for name in names}
    return ("data.pkl",) in inside and ("constants.pkl",) in inside and any(parts[:1] == ("code",) for parts in inside)


class _ZipStorages:
    """The storages in a zip archive."""

    def __init__(self, archive: zipfile.ZipFile):
        self._archive = archive
        self._entries = {entry.filename: entry for entry in archive.infolist()}
        self._check_names()
        pickles = [name for name in self._entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise BadCheckpoint("a zip archive without torch's data.pkl")
        self._folder = pickles[0].removesuffix("data.pkl")
        assert archive.fp is not None
        self._file_size = archive.fp.seek(0, 2)
        self._left = self._file_size  # bytes to read; entries that overlap could hold far more than the file
        self._counted: set[str] = set()
        byteorder = f"{self._folder}byteorder"
        self._order = ">" if byteorder in self._entries and self._read(byteorder, 16) == b"big" else "<"
        self._stored: dict[str, Storage] = {}

    def pickle(self) -> bytes:
        """The pickle that refers to the storages."""
        return self._read(f"{self._folder}data.pkl", LARGEST_PICKLE)

    def find(self, key: Any) -> Storage:
        """The storage of a persistent id.

        Args:
            key: ("storage", class, name, location, count).
        """
        dtype, name, count, _ = _parts(key)
        if name not in self._stored:
            read = partial(self._read, f"{self._folder}data/{name}", count * item_size(dtype))
            self._stored[name] = Storage(dtype, count, read, self._order)
        return self._stored[name]

    def _check_names(self) -> None:
        if len(self._entries) > _MOST_ENTRIES:
            raise BadCheckpoint(f"a zip archive of {len(self._entries)} entries")
        for name in self._entries:
            if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts:
                raise BadCheckpoint(f"a zip archive with an entry outside of it: {name[:80]!r}")
        # torch reads the folder of the first entry, and finds names in either case: it must not see another pickle than this one.
        names = [entry.filename.lower() for entry in self._archive.infolist()]
        if len(set(names)) < len(names) or len({name.partition("/")[0] for name in names}) > 1:
            raise BadCheckpoint(
                "a zip archive with several folders, or with a name in it twice, which torch never writes"
            )
        # With bytes before the archive, torch takes the entries from other places than zipfile does.
        if min((entry.header_offset for entry in self._archive.infolist()), default=0) > 0 or self._archive.comment:
            raise BadCheckpoint("a zip archive with further bytes before or after it, which torch never writes")

    def _read(self, name: str, most: int) -> bytes:
        entry = self._entries.get(name)
        if entry is None:
            raise BadCheckpoint(f"the file is damaged or cut off: the archive has no {name[:80]!r}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise BadCheckpoint(
                f"{name[:80]!r} is compressed or encrypted, which torch never does: it was packed again"
            )
        if entry.file_size != entry.compress_size or entry.header_offset + entry.file_size > self._file_size:
            raise BadCheckpoint(f"the file is damaged or cut off: {name[:80]!r} is larger than the file")
        if entry.file_size > most:
            raise BadCheckpoint(f"{name[:80]!r} has {entry.file_size:,} bytes, expected {most:,} at most")
        if name not in self._counted:
            self._counted.add(name)
            self._left -= entry.file_size
        if self._left < 0:
            raise BadCheckpoint("the entries of the archive overlap: together they are larger than the file")
        try:
            return self._archive.read(entry)
        except (zipfile.BadZipFile, EOFError) as error:
            raise BadCheckpoint(f"the file is damaged or cut off: {error}") from error


class _PickleStorages:
    """The storages behind the pickles of the older format."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._stored: dict[str, Storage] = {}
        self._places: dict[str, int] = {}
        self._order = "<"

    def find(self, key: Any) -> Any:
        """What a persistent id means: a storage, or a class that is saved with its source text.

        Args:
            key: ("storage", class, name, location, count, view) or ("module", class, file, source).
        """
        if isinstance(key, tuple) and len(key) == 4 and key[0] == "module":
            return key[1]
        dtype, name, count, view = _parts(key)
        if view is not None:
            raise BadCheckpoint("a storage that is a view of another, as only torch before 0.4 wrote it")
        if name not in self._stored:
            read = partial(self._read, name, count * item_size(dtype))
            self._stored[name] = Storage(dtype, count, read, self._order)
        return self._stored[name]

    def locate(self, names: Any) -> None:
        """Finds the storages' places from the names that the last pickle lists; the file is at the first of them.

        Args:
            names: In the order of the file.
        """
        if not isinstance(names, list) or not all(name in self._stored for name in names if isinstance(name, str)):
            raise BadCheckpoint("the file is damaged: its storages are not those that it lists")
        place = self._file.tell()
        for name in names:
            self._places[name] = place + 8  # behind the number of values
            place += 8 + self._stored[name].count * item_size(self._stored[name].dtype)

    def _read(self, name: str, size: int) -> bytes:
        if name not in self._places or size > self._file.seek(0, 2):
            raise BadCheckpoint(f"the file is damaged or cut off: the storage {name[:80]!r} is missing")
        self._file.seek(self._places[name])
        return self._file.read(size)


def _parts(key: Any) -> tuple[str, str, int, Any]:
    if not isinstance(key, tuple) or len(key) not in (5, 6) or key[0] != "storage":
        raise BadCheckpoint("the pickle refers to something other than a storage")
    kind, name, count = key[1], key[2], key[4]
    if not isinstance(kind, Name) or kind.module not in ("torch", "torch.storage") or kind.name not in STORAGES:
        raise BadCheckpoint(f"a storage of the type {kind if isinstance(kind, Name) else type(kind).__name__}")
    if not isinstance(name, str) or not name.replace("_", "").isalnum() or type(count) is not int or count < 0:
        raise BadCheckpoint("the pickle refers to a storage in an unknown way")
    return STORAGES[kind.name], name, count, key[5] if len(key) == 6 else None


def _read_zip(archive: Any, content: Content) -> None:
    storages = _ZipStorages(archive)
    [content.value] = content.unpickle(Unpickler(io.BytesIO(storages.pickle()), storages.find))


def _read_pickles(file: Any, content: Content) -> None:
    file.seek(0)
    storages = _PickleStorages(file)
    stream = _Limited(file)
    unpickler = Unpickler(stream, storages.find)
    [content.value] = content.unpickle(unpickler)
    if content.value != _LEGACY_MAGIC:
        return
    version, _, content.value, names = content.unpickle(unpickler, 4)
    if version != 1001:
        raise BadCheckpoint(f"an unknown version of torch's format: {str(version)[:20]}")
    storages.locate(names)


class _Limited:
    """A file of which not more than a pickle's bytes are read."""

    def __init__(self, file: BinaryIO):
        self._file, self._left = file, LARGEST_PICKLE

    def read(self, size: int, /) -> bytes:
        return self._count(self._file.read(min(size, self._left + 1)))

    def readline(self) -> bytes:
        return self._count(self._file.readline(self._left + 1))

    def _count(self, content: bytes) -> bytes:
        self._left -= len(content)
        if self._left < 0:
            raise BadCheckpoint(f"a pickle of more than {LARGEST_PICKLE >> 20} MB, the tensors' values not counted")
        return content
