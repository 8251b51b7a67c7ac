"""Weight files as data beside the model: where they come from, and that they are intact.

`weights.yaml` in a function's directory names them; nothing is downloaded while requests are served:

    default: yolo11n                # the variant that is used when VARIANT is not set
    variants:
      yolo11n:
        files:
          - path: yolo11n.onnx      # inside the variant's folder
            url: https://...        # left out: the file is part of the function's directory
            sha256: 0f3c...         # or sha384; left out: recorded at the first fetch and checked from then on
            size: 10612224          # bytes, shown before the download; may be left out
        entry: yolo11n.onnx         # what a handler opens; left out: the only file, or the folder of several

A variant's files lie in `weights/<variant>/` of the directory, or in the directory itself. Two environment variables
of a function choose: MODEL_PATH, a file or folder of your own, and VARIANT, one of the file's.

    python -m common.networks.weights DIRECTORY [--variant NAME] [--to FOLDER] [--check]

With OFFLINE=1 in the environment nothing is fetched; what is missing is an error then.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from common.config import FunctionConfig, read_yaml
from common.errors import StartupError, listed
from common.networks.download import check_url, digest_of, download

FILE_NAME = "weights.yaml"
RECORD_NAME = "weights.sha256"  # in the format of `sha256sum`, so that `sha256sum -c` checks it too
FOLDER_NAME = "weights"
MOUNTED_NAME = ".mounted"  # in that folder, at build: the weights come with a volume (deploy_cpu.sh --weights)
_HEX_DIGESTS = {"sha256": re.compile(r"[0-9a-f]{64}"), "sha384": re.compile(r"[0-9a-f]{96}")}


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file of a variant."""

    path: str
    """Relative to the variant's folder."""
    url: str | None = None
    """Where it is fetched from; None for a file that is part of the function's directory."""
    sha256: str | None = None
    """64 hexadecimal digits; None when they are recorded at the first fetch."""
    size: int | None = None
    """Bytes; None when weights.yaml has no size."""
    sha384: str | None = None
    """96 hexadecimal digits, where the publisher gives these."""

    @property
    def digest(self) -> str | None:
        """The digest that is known before the file is fetched."""
        return self.sha256 or self.sha384


