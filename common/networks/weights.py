"""Weight files as data beside the model: where they come from, and that they are intact.

`weights.yaml` in a function's directory names them; nothing is ever fetched while requests are served:

    default: yolo11n                # the variant that is used when nobody says which
    variants:
      yolo11n:
        files:
          - path: yolo11n.onnx      # inside the variant's folder
            url: https://...        # left out: the file is part of the function's directory
            sha256: 0f3c...         # left out: recorded at the first fetch and checked from then on
        entry: yolo11n.onnx         # what a handler opens; left out: the only file, or the folder of several

A variant's files lie in `weights/<variant>/` of the directory, or in the directory itself. Two environment variables
of a function choose: MODEL_PATH, a file or folder of one's own, and VARIANT, one of the file's.

    python -m common.networks.weights DIRECTORY [--variant NAME] [--to FOLDER] [--check]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TextIO
from urllib.parse import urlsplit

from common.config import FunctionConfig, read_yaml
from common.errors import StartupError, describe

FILE_NAME = "weights.yaml"
RECORD_NAME = "weights.sha256"  # in the format of `sha256sum`, so that `sha256sum -c` checks it too
FOLDER_NAME = "weights"
MOUNTED_NAME = ".mounted"  # in that folder, at build: the weights come with a volume (deploy_cpu.sh --weights)
_MOUNTED = ".mounted"  # stands in the weights folder of an image that gets its weights by a volume
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_HUB = "huggingface.co"
_TIMEOUT = 60.0  # seconds without a byte
_CHUNK = 1 << 20
_HEX_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class WeightFile:
    """path: relative to the variant's folder. url: None for a file of the directory itself. sha256: hex, or None."""

    path: str
    url: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """A set of files that a handler can load. entry: the one to open, relative; "" for their folder."""

    name: str
    files: tuple[WeightFile, ...]
    entry: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """The content of a weights.yaml."""

    default: str
    variants: Mapping[str, Variant]

    def variant(self, name: str | None) -> Variant:
        """The variant of that name, or the default one. Raises StartupError with the names there are."""
        if not name:
            name = self.default
        if name not in self.variants:
            raise StartupError(f"VARIANT: expected one of {', '.join(self.variants)}, got {describe(name)}")
        return self.variants[name]


def read_catalog(directory: str | Path) -> Catalog | None:
    """The weights.yaml of a function's directory, checked; None when it has none."""
    path = Path(directory) / FILE_NAME
    if not path.is_file():
        return None
    content = read_yaml(path)
    variants = content.get("variants")
    if not isinstance(variants, dict) or not variants:
        raise StartupError(f"{path}: variants: expected an object of named variants, got {describe(variants)}")
    parsed = {str(name): _parse_variant(str(name), value, path) for name, value in variants.items()}
    default = content.get("default", next(iter(parsed)))
    if default not in parsed:
        raise StartupError(f"{path}: default: expected one of {', '.join(parsed)}, got {describe(default)}")
    return Catalog(default=default, variants=parsed)


def locate(config: FunctionConfig, variant: str | None = None, model_path: str | None = None) -> Path:
    """The file or folder that a handler loads, its files there and intact.

    variant: a variant's name (the option VARIANT), None or "" for the default. model_path: a file or folder that goes
    before all variants (the option MODEL_PATH); a relative one is taken from the function's directory.
    Raises StartupError that says what is missing or changed, and the remedy.
    """
    if model_path:
        path = config.directory / model_path
        if not path.exists():
            raise StartupError(
                f"MODEL_PATH: there is no {path}; mount the folder of your weights into the container, "
                "or leave MODEL_PATH empty for the function's own"
            )
        folder = path if path.is_dir() else path.parent
        record = _read_record(folder)
        recorded = record if path.is_dir() else {k: v for k, v in record.items() if k == path.name}
        if changed := [name for name, digest in recorded.items() if not _intact(folder / name, digest)]:
            raise StartupError(f"MODEL_PATH: {_list(changed)} in {folder} is not what {RECORD_NAME} beside it says")
        return path
    catalog = read_catalog(config.directory)
    if catalog is None:
        raise StartupError(
            f"{config.name} has no weights of its own ({FILE_NAME}): set MODEL_PATH to a file or a folder with yours"
        )
    chosen = catalog.variant(variant)
    problems = _problems(config.directory, chosen)
    if problems:
        raise StartupError("; ".join(problems))
    return _folder_of(config.directory, chosen) / chosen.entry


