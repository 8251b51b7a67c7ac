"""Every function that can run here answers under Nuclio's own Python wrapper as it does under ours.

Needs NUCLIO_WRAPPER, the path of Nuclio's _nuclio_wrapper.py; Nuclio is not part of this repository.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest

from common.config import FunctionConfig
from tests.deploy.real_wrapper import RealWrapper
from tools.check.samples import bad_requests, frame, good_requests, tracked_shapes
from tools.collection import COLLECTION, function_directories, lacks
from tools.wrapper import LoadedFunction, Reply

pytestmark = pytest.mark.skipif("NUCLIO_WRAPPER" not in os.environ, reason="NUCLIO_WRAPPER does not name the file")
RUNNABLE = [directory for directory in function_directories() if not lacks(directory, {})]


def short_folder() -> tempfile.TemporaryDirectory[str]:
    """A socket's path may have some hundred characters only; pytest's folders are longer."""
    return tempfile.TemporaryDirectory(prefix="w", dir="/tmp")


def requests_of(config: FunctionConfig, ours: LoadedFunction) -> list[tuple[str, bytes, str]]:
    if config.kind == "tracker":
        first = {"image": frame(0), "shapes": [next(iter(tracked_shapes(config).values()))], "states": []}
        # A state of one replica must do for another.
        plain = {"image": frame(1), "shapes": first["shapes"], "states": ours(first).json()["states"]}
        good = [("first call", first), ("second call", plain)]
    else:
        good = [(sample.name, sample.body) for sample in good_requests(config)]
        plain = good[0][1]
    all_of = [(name, json.dumps(body).encode(), "application/json") for name, body in good]
    body = json.dumps(plain).encode()
    all_of += [("with a charset", body, "application/json; charset=utf-8"), ("as text", body, "text/plain")]
    for sample in bad_requests(config, plain):
        raw = sample.body if isinstance(sample.body, bytes) else json.dumps(sample.body).encode()
        all_of.append((sample.name, raw, sample.content_type))
    return all_of


def same(one: Reply, other: Reply) -> bool:
    if (one.status, one.content_type) != (other.status, other.content_type):
        return False
    if one.body == other.body:
        return True
    # States hold a random key each; all else is the same.
    first, second = json.loads(one.body), json.loads(other.body)
    return isinstance(first, dict) and first.get("shapes") is not None and first["shapes"] == second["shapes"]


@pytest.mark.parametrize("directory", RUNNABLE, ids=lambda d: str(d.relative_to(COLLECTION)))
def test_answers_are_the_same(directory: Path) -> None:
    config = FunctionConfig.load(directory)
    ours = LoadedFunction(directory, unique=True)
    statuses = set()
    with short_folder() as folder, RealWrapper(directory, Path(folder)) as theirs:
        for name, body, content_type in requests_of(config, ours):
            expected, got = ours(body, content_type), theirs(body, content_type)
            assert same(expected, got), (
                f"{name}: {expected.status} {expected.body[:200]!r}, {got.status} {got.body[:200]!r}"
            )
            statuses.add(got.status)
            assert "error" not in json.loads(got.body) or got.status >= 400
        assert {200, 400} <= statuses
        # A record above some 200 kB blocks the processor for good; none may hold an image.
        assert max(len(json.dumps(record)) for record in theirs.logs) < 20_000


def test_a_big_reply_arrives_whole() -> None:
    directory = COLLECTION / "opencv" / "grabcut"
    body = json.dumps(
        {"image": _big_image(), "pos_points": [], "neg_points": [], "obj_bbox": [[100, 100], [1900, 1000]]}
    )
    ours = LoadedFunction(directory, unique=True)(body)
    with short_folder() as folder, RealWrapper(directory, Path(folder)) as theirs:
        reply = theirs(body.encode())
    assert reply.status == 200
    assert reply.body == ours.body
    assert len(reply.body) > 500_000


def test_a_function_that_cannot_start_ends_the_wrapper_with_the_cause(tmp_path: Path) -> None:
    for path in (COLLECTION / "opencv" / "grabcut").glob("*.*"):
        text = path.read_text()
        (tmp_path / path.name).write_text(text.replace('value: "5"', 'value: "five"'))
    with (
        short_folder() as folder,
        pytest.raises(AssertionError, match="ITERATIONS: expected a whole number"),
        RealWrapper(tmp_path, Path(folder)),
    ):
        pass


def _big_image() -> str:
    import numpy as np
    from PIL import Image

    from tools.check.samples import encode

    rng = np.random.default_rng(5)
    small = Image.fromarray(rng.integers(0, 255, (27, 48, 3), np.uint8))
    return encode(small.resize((1920, 1080)), "JPEG", quality=85)