@dataclass(frozen=True, slots=True)
class Variant:
    """A set of files that a handler can load."""

    name: str
    """As the option VARIANT names it."""
    files: tuple[WeightFile, ...]
    """All of them are needed."""
    entry: str
    """The one that a handler opens, relative; "" for the folder of all."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """The content of a weights.yaml."""

    default: str
    """The variant that is used when none is named."""
    variants: Mapping[str, Variant]
    """By name, in the order of the file."""

    def variant(self, name: str | None) -> Variant:
        """The variant of a name.

        Args:
            name: As the option VARIANT has it; None or "" for the default.

        Raises:
            StartupError: There is no such variant; names those there are.
        """
        name = name or self.default
        StartupError.check(name in self.variants, "VARIANT", f"one of {', '.join(self.variants)}", name)
        return self.variants[name]


@dataclass(frozen=True, slots=True)
class Missing:
    """What keeps a function from loading its weights."""

    problem: str
    """What is missing or has changed, and the remedy."""
    variant: str = ""
    """The variant that is missing; "" when fetching is no remedy."""
    files: tuple[WeightFile, ...] = ()
    """What `fetch` would get of it."""


def read_catalog(directory: str | Path) -> Catalog | None:
    """The weights.yaml of a function's directory.

    Args:
        directory: The function's.

    Returns:
        Its content, checked; None when there is no such file.

    Raises:
        StartupError: The file is wrong; names the field.
    """
    path = Path(directory) / FILE_NAME
    if not path.is_file():
        return None
    content = read_yaml(path)
    variants: Any = content.get("variants")
    are_named = isinstance(variants, dict) and variants
    StartupError.check(are_named, f"{path}: variants", "an object of named variants", variants)
    parsed = {str(name): _parse_variant(str(name), value, path) for name, value in variants.items()}
    default = content.get("default", next(iter(parsed)))
    StartupError.check(default in parsed, f"{path}: default", f"one of {', '.join(parsed)}", default)
    return Catalog(default=default, variants=parsed)


def locate(config: FunctionConfig, variant: str | None = None, model_path: str | None = None) -> Path:
    """The file or folder that a handler loads, with all its files there and intact.

    Args:
        config: The function.
        variant: The option VARIANT; None or "" for the default.
        model_path: The option MODEL_PATH, a file or folder that takes precedence over all variants; a relative one starts
            at the function's directory.

    Raises:
        StartupError: Something is missing or has changed; names it and the remedy.
    """
    if model_path:
        path = config.directory / model_path
        if not path.exists():
            start = "" if Path(model_path).is_absolute() else " (a relative path starts at the function's directory)"
            raise StartupError(
                f"MODEL_PATH: there is no {path}{start}; mount the folder of your weights into the container, "
                "or leave MODEL_PATH empty for the function's own"
            )
        folder = path if path.is_dir() else path.parent
        record = _read_record(folder)
        recorded = record if path.is_dir() else {k: v for k, v in record.items() if k == path.name}
        if changed := [name for name, digest in recorded.items() if not _intact(folder / name, digest)]:
            raise StartupError(f"MODEL_PATH: {listed(changed, 4)} in {folder} is not what {RECORD_NAME} beside it says")
        return path
    catalog = read_catalog(config.directory)
    if catalog is None:
        raise StartupError(
            f"{config.name} has no weights of its own ({FILE_NAME}): set MODEL_PATH to a file or a folder with yours"
        )
    chosen = catalog.variant(variant)
    if problem := _missing(config.directory, chosen):
        raise StartupError(problem.problem)
    return _folder_of(config.directory, chosen) / chosen.entry


def missing(directory: str | Path, environment: Mapping[str, str], to: Path | None = None) -> Missing | None:
    """What a function lacks of its weights.

    Args:
        directory: The function's.
        environment: Variables of its worker, which take precedence over those of its function.yaml.
        to: The folder of the variant's files, as for `fetch`; it takes precedence over MODEL_PATH.

    Returns:
        None when it can start.
    """
    config = FunctionConfig.load(directory)
    settings = {**config.environment, **environment}
    variant, model_path = settings.get("VARIANT", "").strip(), settings.get("MODEL_PATH", "").strip()
    try:
        if model_path and to is None:
            locate(config, variant, model_path)
        elif catalog := read_catalog(config.directory):
            return _missing(config.directory, catalog.variant(variant), to)
    except StartupError as error:
        return Missing(str(error))
    return None


def fetch(
    directory: str | Path,
    variant: str | None = None,
    to: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[WeightFile, int, int | None], None] = lambda file, have, total: None,
) -> Path:
    """Fetches what is missing of a variant's files, and checks all of them; nothing else ever fetches weights.

    Args:
        directory: The function's.
        variant: A variant's name; None or "" for the default.
        to: A folder for the variant's files; None for `weights/<variant>` in the function's directory, where nothing is
            fetched when a folder will be mounted over it.
        say: Called with a line of text about each file.
        progress: Called for each piece of a file, with the bytes so far and of how many.

    Returns:
        What a handler would open.

    Raises:
        StartupError: There is nothing to fetch a file from, the server does not give it, its SHA-256 is another
            one, or OFFLINE is set. No file is left there incomplete or unchecked.
    """
    catalog = read_catalog(directory)
    if catalog is None:
        raise StartupError(f"{directory}: there is no {FILE_NAME}: this function needs no weights, or takes MODEL_PATH")
    chosen = catalog.variant(variant)
    folder = _folder_of(Path(directory), chosen) if to is None else Path(to)
    if to is None and (Path(directory) / FOLDER_NAME / MOUNTED_NAME).exists():
        say(f"{FOLDER_NAME}: a folder is mounted there when the function runs; nothing is fetched")
        return folder / chosen.entry
    record = _read_record(folder)
    for file in chosen.files:
        path, expected = folder / file.path, file.digest or record.get(file.path)
        if path.is_file() and (expected is None or _intact(path, expected)):
            found, how = file.sha256 or _digest(path), "present"
        elif file.url is None:
            raise StartupError(f"{path}: the file is part of the function's directory, but is missing or has changed")
        elif is_offline():
            raise StartupError(f"{_shown(path)} is missing, and nothing is fetched: OFFLINE is set")
        else:
            say(f"{file.path}: from {file.url}")
            begin = time.monotonic()
            try:
                found = download(file.url, path, expected, functools.partial(progress, file))
            except StartupError as error:
                if isinstance(error.__cause__, OSError):  # the network or the server
                    raise StartupError(f"{error}; or copy the file to {_shown(path)} yourself") from error
                raise
            how = f"fetched, {path.stat().st_size / 1e6:.1f} MB in {time.monotonic() - begin:.1f} s"
        say(f"{file.path}: {how}, SHA-256 {found}")
        if file.url is not None and record.get(file.path) != found:
            record[file.path] = found
            _write_record(folder, record)
    return folder / chosen.entry


def is_offline() -> bool:
    """Whether the environment variable OFFLINE forbids to fetch anything."""
    return os.environ.get("OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


def _parse_variant(name: str, value: Any, path: Path) -> Variant:
    where = f"{path}: variants.{name}"
    _check_relative(name, where)
    items: Any = value.get("files") if isinstance(value, dict) else None
    StartupError.check(isinstance(items, list) and items, f"{where}.files", "a list of files", items)
    files = tuple(_parse_file(item, f"{where}.files[{i}]") for i, item in enumerate(items))
    paths = [file.path for file in files]
    if len(set(paths)) != len(paths):
        raise StartupError(f"{where}.files: the same path is listed more than once")
    entry = value.get("entry", paths[0] if len(paths) == 1 else "")
    StartupError.check(not entry or entry in paths, f"{where}.entry", "one of the files", entry)
    return Variant(name=name, files=files, entry=entry)


def _parse_file(item: Any, where: str) -> WeightFile:
    has_path = isinstance(item, dict) and isinstance(item.get("path"), str)
    StartupError.check(has_path, where, "an object with a path", item)
    path, url, size = item["path"], item.get("url"), item.get("size")
    _check_relative(path, f"{where}.path")
    if url is not None:
        check_url(url, f"{where}.url")
    digests = {name: _parse_digest(item.get(name), name, where) for name in _HEX_DIGESTS}
    StartupError.check(size is None or (type(size) is int and size >= 0), f"{where}.size", "a number of bytes", size)
    return WeightFile(path=path, url=url, size=size, **digests)


def _parse_digest(value: Any, name: str, where: str) -> str | None:
    if value in (None, ""):
        return None
    is_digest = isinstance(value, str) and _HEX_DIGESTS[name].fullmatch(value.lower())
    digits = {"sha256": 64, "sha384": 96}[name]
    StartupError.check(is_digest, f"{where}.{name}", f"{digits} hexadecimal digits", value)
    return str(value).lower()


def _check_relative(path: str, where: str) -> None:
    leaves = "\\" in path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts
    StartupError.check(path and not leaves, where, "a path inside the folder", path)


def _folder_of(directory: Path, variant: Variant) -> Path:
    """Where a variant's files lie, or are to lie: the function's directory itself when they are part of it."""
    if all(file.url is None for file in variant.files):
        return directory
    fetched = directory / FOLDER_NAME / variant.name
    shipped = not fetched.exists() and all((directory / file.path).is_file() for file in variant.files)
    return directory if shipped else fetched


def _missing(directory: Path, variant: Variant, to: Path | None = None) -> Missing | None:
    folder = to or _folder_of(directory, variant)
    record = _read_record(folder)
    absent, changed = [], []
    for file in variant.files:
        path, expected = folder / file.path, file.digest or record.get(file.path)
        if not path.is_file():
            absent.append(file)
        elif expected is not None and not _intact(path, expected):
            changed.append(file)
    if not absent and not changed:
        return None
    # In a container or a worker, whose working directory is the function's, the whole path says more.
    shown = str if directory == Path.cwd() else _shown
    problems = []
    if absent:
        verb = "is" if len(absent) == 1 else "are"
        problems.append(f"no weights for {variant.name}: {_names(absent)} {verb} missing in {shown(folder)}")
    if changed:
        problems.append(f"weights of {variant.name} have changed: {_names(changed)} in {shown(folder)}")
    to_fetch = tuple(file for file in (*absent, *changed) if file.url)
    problems.append(
        f"fetch: {_python()} -m common.networks.weights {shlex.quote(shown(directory))} --variant {shlex.quote(variant.name)}"
        + (f" --to {shlex.quote(shown(to))}" if to else "")
        if to_fetch
        else "they are part of the function's directory: copy it again"
    )
    return Missing("; ".join(problems), variant.name if to_fetch else "", to_fetch)


def _shown(path: Path) -> str:
    """A path as seen from the working directory, when it is below that; whole from the root, where Nuclio runs functions."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) and here != Path(here.root) else str(path)


