"""Clicks and frames with networks of real size and random weights: what kept embeddings, workers and the store are worth.

The weights being random, the decoder's last layer is fitted to the one object of the picture, so that masks, replies and
what follows the decoder are as large as they would be. Needs torch, and redis-server for the lines about the store.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.cvat.reply import read_interactor_reply, read_tracker_reply
from common.cvat.request import interactor_body, tracker_body
from common.shapes import Rectangle
from tests.redis_server import RedisServer, redis_server
from tools.bench.compare import report, times_ms
from tools.collection import COLLECTION
from tools.wrapper import LoadedFunction, Reply, variables

_FACEBOOK = COLLECTION / "pytorch/facebookresearch"
_SIZE_HW = (2160, 3840)
_OBJECT = (1900, 1000, 250)  # x, y, radius: 500 x 500 pixels
_IMAGES, _LIMIT_MB = 500, 256
_OBJECTS = 20
_GZIP = {"Accept-Encoding": "gzip"}


def run() -> None:
    """Measures, and prints the times."""
    if importlib.util.find_spec("transformers") is None:
        print("\nSAM: left out, torch and transformers are not installed (serverless/pytorch/base/requirements.txt)")
        return
    with tempfile.TemporaryDirectory() as scratch, variables({"DEVICE": "cpu", "ENGINE": "auto"}):
        _clicks(Path(scratch))
        _memory(Path(scratch))
        _frames(Path(scratch))


def _clicks(scratch: Path) -> None:
    image = _picture()
    weights = _save("Sam2Model", scratch / "sam2", image)
    x, y, _ = _OBJECT
    body = json.dumps(interactor_body(_jpeg(image), pos_points=[(x, y)]))
    with _redis() as redis:
        store = _store_settings(redis)

        def worker(cache: str, **more: str) -> LoadedFunction:
            settings = {"MODEL_PATH": str(weights), "EMBEDDING_CACHE_DIR": str(scratch / cache), **store, **more}
            with variables(settings):
                return LoadedFunction(_FACEBOOK / "sam2", unique=True)

        one, other = worker("one"), worker("one")
        replica = worker("replica")
        without = worker("none", EMBEDDING_CACHE_MB="0")
        firsts = []
        for _ in range(3):
            _empty(scratch / "one")
            if redis:
                redis.client.flushall()
            firsts.append(_timed(lambda: one(body, headers=_GZIP)))
        reply = one(body, headers=_GZIP)
        cache = one.context.user_data.function.cache
        if redis:
            assert cache._store.drain(60)

        def through_the_store() -> Reply:
            _empty(scratch / "replica")
            return replica(body, headers=_GZIP)

        alternatives = {
            "decoder alone": _decoder_alone(one, image),
            "second click": lambda: one(body, headers=_GZIP),
            "through a second worker": lambda: other(body, headers=_GZIP),
        }
        if redis:
            alternatives["through the store"] = through_the_store
        times = times_ms(alternatives, rounds=11)
        times["first click"] = float(np.median(firsts))
        times["encoding every time"] = float(
            np.median([_timed(lambda: without(body, headers=_GZIP)) for _ in range(3)])
        )
    report(
        "A click on an object of 500 x 500 in 3840 x 2160, SAM 2.1 tiny's size, everything from JSON to JSON",
        times,
        "decoder alone",
    )
    print(f"  the first click takes {times['first click'] / times['second click']:.0f} x as long as the second")
    plain = one(body)
    height, width = read_interactor_reply(plain.body).bitmap.shape
    print(
        f"  reply: {len(reply.body) / 1000:.1f} kB on the wire ({len(plain.body) / 1000:.0f} kB before gzip), "
        f"mask of {width} x {height}"
    )
    print(f"  the function's own times: {reply.headers['Server-Timing']}")


def _decoder_alone(function: LoadedFunction, image: NDArray[np.uint8]) -> Any:
    import torch

    from common.networks.sam.interactor import prompt_tensors
    from common.protocol import Prompt

    handler = function.context.user_data.function._handler
    embedding = handler.embed(image)
    maps = [torch.from_numpy(each).float() for each in embedding.maps]
    prompt = Prompt(np.array([_OBJECT[:2]], np.float64), np.zeros((0, 2)))
    inputs = prompt_tensors(prompt, _SIZE_HW, handler._loaded.side, handler.family)

    def decode() -> Any:
        with torch.inference_mode():
            return handler._loaded.model(image_embeddings=maps, multimask_output=True, **inputs)

    return decode


def _memory(scratch: Path) -> None:
    """Runs in a process of its own, so that only what the worker holds is counted."""
    weights = _save("Sam2Model", scratch / "light", None, backbone=_LIGHT_BACKBONE)
    settings = {
        "MODEL_PATH": str(weights),
        "EMBEDDING_CACHE_DIR": str(scratch / "memory"),
        "EMBEDDING_CACHE_MB": str(_LIMIT_MB),
    }
    command = [sys.executable, "-c", "from tools.bench.sam import memory_worker; memory_worker()"]
    environment = {**os.environ, **settings}
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout  # noqa: S603 - ourselves
    rows = [tuple(map(float, line.split())) for line in output.splitlines() if line[:1].isdigit()]
    images, resident, kept = (np.array(column) for column in zip(*rows, strict=True))
    full = kept > 0.95 * _LIMIT_MB
    print(f"\n{_IMAGES} different images through a worker with EMBEDDING_CACHE_MB={_LIMIT_MB}")
    _plot(images, {"resident memory of the worker": resident, "embeddings in files": kept})
    steady = resident[full]
    print(f"  once the files have reached the limit: resident memory {steady.min():.0f} to {steady.max():.0f} MB")


def memory_worker() -> None:
    """Prints, every ten images, their number, this process's resident memory and the kept embeddings, both in MB."""
    import psutil  # type: ignore[import-untyped]

    function = LoadedFunction(_FACEBOOK / "sam2", unique=True)
    cache, process = function.context.user_data.function.cache, psutil.Process()
    for number in range(_IMAGES):
        picture = np.full((480, 640, 3), number % 256, np.uint8)
        picture[: number // 256 + 1] = 0
        reply = function(interactor_body(_jpeg(picture), pos_points=[(320, 240)]))
        assert reply.status == 200, reply.body
        if number % 10 == 9:
            print(number + 1, process.memory_info().rss / 1e6, cache.size() / 1e6, flush=True)


def _frames(scratch: Path) -> None:
    image = _picture()[::3, ::3]
    file = _jpeg(image)
    x, y, radius = (v / 3 for v in _OBJECT)
    shape = Rectangle(box_xyxy=(x - radius, y - radius, x + radius, y + radius))
    print(f"\nTracking in {image.shape[1]} x {image.shape[0]}, seconds a frame with all memories full")
    with _redis() as redis:
        for name, model, objects in (
            ("edgetam-tracker", "EdgeTamVideoModel", (1, _OBJECTS)),
            ("sam2-tracker", "Sam2VideoModel", (1, 4)),
        ):
            weights = _save(model, scratch / name, None)
            sizes = {}
            for where, server in (("payload", None), ("store", redis)) if redis else (("payload", None),):
                with variables({"MODEL_PATH": str(weights), **_store_settings(server)}):
                    function = LoadedFunction(_FACEBOOK / name, unique=True)
                states = read_tracker_reply(function(tracker_body(file, [shape])).body).states
                for _ in range(8):
                    states = read_tracker_reply(function(tracker_body(file, states=states)).body).states
                sizes[where] = len(states[0])
            seconds = {}
            for count in objects:
                body = tracker_body(file, states=states * count)
                seconds[count] = min(_timed(partial(function, json.dumps(body))) for _ in range(2)) / 1000
            few, many = objects
            each = (seconds[many] - seconds[few]) / (many - few)
            print(
                f"  {name}: {few} object {seconds[few]:.2f} s, {many} objects {seconds[many]:.2f} s "
                f"({seconds[many] / seconds[few]:.1f} x), {each:.2f} s for each one more; state of an object: "
                + ", ".join(f"{size / 1000:.1f} kB in the {where}" for where, size in sizes.items())
            )


_LIGHT_BACKBONE = {
    "model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [1024, 1024], "blocks_per_stage": [1, 1, 1, 1],
    "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 1, 1],
    "window_size_per_stage": [8, 4, 8, 4], "global_attention_blocks": [],
}  # fmt: skip


def _save(name: str, folder: Path, image: NDArray[np.uint8] | None, backbone: Mapping[str, Any] | None = None) -> Path:
    """A folder with a model of the published size and random weights, fitted to find the object of an image."""
    import torch

    from common.networks.huggingface.library import offline_transformers
    from common.networks.sam.model import SAM2, feature_maps

    transformers = offline_transformers()
    torch.manual_seed(0)
    config_class = getattr(transformers, name.removesuffix("Model") + "Config")
    vision: dict[str, Any] = {}
    if backbone is not None:
        widths = backbone["embed_dim_per_stage"][::-1]
        vision = {"vision_config": {"backbone_config": dict(backbone), "backbone_channel_list": widths}}
    elif name.startswith("EdgeTam"):
        timm = transformers.TimmWrapperConfig(
            architecture="repvit_m1",
            model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
        )
        vision = {"vision_config": transformers.EdgeTamVisionConfig(backbone_config=timm)}
    model = getattr(transformers, name)(config_class(**vision)).eval()
    decoder = model.mask_decoder
    with torch.no_grad():
        decoder.pred_obj_score_head.proj_out.bias.fill_(9)  # the object is in sight
        for head in decoder.output_hypernetworks_mlps:
            head.proj_out.weight.zero_()
            head.proj_out.bias.zero_()
    if image is not None:
        found: list[Any] = []
        watch = decoder.upscale_conv2.register_forward_hook(lambda _m, _i, output: found.append(output))
        pixels = getattr(transformers, SAM2.image_processor)()(image, return_tensors="pt")["pixel_values"]
        point = torch.tensor([[[[_OBJECT[0] * 1024 / _SIZE_HW[1], _OBJECT[1] * 1024 / _SIZE_HW[0]]]]])
        with torch.no_grad():
            fine = feature_maps(model, model.vision_encoder(pixels, return_dict=True))[0]
            model(pixel_values=pixels, input_points=point, input_labels=torch.ones(1, 1, 1, dtype=torch.int64))
            upscaled = decoder.activation(found[0] + fine)[0].flatten(1).T
            truth = cv2.resize(_truth().astype(np.float32), (256, 256), interpolation=cv2.INTER_AREA)
            wanted = torch.from_numpy(truth).flatten() * 2 - 1
            fitted = torch.linalg.lstsq(upscaled, wanted[:, None]).solution[:, 0]
            for head in decoder.output_hypernetworks_mlps:
                head.proj_out.bias.copy_(fitted)
        watch.remove()
    model.save_pretrained(folder)
    return folder


def _truth() -> NDArray[np.bool_]:
    x, y, radius = _OBJECT
    return np.asarray(cv2.circle(np.zeros(_SIZE_HW, np.uint8), (x, y), radius, 1, -1) > 0)


def _picture() -> NDArray[np.uint8]:
    """A bright disc on a dark ground with some grain."""
    grain = np.random.default_rng(0).integers(0, 40, (*_SIZE_HW, 3), np.uint8)
    grain[_truth()] += 190
    return grain


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]))[1].tobytes()


