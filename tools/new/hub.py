"""Models on the Hugging Face hub: which files a name means, at which commit, with which digests.

Only the hub's API and two small files are read here; the weights are fetched when a function's image is built.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from common.errors import StartupError, describe, listed
from common.networks.download import read_small
from common.networks.huggingface.folder import CONFIG, INDEX, PREPROCESSING, WEIGHTS
from common.networks.weights import WeightFile, is_offline

_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB = "https://huggingface.co"
_MOST_OF_AN_ANSWER = 20_000_000  # bytes
_MOST_OF_A_FILE = 5_000_000
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_OTHER_FORMATS = (".gguf", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".msgpack", ".h5", ".tflite")


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A model at one commit of its repository on a hub."""

    name: str
    """organisation/name."""
    commit: str
    """40 hexadecimal digits."""
    config: Mapping[str, Any]
    """The content of its config.json."""
    files: tuple[WeightFile, ...]
    """What a function loads: configuration, preprocessing, weights; with their digests."""
    licence: str
    """As the model's card names it; "" when it names none."""
    gated: bool
    """Whether its files are given to those alone who have accepted its terms."""
    others: Mapping[str, WeightFile]
    """The further files of the repository by their names."""

    @property
    def title(self) -> str:
        """Name and commit, in short."""
        return f"{self.name}@{self.commit[:7]}"


# Names that end so are paths, with or without a mistake in them.
_FILES = (".onnx", ".xml", ".pt", ".pth", ".torchscript", ".safetensors", ".bin", ".ckpt", ".pkl", ".engine", ".tflite")


def is_hub_name(text: str) -> bool:
    """Whether a text is of the form organisation/name or organisation/name@revision.

    Args:
        text: WEIGHTS of the command line, which is not the path of a file.
    """
    is_file = text.lower().endswith(_FILES)
    return _NAME.fullmatch(text) is not None and not is_file and not text.startswith((".", "-"))


def read_published(text: str) -> PublishedModel:
    """Asks the hub for a model.

    Args:
        text: organisation/name, with @ and a branch, a tag or a commit; without, main.

    Returns:
        The model at the commit that the name means now.

    Raises:
        StartupError: There is no such model, it can't be read, or it has no .safetensors files.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise StartupError.field("WEIGHTS", "organisation/name or organisation/name@revision", text)
    if is_offline():
        raise StartupError(f"WEIGHTS: {text} is not a file here, and the hub is not asked: OFFLINE is set")
    name, revision = match["name"], match["revision"] or "main"
    hub = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or _HUB
    answer = _ask(f"{hub}/api/models/{name}/revision/{quote(revision, safe='')}?blobs=true", text)
    commit = answer.get("sha")
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise StartupError(f"{hub}: the answer for {text} has no commit: it is not a hub like Hugging Face's")
    entries = answer.get("siblings")
    files = {
        str(entry["rfilename"]): _file(f"{hub}/{name}/resolve/{commit}", entry)
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("rfilename"), str)
    }
    weights = _weight_files(files, name)
    small = [file for file in (CONFIG, *PREPROCESSING, INDEX) if file in files and (file != INDEX or INDEX in weights)]
    if CONFIG not in files:
        raise StartupError(
            f"WEIGHTS: {name} has no {CONFIG}: it is not a model of transformers; it has {_shown(files)}"
        )
    contents = {file: _content(files[file], text) for file in small}
    config = json.loads(contents[CONFIG])
    if not isinstance(config, dict):
        raise StartupError(f"{name}: {CONFIG}: expected a JSON object, got {describe(config)}")
    known = {
        file: WeightFile(file, files[file].url, hashlib.sha256(content).hexdigest(), len(content))
        for file, content in contents.items()
    }
    card = answer.get("cardData")
    licence = card.get("license") if isinstance(card, dict) else None
    return PublishedModel(
        name=name,
        commit=commit,
        config=config,
        files=(*known.values(), *(files[file] for file in weights if file not in known)),
        licence=licence if isinstance(licence, str) else "",
        gated=bool(answer.get("gated")),
        others={file: entry for file, entry in files.items() if file not in known and file not in weights},
    )


def _ask(url: str, text: str) -> dict[str, Any]:
    try:
        answer = json.loads(read_small(url, _MOST_OF_AN_ANSWER))
    except StartupError as error:
        raise _explained(error, text) from error
    except ValueError as error:
        raise StartupError(f"{url}: the answer is not JSON: is it a hub like Hugging Face's (HF_ENDPOINT)?") from error
    if not isinstance(answer, dict):
        raise StartupError(f"{url}: expected an object, got {describe(answer)}")
    return answer


def _content(file: WeightFile, text: str) -> bytes:
    try:
        content = read_small(str(file.url), _MOST_OF_A_FILE)
        json.loads(content)
    except StartupError as error:
        raise _explained(error, text) from error
    except ValueError as error:
        raise StartupError(f"{file.url}: not JSON") from error
    return content


def _explained(error: StartupError, text: str) -> StartupError:
    """The error of a request, with what it means on the hub."""
    cause = error.__cause__
    code = cause.code if isinstance(cause, urllib.error.HTTPError) else 0
    if code in (401, 403):
        return StartupError(
            f"WEIGHTS: {text}: the hub answers {code}: there is no such model, or it is private or gated: accept its terms on "
            "its page and set HF_TOKEN"
        )
    if code == 404:
        return StartupError(f"WEIGHTS: there is no file {text} here, and no such model or revision on the hub")
    return StartupError(f"WEIGHTS: {text} is not a file here, and the hub does not answer: {error}")


def _file(folder: str, entry: Mapping[str, Any]) -> WeightFile:
    large, name = entry.get("lfs"), str(entry["rfilename"])
    digest = large.get("sha256") if isinstance(large, dict) else None
    size = entry.get("size")
    return WeightFile(
        path=name,
        url=f"{folder}/{quote(name)}",
        sha256=digest if isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest) else None,
        size=size if isinstance(size, int) else None,
    )


def _weight_files(files: Mapping[str, WeightFile], name: str) -> list[str]:
    """The names of the files with weights, with the index of several."""
    if WEIGHTS in files:
        return [WEIGHTS]
    shards = sorted(file for file in files if _SHARD.fullmatch(file))
    if INDEX in files and shards:
        return [INDEX, *shards]
    others = [file for file in files if file.endswith(_OTHER_FORMATS)]
    if others:
        raise StartupError(
            f"WEIGHTS: {name} has no {WEIGHTS}, only {listed(others, 3)}, which are not read here. Many models have a revision "
            f"with {WEIGHTS} (see its pull requests): {name}@refs/pr/1"
        )
    raise StartupError(f"WEIGHTS: {name} has no {WEIGHTS}; it has {_shown(files)}")


def _shown(files: Mapping[str, WeightFile]) -> str:
    return listed(list(files), 4)