def missing(directory: str | Path, environment: Mapping[str, str]) -> list[str]:
    """What a function lacks of its weights, a line each with the remedy; [] when it can start.

    environment: as for the function's worker; the function.yaml's own variables are added to it.
    """
    config = FunctionConfig.load(directory)
    settings = {**config.environment, **environment}
    variant, model_path = settings.get("VARIANT", "").strip(), settings.get("MODEL_PATH", "").strip()
    if not model_path and read_catalog(config.directory) is None:
        return []
    try:
        locate(config, variant, model_path)
    except StartupError as error:
        return [str(error)]
    return []


def fetch(
    directory: str | Path, variant: str | None = None, to: str | Path | None = None, progress: TextIO | None = None
) -> Path:
    """Fetches what is missing of a variant's files and checks all of them; returns what a handler would open.

    to: a folder for the variant's files, None for `weights/<variant>` in the function's directory.
    progress: where a line about each file goes. Raises StartupError when there is nothing to fetch it from, the
    server does not give it, or what came is not what it should be; a file is there whole and checked, or not at all.
    """
    catalog = read_catalog(directory)
    if catalog is None:
        raise StartupError(f"{directory}: there is no {FILE_NAME}: this function needs no weights, or takes MODEL_PATH")
    chosen = catalog.variant(variant)
    folder = _folder_of(Path(directory), chosen) if to is None else Path(to)
    if to is None and (Path(directory) / FOLDER_NAME / MOUNTED_NAME).exists():
        _say(progress, f"{FOLDER_NAME}: a folder is mounted there when the function runs; nothing is fetched")
        return folder / chosen.entry
    record = _read_record(folder)
    for file in chosen.files:
        path, expected = folder / file.path, file.sha256 or record.get(file.path)
        if path.is_file() and (expected is None or _intact(path, expected)):
            found, how = expected or _digest(path), "is there"
        elif file.url is None:
            raise StartupError(f"{path}: the file is part of the function's directory, but is not there or has changed")
        else:
            _say(progress, f"{file.path}: from {file.url}")
            begin = time.monotonic()
            found = _download(file.url, path, expected)
            how = f"fetched, {path.stat().st_size / 1e6:.1f} MB in {time.monotonic() - begin:.1f} s"
        _say(progress, f"{file.path}: {how}, SHA-256 {found}")
        if file.url is not None and record.get(file.path) != found:
            record[file.path] = found
            _write_record(folder, record)
    return folder / chosen.entry


def _parse_variant(name: str, value: Any, path: Path) -> Variant:
    where = f"{path}: variants.{name}"
    _check_relative(name, where)
    items = value.get("files") if isinstance(value, dict) else None
    if not isinstance(items, list) or not items:
        raise StartupError(f"{where}.files: expected a list of files, got {describe(items)}")
    files = tuple(_parse_file(item, f"{where}.files[{i}]") for i, item in enumerate(items))
    paths = [file.path for file in files]
    if len(set(paths)) != len(paths):
        raise StartupError(f"{where}.files: a path stands there more than once")
    entry = value.get("entry", paths[0] if len(paths) == 1 else "")
    if entry and entry not in paths:
        raise StartupError(f"{where}.entry: expected one of the files, got {describe(entry)}")
    return Variant(name=name, files=files, entry=entry)


def _parse_file(item: Any, where: str) -> WeightFile:
    if not isinstance(item, dict) or not isinstance(item.get("path"), str):
        raise StartupError(f"{where}: expected an object with a path, got {describe(item)}")
    path, url, sha256 = item["path"], item.get("url"), item.get("sha256")
    _check_relative(path, f"{where}.path")
    if url is not None:
        _check_url(url, f"{where}.url")
    if sha256 and not (isinstance(sha256, str) and _HEX_DIGEST.fullmatch(sha256.lower())):
        raise StartupError(f"{where}.sha256: expected 64 hexadecimal digits, got {describe(sha256)}")
    return WeightFile(path=path, url=url, sha256=sha256.lower() if sha256 else None)


def _check_relative(path: str, where: str) -> None:
    if not path or "\\" in path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise StartupError(f"{where}: expected a path inside the folder, got {describe(path)}")


def _check_url(url: Any, where: str) -> None:
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or not parts.hostname:
        raise StartupError(f"{where}: expected an address that begins with https://, got {describe(url)}")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise StartupError(f"{where}: expected https, got {parts.scheme}: weights are only fetched over https")


