"""A function's sample: requests, and the replies that are expected to them, in the folder `sample` of its directory.

`sample/requests.json` holds what CVAT would send, in order, with the names of files in that folder in place of images; a
tracker's `"states": "previous"` are those of the reply before. `python -m tools.sample DIRECTORY` compares the replies with
`sample/replies.json`, with `--record` it writes that file again.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import StartupError
from tools.wrapper import LoadedFunction, variables

_PIXELS, _CONFIDENCE = 1.0, 0.02  # how far numbers with decimals may be off: engines differ in the last digits
_SHARE = 0.02  # of a long list of numbers, such as a mask, may be off
_OPAQUE = {"states", "blob"}  # mean nothing to a reader; not compared


def differences(directory: Path) -> list[str]:
    """Sends a function its sample requests and compares the replies with the expected ones.

    Args:
        directory: The function's directory.

    Returns:
        What differs, one sentence for each request; empty when all replies are as expected.
    """
    expected = json.loads((directory / "sample" / "replies.json").read_text(encoding="utf-8"))
    got = replies(directory)
    if len(expected) != len(got):
        return [f"{len(got)} requests, but {len(expected)} expected replies: record them again with --record"]
    found = [_difference(one, other, f"reply {i}") for i, (one, other) in enumerate(zip(expected, got, strict=True), 1)]
    return [text for text in found if text]


def record(directory: Path) -> list[Any]:
    """Writes the replies that a function gives now as the expected ones.

    Args:
        directory: The function's directory.

    Returns:
        The replies, as parsed JSON.
    """
    got = replies(directory)
    kept = [
        {**reply, **dict.fromkeys(_OPAQUE & reply.keys(), "...")} if isinstance(reply, dict) else reply for reply in got
    ]
    text = ",\n".join(json.dumps(reply, ensure_ascii=False) for reply in kept)
    (directory / "sample" / "replies.json").write_text(f"[\n{text}\n]\n", encoding="utf-8")
    return got


def replies(directory: Path) -> list[Any]:
    """What a function replies to its sample requests, through the handler in its main.py.

    Args:
        directory: The function's directory.

    Returns:
        The replies, as parsed JSON.

    Raises:
        StartupError: The function refuses a request.
    """
    sample = json.loads((directory / "sample" / "requests.json").read_text(encoding="utf-8"))
    with variables(sample["environment"]):
        function = LoadedFunction(directory, unique=True)
        got: list[Any] = []
        for number, request in enumerate(sample["requests"], 1):
            reply = function(_body(request, directory / "sample", got))
            if reply.status != 200:
                error = reply.json().get("error")
                raise StartupError(f"{directory}: sample request {number} got status {reply.status}: {error}")
            got.append(reply.json())
    return got


def _body(request: Mapping[str, Any], folder: Path, before: Sequence[Any]) -> dict[str, Any]:
    body = dict(request)
    for key in ("image", "image0", "image1"):
        if key in body:
            body[key] = base64.b64encode((folder / body[key]).read_bytes()).decode()
    if body.get("states") == "previous":
        body["states"] = before[-1]["states"]
    return body


def _difference(expected: Any, got: Any, place: str, key: str = "") -> str:
    if isinstance(expected, list) and isinstance(got, list):
        if len(expected) != len(got):
            return f"{place}: expected {len(expected)} items, got {len(got)}"
        found = [
            _difference(one, other, f"{place}[{i}]", key)
            for i, (one, other) in enumerate(zip(expected, got, strict=True))
        ]
        found = [text for text in found if text]
        numbers = all(isinstance(item, (int, float)) for item in expected)
        return found[0] if found and not (numbers and len(found) <= _SHARE * len(expected)) else ""
    if isinstance(expected, dict) and isinstance(got, dict):
        if expected.keys() != got.keys():
            return f"{place}: expected the keys {', '.join(expected)}, got {', '.join(got)}"
        found = [
            _difference(expected[name], got[name], f"{place}.{name}", name) for name in expected if name not in _OPAQUE
        ]
        return next(filter(None, found), "")
    if key == "confidence":  # a text in replies
        near = abs(float(expected) - float(got)) <= _CONFIDENCE
    else:
        near = isinstance(expected, float) and isinstance(got, float) and abs(expected - got) <= _PIXELS
    if near or expected == got:
        return ""
    return f"{place}: expected {json.dumps(expected)}, got {json.dumps(got)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares or records the replies of the functions on the command line.

    Args:
        arguments: The command line, without the program's name; None for that of the process.

    Returns:
        The exit status: 1 when a reply is not the expected one.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.sample", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIRECTORY", help="of a function")
    parser.add_argument("--record", action="store_true", help="write the current replies as the expected ones")
    given = parser.parse_args(arguments)
    status = 0
    for directory in given.directories:
        if given.record:
            print(f"{directory}: {len(record(directory))} replies recorded in {directory / 'sample' / 'replies.json'}")
            continue
        found = differences(directory)
        print(f"{directory}: {'; '.join(found) or 'as expected'}")
        status = 1 if found else status
    return status


if __name__ == "__main__":
    sys.exit(main())
