"""SAM 2 and EdgeTAM through frames, through their real main.py: shapes, states on their way, and states gone wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.networks.sam.model import EDGETAM_VIDEO, SAM2_VIDEO
from common.vision.mask import mask_to_rle, outline_to_mask, rle_to_mask
from tests.common.networks.sam.tiny_models import save_tiny
from tests.redis_server import RedisServer, redis_server
from tests.serverless.sam_functions import encoded, error, loaded, noise
from tools.wrapper import LoadedFunction

FUNCTIONS = {"sam2-tracker": SAM2_VIDEO, "edgetam-tracker": EDGETAM_VIDEO}
POLYGON = [30.0, 30, 140, 40, 120, 120, 40, 110]
MASK = mask_to_rle(outline_to_mask(np.array(POLYGON).reshape(-1, 2), (150, 200)))
SHAPES: list[dict[str, Any]] = [
    {"type": "rectangle", "points": [20, 22, 120, 100]},
    {"type": "polygon", "points": POLYGON},
    {"type": "mask", "points": MASK},
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("weights")
    return {name: save_tiny(family, root / name) for name, family in FUNCTIONS.items()}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


def start(frame: int, *shapes: Any) -> dict[str, Any]:
    return {"image": encoded(noise(frame)), "shapes": list(shapes), "states": []}


def go_on(frame: int, states: list[Any]) -> dict[str, Any]:
    return {"image": encoded(noise(frame)), "shapes": [None] * len(states), "states": states}


def stored(server: RedisServer) -> dict[str, object]:
    return {"CVAT_FUNCTIONS_REDIS_HOST": "127.0.0.1", "CVAT_FUNCTIONS_REDIS_PORT": server.port}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_object_comes_back_as_what_it_was_in_the_same_order(
    weights: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = loaded(name, weights[name], monkeypatch)
    begun = function(start(0, *SHAPES)).json()
    assert [shape["type"] for shape in begun["shapes"]] == ["rectangle", "polygon", "mask"]
    assert begun["shapes"][0]["points"] == SHAPES[0]["points"]
    assert begun["shapes"][2]["points"] == MASK
    states = begun["states"]
    for frame in (1, 2, 3):
        reply = function(go_on(frame, states))
        assert reply.status == 200
        shapes, states = reply.json()["shapes"], reply.json()["states"]
        assert [shape and shape["type"] for shape in shapes] == ["rectangle", "polygon", "mask"]
        polygon, mask = shapes[1]["points"], rle_to_mask(shapes[2]["points"])
        assert len(polygon) >= 6 and len(polygon) % 2 == 0
        assert mask.bitmap.any()
    backwards = function(go_on(3, reply.json()["states"][::-1])).json()
    assert [shape["type"] for shape in backwards["shapes"]] == ["mask", "polygon", "rectangle"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_workers_take_turns_and_nothing_changes(
    weights: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch, server: RedisServer
) -> None:
    alone = loaded(name, weights[name], monkeypatch)
    turns = [loaded(name, weights[name], monkeypatch, **stored(server)) for _ in range(2)]
    own, shared = alone(start(0, *SHAPES)).json(), turns[0](start(0, *SHAPES)).json()
    for frame in range(1, 6):
        own = alone(go_on(frame, own["states"])).json()
        shared = turns[frame % 2](go_on(frame, shared["states"])).json()
        assert own["shapes"] == shared["shapes"]
    assert max(map(len, shared["states"])) < min(map(len, own["states"]))


def test_a_frame_is_encoded_once_for_all_its_objects(weights: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    function = loaded("edgetam-tracker", weights["edgetam-tracker"], monkeypatch)
    model = function.context.user_data.function._handler._loaded
    frames: list[tuple[int, ...]] = []
    encode = model.encoder
    monkeypatch.setattr(model, "encoder", lambda pixels: (frames.append(tuple(pixels.shape)), encode(pixels))[1])
    states = function(start(0, *SHAPES * 4)).json()["states"]
    function(go_on(1, states))
    assert frames == [(1, 3, 64, 64)] * 2


def test_old_servers_send_and_get_bare_boxes(weights: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    function = loaded("edgetam-tracker", weights["edgetam-tracker"], monkeypatch)
    begun = function(start(0, [20, 22, 120, 100])).json()
    assert begun["shapes"] == [[20, 22, 120, 100]]
    followed = function(go_on(1, begun["states"])).json()["shapes"][0]
    assert len(followed) == 4
    typed = function(start(0, SHAPES[0])).json()
    assert function(go_on(1, typed["states"])).json()["shapes"][0]["points"] == followed


def test_an_object_out_of_sight_keeps_its_last_shape_and_its_state_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = save_tiny(EDGETAM_VIDEO, tmp_path, object_score=-40)
    function = loaded("edgetam-tracker", hidden, monkeypatch)
    first = function(start(0, *SHAPES)).json()
    states = first["states"]
    for frame in (1, 2):
        reply = function(go_on(frame, states)).json()
        assert reply["shapes"] == first["shapes"]
        assert reply["lost"] == [0, 1, 2]
        states = reply["states"]
    nulls = loaded("edgetam-tracker", hidden, monkeypatch, LOST="null")
    reply = nulls(go_on(1, nulls(start(0, *SHAPES)).json()["states"])).json()
    assert reply["shapes"] == [None, None, None]
    assert "lost" not in reply


def changed(state: str) -> str:
    middle = len(state) // 2
    return state[:middle] + ("A" if state[middle] != "A" else "B") + state[middle + 1 :]


REFUSED = {
    "tampered": (changed, "states[1]: the state was changed or cut"),
    "truncated": (lambda state: state[:-20], "states[1]: the state was changed or cut"),
    "empty": (lambda state: "", "states[1]: expected a state that"),
    "no text": (lambda state: {"a": 1}, "states[1]: expected a state that"),
    "of another version": (lambda state: state.replace(".2.", ".1.", 1), "states[1]: expected a state of version"),
}


@pytest.mark.parametrize("with_store", [False, True], ids=["in the payload", "in the store"])
@pytest.mark.parametrize("case", REFUSED)
def test_a_state_gone_wrong_is_refused_by_name_and_nothing_else_breaks(
    weights: dict[str, Path], monkeypatch: pytest.MonkeyPatch, server: RedisServer, case: str, with_store: bool
) -> None:
    settings = stored(server) if with_store else {}
    function = loaded("edgetam-tracker", weights["edgetam-tracker"], monkeypatch, **settings)
    states = function(start(0, *SHAPES)).json()["states"]
    change, message = REFUSED[case]
    reply = function(go_on(1, [states[0], change(states[1]), states[2]]))
    assert reply.status == 400
    assert error(reply).startswith(message)
    assert function(go_on(1, states)).status == 200


def test_foreign_states_are_refused(weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    function = loaded("edgetam-tracker", weights["edgetam-tracker"], monkeypatch)
    other = loaded("sam2-tracker", weights["sam2-tracker"], monkeypatch)
    retrained = loaded("edgetam-tracker", save_tiny(EDGETAM_VIDEO, tmp_path, seed=9), monkeypatch)
    ours = function(start(0, *SHAPES[:2])).json()["states"]
    theirs = other(start(0, SHAPES[0])).json()["states"]
    reply = function(go_on(1, [ours[0], *theirs]))
    assert (reply.status, error(reply)) == (
        400,
        "states[1]: expected a state that pytorch-facebookresearch-edgetam-tracker returned, got one it did not make",
    )
    reply = retrained(go_on(1, ours))
    assert reply.status == 400
    assert error(reply).startswith("states[0]: expected a state that this function returned, got one of another model")


def test_expired_states_are_gone(
    weights: dict[str, Path], monkeypatch: pytest.MonkeyPatch, server: RedisServer
) -> None:
    server.client.flushall()
    function = loaded("edgetam-tracker", weights["edgetam-tracker"], monkeypatch, **stored(server))
    first = function(start(0, SHAPES[0])).json()["states"]
    kept = set(server.client.scan_iter())
    assert all(8 * 3600 - 60 < server.client.ttl(key) <= 8 * 3600 for key in kept)
    second = function(start(0, SHAPES[1])).json()["states"]
    for key in set(server.client.scan_iter()) - kept:
        server.client.delete(key)
    reply = function(go_on(1, [*first, *second]))
    assert (reply.status, error(reply)) == (
        410,
        "states[1]: the state has expired; start again with the object's shape",
    )
    assert function(go_on(1, first)).status == 200


def test_when_the_store_goes_away_new_states_travel_and_old_ones_wait(
    weights: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_server() as server:
        function = loaded("edgetam-tracker", weights["edgetam-tracker"], monkeypatch, **stored(server))
        small = function(start(0, SHAPES[0])).json()["states"]
        server.stop()
        reply = function(go_on(1, small))
        assert reply.status == 503
        assert "can't be used" in error(reply)
        large = function(start(0, SHAPES[0])).json()["states"]
        assert len(large[0]) > len(small[0])
        assert function(go_on(1, large)).status == 200


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"type": "skeleton", "points": [1, 2]}, "shapes[0].type: expected"),
        ({"type": "ellipse", "points": [50, 50, 60, 40]}, "shapes[0].type: expected rectangle or polygon or mask"),
        ({"type": "rectangle", "points": [900, 900, 950, 950]}, "shapes[0]: the box"),
    ],
)
def test_shapes_that_it_cannot_follow_are_refused(
    weights: dict[str, Path], monkeypatch: pytest.MonkeyPatch, shape: dict[str, Any], message: str
) -> None:
    function: LoadedFunction = loaded("edgetam-tracker", weights["edgetam-tracker"], monkeypatch)
    reply = function(start(0, shape))
    assert reply.status == 400
    assert error(reply).startswith(message)