def _intact(path: Path, digest: str) -> bool:
    return path.is_file() and _digest(path, digest) == digest


def _digest(path: Path, like: str | None = None) -> str:
    with path.open("rb") as file:
        return digest_of(file, like)


def _read_record(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / RECORD_NAME).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    entries = (line.split(None, 1) for line in lines if line.strip())
    return {path.lstrip("*"): digest.lower() for digest, path in entries}


def _write_record(folder: Path, record: Mapping[str, str]) -> None:
    text = "".join(f"{digest}  {path}\n" for path, digest in sorted(record.items()))
    temporary = folder / f".{RECORD_NAME}.part"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(folder / RECORD_NAME)


def _names(files: list[WeightFile]) -> str:
    return listed([file.path for file in files], 4)


def _python() -> str:
    """The Python that has the packages: that of the virtual environment, or in an image the only one there is."""
    return shlex.quote(sys.executable) if sys.prefix != sys.base_prefix else "python"


def main(arguments: list[str] | None = None) -> int:
    """Fetches, or checks, the weights of a function's directory.

    Args:
        arguments: Of the command line; None for this process's own.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog="python -m common.networks.weights", description="Fetches and checks weight files."
    )
    parser.add_argument("directory", type=Path, help="a function's directory")
    parser.add_argument("--variant", default=os.environ.get("VARIANT"), help="default: the one in weights.yaml")
    parser.add_argument("--to", type=Path, help="a folder to fetch to, instead of weights/<variant> in the directory")
    parser.add_argument("--check", action="store_true", help="only say whether all files are present and intact")
    given = parser.parse_args(arguments)
    try:
        if not given.check:
            fetch(given.directory, given.variant, given.to, say=functools.partial(print, flush=True))
            return 0
        lacking = missing(given.directory, {**os.environ, "VARIANT": given.variant or "", "MODEL_PATH": ""}, given.to)
        problem = lacking.problem if lacking else ""
    except StartupError as error:
        problem = str(error)
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
