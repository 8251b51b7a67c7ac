"""A detector of YOLO11n's size, JPEG request to JSON reply: against its engine alone, and against the plain way.

The weights are random (speed is the same), and a threshold that leaves thirty objects. Needs the package ultralytics.
"""

from __future__ import annotations

import base64
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from common.cvat.request import detector_body
from common.errors import StartupError
from common.networks.exported.model import ExportedModel
from common.networks.runtime import limit_threads
from tools.bench.compare import report, silence, times_ms
from tools.new.facts import Given
from tools.new.function import Plan, write_function
from tools.new.labels import make_labels
from tools.new.readers.exported import read_exported
from tools.wrapper import LoadedFunction

SIZES = {"1080p": (1080, 1920), "4K": (2160, 3840)}
OBJECTS = 30


def run() -> None:
    """Measures, and prints the times."""
    with tempfile.TemporaryDirectory() as folder:
        for task in ("detect", "segment"):
            weights = random_weights(Path(folder), task)
            _measure(Path(folder), task, weights)


def random_weights(folder: Path, task: str) -> Path:
    """A YOLO11n with random weights, exported to ONNX by Ultralytics' package, with its .pt file beside it.

    Args:
        folder: Where to write both.
        task: detect or segment.

    Returns:
        The ONNX file.

    Raises:
        StartupError: The package ultralytics is not installed.
    """
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # nothing is installed while something runs
    try:
        import torch
        from ultralytics import YOLO
    except ImportError as error:
        raise StartupError(
            "the plain way of this measurement needs the package ultralytics: make bench installs it"
        ) from error
    torch.manual_seed(0)
    model = YOLO("yolo11n.yaml" if task == "detect" else "yolo11n-seg.yaml")
    with torch.no_grad():
        norms = [module for module in model.model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        model.model.eval()
        for norm in norms:  # each layer's statistics from a picture, so that what it gives depends on the picture
            norm.momentum, norm.training = 1.0, True
        pixels = torch.from_numpy(picture((640, 640)).copy()).permute(2, 0, 1)[None].float() / 255
        model.model(pixels)
        model.model.eval()
        for level in model.model.model[-1].cv3:
            level[-1].weight.normal_(0, 0.5 / level[-1].in_channels ** 0.5)
            level[-1].bias.fill_(-4.5)
    path = folder / f"yolo11n-{task}.pt"
    model.save(str(path))
    return Path(YOLO(str(path)).export(format="onnx", imgsz=640, verbose=False))


def picture(size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Discs on a smooth background, as hard to decode for a JPEG decoder as a photograph.

    Args:
        size_hw: Height and width in pixels.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = size_hw
    random = np.random.default_rng(4)
    image = cv2.resize(random.integers(0, 256, (27, 48, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(60):
        center = int(random.integers(0, width)), int(random.integers(0, height))
        cv2.circle(
            image, center, int(random.integers(4, height // 6)), [int(v) for v in random.integers(0, 256, 3)], -1
        )
    noise = random.normal(0, 6, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _measure(folder: Path, task: str, weights: Path) -> None:
    from ultralytics import YOLO

    packaged = {"torch": YOLO(str(weights.with_suffix(".pt"))), "onnx": YOLO(str(weights), task=task)}
    plain = {f"plain way, {kind}": partial(_plain, network) for kind, network in packaged.items()}
    measure_detector(f"YOLO11n {task}", folder, weights, plain)


def measure_detector(
    title: str, folder: Path, weights: Path, plain: Mapping[str, Callable[[bytes], Callable[[], Any]]]
) -> None:
    """Measures a function that `make new` would make of a file, and prints the times.

    Args:
        title: What is measured.
        folder: Where the functions are made.
        weights: The model file, of known class names.
        plain: Other ways of doing the same, by name: they take the request's body and return what to call.
    """
    threads = limit_threads(1)
    facts = read_exported(weights, Given(str(weights)))
    assert facts.names is not None
    labels = make_labels(facts.names, facts.task)
    functions = {}
    with silence():
        for precision in ("f32", "bf16"):
            directory = folder / f"bench-{facts.task}-{precision}"
            directory.mkdir()
            plan = Plan(directory.name, "detector", labels, options={"PRECISION": precision}, facts=facts)
            write_function(directory, plan)
            path = directory / "function.yaml"  # all cores for one worker; functions have two by custom
            path.write_text(path.read_text().replace("numWorkers: 2", "numWorkers: 1"))
            functions[precision] = LoadedFunction(directory, unique=True)
    model = ExportedModel(weights, threads=threads)
    for name, size_hw in SIZES.items():
        image = picture(size_hw)
        jpeg = simplejpeg.encode_jpeg(image, quality=90)
        threshold = float(model.find(simplejpeg.decode_jpeg(jpeg), 0.05).scores[OBJECTS])
        body = json.dumps(detector_body(jpeg, threshold)).encode()
        inputs = model.prepare(image, model.fit(image.shape))

        def engine_and_decode(jpeg: bytes = jpeg, inputs: Any = inputs) -> Any:
            simplejpeg.decode_jpeg(jpeg)
            return model.run(inputs)

        base = "engine + JPEG decode"
        alternatives: dict[str, Callable[[], Any]] = {
            base: engine_and_decode,
            "request": partial(functions["f32"], body),
            "request, PRECISION=bf16": partial(functions["bf16"], body),
        }
        alternatives |= {key: make(body) for key, make in plain.items()}
        with silence():
            found = len(functions["f32"](body).json())
            times = times_ms(alternatives, rounds=9)
        told = f"{title}, {name} JPEG of {len(jpeg) / 1e6:.1f} MB, {found} found; {model.engine}, {threads} threads"
        report(told, times, base, {key: f"= {times[key] / times['request']:.2f} x request" for key in plain})


def _plain(network: Any, body: bytes) -> Callable[[], str]:
    """What most functions for CVAT do: Pillow, numpy, the package, json."""

    def run() -> str:
        request = json.loads(body)
        image = np.array(Image.open(io.BytesIO(base64.b64decode(request["image"]))).convert("RGB"))
        (result,) = network.predict(
            image[..., ::-1], conf=request["threshold"], imgsz=640, verbose=False, retina_masks=True
        )
        results = []
        for i, box in enumerate(result.boxes):
            annotation = {
                "confidence": str(float(box.conf)),
                "label": result.names[int(box.cls)],
                "points": box.xyxy[0].tolist(),
                "type": "rectangle",
            }
            if result.masks is not None:
                mask = result.masks.data[i].cpu().numpy().astype(np.uint8)
                left, top, right, bottom = (int(v) for v in box.xyxy[0])
                crop = mask[top : bottom + 1, left : right + 1]
                flat = [*crop.ravel().tolist(), left, top, left + crop.shape[1] - 1, top + crop.shape[0] - 1]
                contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
                outline = max(contours, key=len).ravel().tolist() if contours else []
                annotation |= {"type": "mask", "mask": flat, "points": outline}
            results.append(annotation)
        return json.dumps(results)

    return run
