"""Class names in CSV and TSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from common.errors import StartupError
from tools.new.class_lists.class_list import ClassList
from tools.new.class_lists.values import as_id, by_id

_NAME_HEADERS = ("name", "class", "label", "class_name", "classname", "class name", "category", "display_name", "names")
_ID_HEADERS = (
    "id",
    "index",
    "idx",
    "class_id",
    "classid",
    "class id",
    "label_id",
    "category_id",
    "pixel value",
    "number",
)
_FILE_HEADERS = ("filename", "file_name", "file", "image", "image_id", "path")


def read(content: str, path: Path) -> ClassList:
    """Class names in a table: a column with names, and perhaps one with ids; or the header of a table of images.

    Args:
        content: The file's text.
        path: The file; .tsv has tabs between its columns.

    Raises:
        StartupError: It isn't certain which column holds the names.
    """
    rows = _rows(content, path)
    if not rows:
        raise StartupError(f"LABELS: {path}: the table is empty")
    header, body = [cell.lower() for cell in rows[0]], rows[1:]
    if header[0] in _FILE_HEADERS and body and all(set(row[1:]) <= {"0", "1", "0.0", "1.0"} for row in body):
        return ClassList(tuple(rows[0][1:]))  # a column for each class, as Roboflow writes
    names = _column(header, _NAME_HEADERS)
    ids = _column(header, _ID_HEADERS)
    if names is None:
        names, ids, body = _without_header(rows, path)
    if any(len(row) <= max(names, ids or 0) for row in body):
        raise StartupError(f"LABELS: {path}: a row has fewer columns than the first")
    if ids is None:
        return ClassList(tuple(row[names] for row in body))
    numbers = [as_id(row[ids]) for row in body]
    if None in numbers or len(set(numbers)) != len(numbers):
        raise StartupError(
            f"LABELS: {path}: expected a whole number of its own in each row of the column {rows[0][ids]}"
        )
    return by_id({number or 0: row[names] for number, row in zip(numbers, body, strict=True)})


def _rows(content: str, path: Path) -> list[list[str]]:
    first, *_ = content.lstrip().splitlines() or [""]
    delimiter = "\t" if path.suffix.lower() == ".tsv" or ("\t" in first and "," not in first) else ","
    if delimiter == "," and ";" in first and "," not in first:
        delimiter = ";"
    rows = csv.reader(io.StringIO(content), delimiter=delimiter, skipinitialspace=True)
    try:
        cleaned = [[cell.strip() for cell in row] for row in rows]
    except csv.Error as error:
        raise StartupError(f"LABELS: {path}: not a table: {error}") from error
    return [row for row in cleaned if any(row)]


def _column(header: Sequence[str], wanted: Sequence[str]) -> int | None:
    return next((header.index(name) for name in wanted if name in header), None)


def _without_header(rows: list[list[str]], path: Path) -> tuple[int, int | None, list[list[str]]]:
    """The columns with names and with ids of a table whose first row is one like the others."""
    if len(rows) == 1:
        return 0, None, [[cell] for cell in rows[0] if cell]  # all names in one row
    widths = {len(row) for row in rows}
    if widths == {1}:
        return 0, None, rows
    if widths == {2}:
        numbered = [column for column in (0, 1) if all(as_id(row[column]) is not None for row in rows)]
        if len(numbered) == 1:
            return 1 - numbered[0], numbered[0], rows
    raise StartupError(
        f"LABELS: {path}: expected a column called name, class or label, and perhaps one called id; got the columns "
        f"{', '.join(rows[0])[:120]}"
    )