def _folder_of(directory: Path, variant: Variant) -> Path:
    """Where a variant's files lie, or are to lie: the function's directory itself when they are part of it."""
    if all(file.url is None for file in variant.files):
        return directory
    fetched = directory / FOLDER_NAME / variant.name
    shipped = not fetched.exists() and all((directory / file.path).is_file() for file in variant.files)
    return directory if shipped else fetched


def _problems(directory: Path, variant: Variant) -> list[str]:
    folder = _folder_of(directory, variant)
    record = _read_record(folder)
    absent, changed = [], []
    for file in variant.files:
        path, expected = folder / file.path, file.sha256 or record.get(file.path)
        if not path.is_file():
            absent.append(file.path)
        elif expected is not None and not _intact(path, expected):
            changed.append(file.path)
    remedy = (
        f"fetch: {_python()} -m common.networks.weights {shlex.quote(str(directory))} --variant {shlex.quote(variant.name)}"
        if any(file.url for file in variant.files if file.path in absent + changed)
        else "they are part of the function's directory: copy it anew"
    )
    problems = []
    if absent:
        problems.append(f"weights of {variant.name} are not there: {_list(absent)} in {folder}; {remedy}")
    if changed:
        problems.append(f"weights of {variant.name} have changed (SHA-256): {_list(changed)} in {folder}; {remedy}")
    return problems


def _intact(path: Path, sha256: str) -> bool:
    return path.is_file() and _digest(path) == sha256


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


class _OnlySafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check_url(newurl, f"{req.full_url} leads to")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str, path: Path, sha256: str | None) -> str:
    """Fetches a file and returns its SHA-256; `path` holds it whole and checked afterwards, or is as it was."""
    request = urllib.request.Request(url, headers={"User-Agent": "cvat-functions"})  # noqa: S310 - checked by _check_url
    token = os.environ.get("HF_TOKEN", "").strip()
    if token and urlsplit(url).hostname == _HUB:
        # Not sent on to where the hub redirects to.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    temporary = Path(name)
    try:
        opener = urllib.request.build_opener(_OnlySafeRedirects)
        with os.fdopen(handle, "wb") as file, opener.open(request, timeout=_TIMEOUT) as response:
            found = _copy(response, file)
            length = response.headers.get("Content-Length")
            if length is not None and int(length) != file.tell():
                raise StartupError(f"{url}: broke off after {file.tell()} of {length} bytes; fetch again")
        if sha256 is not None and found != sha256:
            raise StartupError(
                f"{url}: expected SHA-256 {sha256}, got {found}: not used; the file was changed or replaced"
            )
        temporary.chmod(0o644)
        temporary.replace(path)
        return found
    except urllib.error.HTTPError as error:
        hint = "; it is gated: accept its terms and set HF_TOKEN" if error.code in (401, 403) else ""
        raise StartupError(f"{url}: the server answers {error.code} {error.reason}{hint}") from error
    except OSError as error:
        raise StartupError(f"{url}: can't be fetched: {getattr(error, 'reason', error)}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _copy(source: Any, target: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def _say(progress: TextIO | None, line: str) -> None:
    if progress is not None:
        print(line, file=progress, flush=True)


def _list(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _python() -> str:
    """The Python that has the packages: that of the virtual environment, or in an image the only one there is."""
    return shlex.quote(sys.executable) if sys.prefix != sys.base_prefix else "python"


def main(arguments: list[str] | None = None) -> int:
    """Fetches, or checks, the weights of a function's directory; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m common.networks.weights", description="Fetches and checks weight files."
    )
    parser.add_argument("directory", type=Path, help="a function's directory")
    parser.add_argument("--variant", default=os.environ.get("VARIANT"), help="default: the one in weights.yaml")
    parser.add_argument("--to", type=Path, help="a folder to fetch to, instead of weights/<variant> in the directory")
    parser.add_argument("--check", action="store_true", help="only say whether all is there and intact")
    given = parser.parse_args(arguments)
    try:
        if not given.check:
            if (given.directory / FOLDER_NAME / _MOUNTED).exists():
                print("The weights come with a mounted folder: nothing is fetched")
                return 0
            fetch(given.directory, given.variant, given.to, progress=sys.stdout)
            return 0
        settings = {
            **os.environ,
            "VARIANT": given.variant or "",
            "MODEL_PATH": str(given.to.resolve()) if given.to else "",
        }
        problems = missing(given.directory, settings)
    except StartupError as error:
        problems = [str(error)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
