"""Reads LABELS: names with commas between them, or a file in one of the forms that people have."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path

from common.errors import StartupError, describe
from tools.new.class_lists import documents, lines, python_source, tables
from tools.new.class_lists.class_list import ClassList

_READERS: dict[str, Callable[[str, Path], ClassList]] = {
    ".py": python_source.read,
    ".yaml": documents.read_yaml,
    ".yml": documents.read_yaml,
    ".json": documents.read_json,
    ".csv": tables.read,
    ".tsv": tables.read,
    ".pbtxt": lines.read_pbtxt,
    ".data": lines.read_names,  # darknet's, which names another file
}
SUFFIXES = (".txt", ".names", *_READERS)
"""Of files with class names."""
_OTHER_SUFFIXES = (
    *(".xml", ".html", ".md", ".cfg", ".ini", ".toml", ".conf", ".log", ".jsonl", ".ipynb", ".pdf", ".doc", ".docx"),
    *(".xls", ".xlsx", ".zip", ".gz", ".jpg", ".png", ".onnx", ".pt", ".pth", ".bin", ".pkl", ".names~", ".bak"),
)
_EXPECTED = (
    "expected class names: one on each line, data.yaml, obj.data, Python source with CLASSES = (...), CSV, .pbtxt, or JSON "
    "(a list, ids with names, COCO's, CVAT's labels, config.json)"
)
_LONGEST = 512 << 20  # bytes: COCO's annotations, which hold the names, take this much
_MOST = 30000  # more names than any classifier has classes


def read_class_list(text: str) -> ClassList:
    """Reads the names of classes.

    Args:
        text: Names separated by commas, or the path of a file. A path that exists is always a file.

    Returns:
        The names.

    Raises:
        StartupError: There are no names, or the file is missing or can't be understood.
    """
    path = Path(text).expanduser()
    if text and _exists(path):
        return _read_file(path)
    names = [name.strip() for name in text.split(",")]
    names = [name for name in names if name]
    if path_like := next((name for name in names if _looks_like_path(name, alone="," not in text)), None):
        more = "" if "," not in text else "; a file can't be combined with names, or with another file"
        raise StartupError(f"LABELS: no such file: {path_like}{more}")
    if not names:
        raise StartupError(
            f"LABELS: expected names with commas between them or a file with names, got {describe(text)}"
        )
    return ClassList(tuple(names))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a list of names can be longer than a path may be
        return False


def _looks_like_path(name: str, *, alone: bool) -> bool:
    begins = name.startswith(("/", "./", "../", "~/", ".\\", "..\\")) or name[1:3] == ":\\"
    suffixed = name.lower().endswith((*SUFFIXES, *_OTHER_SUFFIXES))
    return begins or suffixed or (alone and ("/" in name or "\\" in name))


def _read_file(path: Path) -> ClassList:
    if path.is_dir():
        found = sorted(file.name for file in path.iterdir() if file.suffix.lower() in SUFFIXES)[:4]
        remedy = (
            f"name the file in it, such as {path / found[0]}" if found else f"for a class of that name write {path},"
        )
        raise StartupError(f"LABELS: {path} is a folder, expected a file with class names: {remedy}")
    content = _text(path)
    reader = _READERS.get(path.suffix.lower()) or _reader_of(content)
    found_list = reader(content, path)
    if not found_list.names or len(found_list.names) > _MOST:
        count = "none" if not found_list.names else f"{len(found_list.names)} of them"
        raise StartupError(f"LABELS: {path}: {_EXPECTED}; found {count}")
    if long := next((name for name in found_list.names if len(name) > 200 or _is_markup(name)), None):
        raise StartupError(f"LABELS: {path}: {_EXPECTED}; found {describe(long)}")
    return ClassList(found_list.names, found_list.ids, source=f"LABELS: {path}")


def _is_markup(name: str) -> bool:
    return name.startswith(("<", "version https://git-lfs"))


def _reader_of(content: str) -> Callable[[str, Path], ClassList]:
    """How a file is read whose suffix doesn't tell: by its first character."""
    start = content.lstrip()[:1]
    if start in ("[", "{"):
        return documents.read_literal
    return lines.read_names


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LONGEST:
            raise StartupError(f"LABELS: {path}: {_EXPECTED}; the file has {path.stat().st_size >> 20} MB")
        content = path.read_bytes()
    except OSError as error:
        raise StartupError(f"LABELS: {path}: {error.strerror}") from error
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if b"\0" in content[: 1 << 16]:
            raise StartupError(f"LABELS: {path}: not a text; {_EXPECTED}") from error
        line = content[: error.start].count(b"\n") + 1
        raise StartupError(
            f"LABELS: {path}: line {line} is not UTF-8: save the file in that encoding (Windows: Notepad, Save as, Encoding: "
            "UTF-8; elsewhere: iconv -f WINDOWS-1252 -t UTF-8)"
        ) from error
    if "\0" in text:
        raise StartupError(f"LABELS: {path}: not a text; {_EXPECTED}")
    return text
