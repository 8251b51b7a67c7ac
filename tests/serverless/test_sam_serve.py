"""EdgeTAM under tools.serve with two workers each and a real Redis: what workers share, seen from outside."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from common.networks.sam.model import EDGETAM, EDGETAM_VIDEO
from tests.common.networks.sam.tiny_models import save_tiny
from tests.redis_server import RedisServer, redis_server
from tests.serverless.sam_functions import click, encoded, noise
from tests.tools.test_serve import Server

CLICKS, FRAMES = "pytorch-facebookresearch-edgetam", "pytorch-facebookresearch-edgetam-tracker"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer, cache: Path) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("weights")
    settings = {
        f"{CLICKS}:MODEL_PATH": save_tiny(EDGETAM, root / "clicks"),
        f"{FRAMES}:MODEL_PATH": save_tiny(EDGETAM_VIDEO, root / "frames"),
        "EMBEDDING_CACHE_DIR": cache,
        "CVAT_FUNCTIONS_REDIS_HOST": "127.0.0.1",
        "CVAT_FUNCTIONS_REDIS_PORT": redis.port,
        "THREADS": 1,
    }
    options = [part for name, value in settings.items() for part in ("--env", f"{name}={value}")]
    running = Server(CLICKS, FRAMES, "--workers", "2", *options)
    running.wait_for("Ctrl-C stops everything", 240)
    yield running
    assert running.stop() == 0, running.output


def encodings(*replies: httpx.Response) -> int:
    """How many of the replies took an encoding of the image."""
    return sum("embedding;" in reply.headers["server-timing"] for reply in replies)


def test_two_clicks_at_the_same_time_are_encoded_once_and_any_worker_goes_on(server: Server) -> None:
    body = click(noise(1, 640, 480), (200, 240))
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: server.direct(CLICKS, body), range(2)))
        later = list(pool.map(lambda _: server.direct(CLICKS, body), range(8)))
    assert [reply.status_code for reply in together + later] == [200] * 10
    assert encodings(*together, *later) == 1
    assert len({reply.text for reply in together + later}) == 1
    assert server.invoke(CLICKS, body).text == together[0].text


def test_a_container_that_has_lost_its_files_finds_the_embedding_in_the_store(
    server: Server, redis: RedisServer, cache: Path
) -> None:
    body = click(noise(2, 640, 480), (200, 240))
    first = server.direct(CLICKS, body)
    assert encodings(first) == 1
    for _ in range(200):
        if any(key.startswith(b"embedding:") for key in redis.client.scan_iter()):
            break
    for file in cache.rglob("*.safetensors"):
        file.unlink()
    second = server.direct(CLICKS, body)
    assert encodings(second) == 0
    assert second.text == first.text


def test_a_mask_goes_over_the_wire_as_gzip(server: Server) -> None:
    body = click(noise(3, 1280, 960), (400, 500), obj_bbox=[[100, 100], [1100, 900]])
    reply = server.direct(CLICKS, body)
    assert reply.headers["content-encoding"] == "gzip"
    assert int(reply.headers["content-length"]) < len(reply.content) / 10
    assert server.direct(CLICKS, body, headers={"Accept-Encoding": "identity"}).content == reply.content


def test_objects_are_followed_by_whichever_worker_is_free_and_bad_states_are_refused(server: Server) -> None:
    shapes = [
        {"type": "rectangle", "points": [20, 22, 120, 100]},
        {"type": "polygon", "points": [30, 30, 140, 40, 120, 120, 40, 110]},
    ]
    begun = server.direct(FRAMES, {"image": encoded(noise(0)), "shapes": shapes, "states": []})
    assert begun.status_code == 200
    states = begun.json()["states"]
    assert max(map(len, states)) < 600
    for frame in range(1, 5):
        body = {"image": encoded(noise(frame)), "shapes": [None, None], "states": states}
        with ThreadPoolExecutor(2) as pool:  # both workers, from the same states
            replies = list(pool.map(lambda b: server.direct(FRAMES, b), [body, body]))
        assert replies[0].json()["shapes"] == replies[1].json()["shapes"]
        states = replies[frame % 2].json()["states"]
    bad = server.direct(FRAMES, {**body, "states": [states[0], states[1][:-9]]})
    assert bad.status_code == 400
    assert bad.json()["error"].startswith("states[1]: the state was changed or cut")
    assert server.direct(FRAMES, {**body, "states": states}).status_code == 200
