"""SAM, SAM 2, EdgeTAM and SAM 3 by clicks, through their real main.py: replies, kept embeddings, and who shares them."""

from __future__ import annotations

import base64
import gzip
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import StartupError
from common.networks.huggingface.library import offline_transformers
from common.networks.sam.model import EDGETAM, SAM, SAM2, SAM3
from common.serving.kinds.interactor import BLOB_FUNCTION
from common.shapes import Mask
from common.vision.mask import mask_to_outline
from tests.common.networks.sam.tiny_models import save_tiny, save_vit_h
from tests.redis_server import RedisServer, redis_server, silent_server
from tests.serverless.sam_functions import FACEBOOK, bitmap, click, encoded, error, iou, loaded, noise, stages
from tools.wrapper import LoadedFunction, Reply

FUNCTIONS = {"sam": SAM, "sam2": SAM2, "edgetam": EDGETAM, "sam3": SAM3}
SIZE_HW = (150, 200)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("weights")
    return {name: save_tiny(family, root / name) for name, family in FUNCTIONS.items()}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


def handler_of(function: LoadedFunction) -> Any:
    return function.context.user_data.function._handler


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_click_gives_the_models_mask_cropped_with_its_outline(
    weights: dict[str, Path], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = loaded(name, weights[name], monkeypatch, tmp_path)
    image = noise(1)
    reply = function(click(image, (60, 70)))
    assert reply.status == 200
    found = bitmap(reply, SIZE_HW)
    handler = handler_of(function)
    from common.protocol import Prompt  # the same question, asked without Nuclio

    expected = handler.segment(handler.embed(image), Prompt(np.array([[60.0, 70]]), np.zeros((0, 2))))
    assert expected.any()
    np.testing.assert_array_equal(found, expected)
    outline = np.array(reply.json()["points"])
    np.testing.assert_allclose(outline, np.round(mask_to_outline(Mask.from_full(expected), 1.0), 2))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_second_click_neither_decodes_nor_encodes_the_image(
    weights: dict[str, Path], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = loaded(name, weights[name], monkeypatch, tmp_path)
    first = function(click(noise(2), (60, 70)))
    assert "embedding" in stages(first)

    def refuse(*_: Any) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("common.serving.kinds.interactor.decode_image", refuse)
    second = function(click(noise(2), (60, 70)))
    assert second.status == 200
    assert "embedding" not in stages(second)
    assert second.body == first.body
    assert function(click(noise(3), (60, 70))).status == 500, "another image is another matter"


def test_a_second_worker_finds_what_the_first_has_encoded(
    weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = [loaded("edgetam", weights["edgetam"], monkeypatch, tmp_path) for _ in range(2)]
    first = workers[0](click(noise(4), (60, 70)))
    second = workers[1](click(noise(4), (60, 70)))
    assert "embedding" in stages(first)
    assert "embedding" not in stages(second)
    assert first.body == second.body


def test_other_weights_or_another_precision_find_nothing(
    weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    loaded("edgetam", weights["edgetam"], monkeypatch, cache)(click(noise(5), (60, 70)))
    other = save_tiny(EDGETAM, tmp_path / "other", seed=3)
    assert "embedding" in stages(loaded("edgetam", other, monkeypatch, cache)(click(noise(5), (60, 70))))
    exact = loaded("edgetam", weights["edgetam"], monkeypatch, cache, EMBEDDING_PRECISION="f32")
    assert "embedding" in stages(exact(click(noise(5), (60, 70))))


def test_two_clicks_on_a_new_image_at_the_same_time_encode_it_once(
    weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = [loaded("edgetam", weights["edgetam"], monkeypatch, tmp_path) for _ in range(3)]
    encoded_by: list[int] = []
    for i, worker in enumerate(workers):
        embed = handler_of(worker).embed

        def slowly(image: Any, i: int = i, embed: Any = embed) -> Any:
            encoded_by.append(i)
            time.sleep(0.3)
            return embed(image)

        monkeypatch.setattr(handler_of(worker), "embed", slowly)
    replies: list[Reply] = []
    threads = [
        threading.Thread(target=lambda w=worker: replies.append(w(click(noise(6), (60, 70))))) for worker in workers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(encoded_by) == 1
    assert [reply.status for reply in replies] == [200] * 3
    assert len({reply.body for reply in replies}) == 1


def test_replicas_share_embeddings_through_the_store(
    weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: RedisServer
) -> None:
    store = {"CVAT_FUNCTIONS_REDIS_HOST": "127.0.0.1", "CVAT_FUNCTIONS_REDIS_PORT": server.port}
    one = loaded("sam2", weights["sam2"], monkeypatch, tmp_path / "one", **store)
    other = loaded("sam2", weights["sam2"], monkeypatch, tmp_path / "other", **store)
    first = one(click(noise(7), (60, 70)))
    assert one.context.user_data.function.cache._store.drain(5)
    second = other(click(noise(7), (60, 70)))
    assert "embedding" in stages(first)
    assert "embedding" not in stages(second)
    assert first.body == second.body


@pytest.mark.parametrize("how", ["down", "silent"])
def test_a_store_that_does_not_answer_costs_nothing_but_the_hit(
    weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    with silent_server() as silent, redis_server() as gone:
        gone.stop()
        port = {"down": gone.port, "silent": silent}[how]
        store = {"CVAT_FUNCTIONS_REDIS_HOST": "127.0.0.1", "CVAT_FUNCTIONS_REDIS_PORT": port}
        function = loaded("edgetam", weights["edgetam"], monkeypatch, tmp_path, **store)
        without = loaded("edgetam", weights["edgetam"], monkeypatch, tmp_path / "without", CVAT_FUNCTIONS_REDIS_HOST="")
        assert function(click(noise(8), (60, 70))).body == without(click(noise(8), (60, 70))).body
        waited = 0.0
        for seed in range(20, 26):
            begin = time.perf_counter()
            reply = function(click(noise(seed), (60, 70)))
            waited += time.perf_counter() - begin - sum(stages(reply).values()) / 1000
            assert reply.status == 200
        assert waited < 1, "asked in vain each time it would be 1.8 s"


def test_without_a_cache_every_click_encodes(
    weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = loaded("edgetam", weights["edgetam"], monkeypatch, tmp_path, EMBEDDING_CACHE_MB=0)
    replies = [function(click(noise(9), (60, 70))) for _ in range(2)]
    assert all("embedding" in stages(reply) for reply in replies)
    assert not list(tmp_path.iterdir())
    kept = loaded("edgetam", weights["edgetam"], monkeypatch, tmp_path, EMBEDDING_CACHE_MB=10)
    assert kept(click(noise(9), (60, 70))).body == replies[0].body


def test_a_prompt_that_grows_by_a_click_starts_from_its_last_mask(
    weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = loaded("edgetam", weights["edgetam"], monkeypatch, tmp_path / "a")
    fresh = loaded("edgetam", weights["edgetam"], monkeypatch, tmp_path / "b")
    without = loaded("edgetam", weights["edgetam"], monkeypatch, tmp_path / "c", MASK_HINTS="no")
    two = click(noise(10), (60, 70), neg_points=[[150, 20]])
    for worker in (function, without):
        worker(click(noise(10), (60, 70)))
    grown, at_once, plain = (bitmap(worker(two), SIZE_HW) for worker in (function, fresh, without))
    np.testing.assert_array_equal(at_once, plain)
    assert np.count_nonzero(grown != plain) > 0
    np.testing.assert_array_equal(bitmap(function(two), SIZE_HW), grown, "the same question, the same answer")
    unrelated = click(noise(10), (20, 30), neg_points=[[150, 20]])
    assert function(unrelated).body == without(unrelated).body


BAD = {
    "a point outside": ({"pos_points": [[60, 500]]}, "pos_points[0]: expected a point inside the image of 200 x 150"),
    "a box outside": ({"obj_bbox": [[-9, 4], [30, 40]]}, "obj_bbox[0]: expected a point inside the image"),
    "no prompt": ({"pos_points": []}, "pos_points: expected at least one positive point or a box"),
    "no image": ({"image": base64.b64encode(b"text").decode()}, "image: expected an image file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_are_refused_before_and_after_the_image_is_known(
    weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    function = loaded("edgetam", weights["edgetam"], monkeypatch, tmp_path)
    change, message = BAD[case]
    for _ in range(2):
        reply = function({**click(noise(11), (60, 70)), **change})
        assert reply.status == 400
        assert message in error(reply)
        assert "embedding" not in stages(reply), "nothing was encoded for a bad request"
        assert function(click(noise(11), (60, 70))).status == 200


def test_a_large_mask_goes_as_gzip_to_who_accepts_it(
    weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = loaded("sam", weights["sam"], monkeypatch, tmp_path)
    body = click(noise(12, 900, 700), (300, 200), obj_bbox=[[100, 90], [700, 600]])
    plain, small = function(body), function(body, headers={"Accept-Encoding": "gzip, deflate"})
    assert small.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(small.body) == plain.body
    assert len(small.body) < len(plain.body) / 10


class TestBlob:
    """The one id whose replies CVAT's UI decodes itself."""

    @pytest.fixture(scope="class")
    @staticmethod
    def vit_h(tmp_path_factory: pytest.TempPathFactory) -> Path:
        return save_vit_h(tmp_path_factory.mktemp("vit_h"))

    def test_under_its_id_the_reply_is_the_embedding(
        self, vit_h: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        function = loaded("sam", vit_h, monkeypatch, tmp_path, NUCLIO_FUNCTION_NAME=BLOB_FUNCTION)
        image = noise(13)
        for body in (click(image, (60, 70)), {"image": encoded(image)}):
            reply = function(body)
            assert reply.status == 200
            assert reply.json().keys() == {"blob"}
            blob = np.frombuffer(base64.b64decode(reply.json()["blob"]), "<f4").reshape(1, 256, 64, 64)
        transformers = offline_transformers()
        model = transformers.SamModel.from_pretrained(vit_h, local_files_only=True).eval()
        pixels = transformers.SamImageProcessor()(image, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            expected = model.get_image_embeddings(pixels).numpy()
        np.testing.assert_allclose(blob, expected, atol=1e-3 * np.abs(expected).max())  # kept in half precision

    def test_under_any_other_id_it_is_a_mask(
        self, vit_h: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        function = loaded("sam", vit_h, monkeypatch, tmp_path)
        reply = function(click(noise(13), (60, 70)))
        assert reply.json().keys() == {"mask", "bounds", "points"}

    def test_another_size_of_sam_cannot_have_its_id(
        self, weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(StartupError, match="with the decoder of ViT-H: set VARIANT=sam-vit-huge"):
            loaded("sam", weights["sam"], monkeypatch, tmp_path, NUCLIO_FUNCTION_NAME=BLOB_FUNCTION)

    def test_another_model_cannot_have_its_id(
        self, weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(StartupError, match="deploy it under another name"):
            loaded("sam2", weights["sam2"], monkeypatch, tmp_path, NUCLIO_FUNCTION_NAME=BLOB_FUNCTION)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_without_weights_the_start_says_how_to_get_them(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEVICE", "cpu")
    if (FACEBOOK / name / "weights").exists():
        pytest.skip("its weights are here")
    with pytest.raises(StartupError, match=r"fetch: \S*python -m common\.networks\.weights .* --variant"):
        LoadedFunction(FACEBOOK / name, unique=True)


def test_half_precision_changes_next_to_nothing(
    weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = click(noise(14), (60, 70), (120, 90))
    half = loaded("sam2", weights["sam2"], monkeypatch, tmp_path)
    full = loaded("sam2", weights["sam2"], monkeypatch, tmp_path, EMBEDDING_PRECISION="f32")
    assert iou(bitmap(half(body), SIZE_HW), bitmap(full(body), SIZE_HW)) > 0.99