def _timed(call: Any) -> float:
    begin = time.perf_counter()
    reply = call()
    assert reply.status == 200, reply.body[:300]
    return (time.perf_counter() - begin) * 1000


def _empty(parent: Path) -> None:
    for file in parent.rglob("*.safetensors"):
        file.unlink()


def _plot(x: NDArray[Any], curves: Mapping[str, NDArray[Any]], width: int = 72, height: int = 14) -> None:
    """Curves of megabytes over the number of images, as text."""
    top = max(float(values.max()) for values in curves.values()) * 1.05
    canvas = [[" "] * width for _ in range(height)]
    for (name, values), mark in zip(curves.items(), "*o", strict=True):
        for column in range(width):
            value = float(np.interp(x[0] + (x[-1] - x[0]) * column / (width - 1), x, values))
            canvas[height - 1 - int(value / top * (height - 1))][column] = mark
        print(f"  {mark} {name}, MB")
    for i, row in enumerate(canvas):
        label = f"{top * (height - 1 - i) / (height - 1):.0f}" if i in (0, height // 2, height - 1) else ""
        print(f"  {label:>5} |{''.join(row)}")
    print(
        f"  {'':>5} +{'-' * width}\n  {'':>5}  {x[0]:.0f}{'images':>{width // 2}}{x[-1]:>{width - width // 2 - len(f'{x[0]:.0f}')}.0f}"
    )


def _redis() -> contextlib.AbstractContextManager[RedisServer | None]:
    """A Redis for the time being; None, and a line that says so, where there is no redis-server."""
    if shutil.which("redis-server"):
        return redis_server()
    print("\n(redis-server is not installed: the lines about the store are left out)")
    return contextlib.nullcontext()


def _store_settings(redis: RedisServer | None) -> dict[str, str]:
    if redis is None:
        return {}
    return {"CVAT_FUNCTIONS_REDIS_HOST": "127.0.0.1", "CVAT_FUNCTIONS_REDIS_PORT": str(redis.port)}
