"""Trains the tiny networks on pictures drawn for it, and writes them as files that run without PyTorch.

The networks and their losses are Ultralytics' (YOLO26, an eighth of the width, both its heads); the loop is our own, since
the truth of a drawn picture is exact and goes into the loss as it is: no data set on disk, nothing fetched.
"""

from __future__ import annotations

import ast
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.vision.letterbox import Letterbox
from training.optimization import follow, rate_share, weight_groups
from training.shapes import draw

# Before Ultralytics is imported anywhere: no look-ups on the network, and no settings file in the user's home.
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # nothing is installed while something runs
os.environ.setdefault("YOLO_CONFIG_DIR", str(Path(tempfile.gettempdir()) / "train_shapes_settings"))

WIDTH = 0.125  # of the published architecture; its smallest has 0.25
MOST_CHANNELS = 320  # before the width is applied
BATCH = 8
OPSET = 17  # the least that ONNX Runtime and OpenVINO of recent years share
# Pictures for training have this seed and the following ones, so that all below are new to the networks.
FIRST_SEED = 10_000_000

Sample = dict[str, NDArray[Any]]
Stages = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Task:
    """How the network of a task is made.

    side: of the square input in pixels. pictures: how many are drawn.
    steps: (side, batches) of each stage of training; smaller pictures first, since they are quicker.
    rate: of learning, at its highest. last_steps, last_rate: the same for the head that finds each object once; no steps
    for a network that has no such head.
    begin: the task whose trained network this one begins with, as far as the two are the same; "" for none.
    """

    name: str
    architecture: str
    names: tuple[str, ...]
    draw: Callable[[int, tuple[int, int]], draw.Scene]
    side: int
    pictures: int
    steps: Stages
    rate: float = 2e-3
    last_steps: Stages = ((320, 500),)
    last_rate: float = 1e-3
    begin: str = ""


# The head that finds each object once gains from many steps of its own: the detector's reaches a mAP50 of 0.97, and of 0.92
# with the 500 that the others have. A classifier hardly learns shapes from nothing, so it begins with the detector.
TASKS = {
    task.name: task
    for task in (
        Task(
            "detect", "yolo26", draw.SHAPES, draw.draw_shapes, 320, 2000, ((192, 1200), (320, 800)),
            last_steps=((320, 2000),), last_rate=3e-3,
        ),
        Task("segment", "yolo26-seg", draw.SHAPES, draw.draw_shapes, 320, 2000, ((192, 1200), (320, 800))),
        Task("pose", "yolo26-pose", draw.FIGURES, draw.draw_figures, 320, 2000, ((192, 1400), (320, 800))),
        Task("obb", "yolo26-obb", draw.RECTANGLES, draw.draw_rectangles, 320, 2000, ((192, 1200), (320, 800))),
        Task(
            "classify", "yolo26-cls", draw.SHAPES, draw.draw_single, 160, 2000, ((160, 800),),
            last_steps=(), begin="detect",
        ),
    )
}  # fmt: skip


def train(task: Task, out: Path, threads: int = 2, log: Callable[[str], None] = print) -> Path:
    """Trains the network of a task and writes its checkpoint `<task>.pt`.

    Args:
        task: A value of TASKS.
        out: The directory for the checkpoint; those of earlier tasks are read from it.
        threads: CPU threads to use.
        log: Called with each line of progress.

    Returns:
        The checkpoint's path.
    """
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    begin = time.monotonic()
    # Not forked: a fork of a process in which a library has threads may hang.
    with ProcessPoolExecutor(threads, multiprocessing.get_context("spawn")) as pool:
        samples = list(pool.map(_sample, [(task.name, i) for i in range(task.pictures)], chunksize=32))
    log(f"{task.name}: {len(samples)} pictures drawn in {time.monotonic() - begin:.0f} s")

    def say(line: str) -> None:
        log(f"{task.name}: {line}, {time.monotonic() - begin:.0f} s")

    model = _network(task)
    if task.begin:
        _take_over(model, out / f"{task.begin}.pt")
    model = _fit(task, model, samples, task.steps, task.rate, say)
    if task.last_steps:
        # The head that finds each object once learns from finished features, and begins as the other one ended.
        head = model.model[-1]
        for name, part in list(head.named_children()):
            if name.startswith(_ONCE):
                part.load_state_dict(getattr(head, name.removeprefix(_ONCE)).state_dict())
        model = _fit(task, model, samples, task.last_steps, task.last_rate, say, once=True)
    return _save(task, model, out)


_ONCE = "one2one_"  # how the parts of the head that finds each object once are called


def _fit(
    task: Task,
    model: Any,
    samples: list[Sample],
    stages: Stages,
    rate: float,
    say: Callable[[str], None],
    once: bool = False,
) -> Any:
    """Trains a network and returns the running average of its weights, which is better than the last ones.

    once: train the head that finds each object once, and nothing else; or all but that head.
    """
    import torch

    head, criterion = model.model[-1], model.init_criterion()
    for name, weight in model.named_parameters():
        weight.requires_grad_((_ONCE in name) == once)
    model.train(not once)
    head.training = True
    for name, part in head.named_children():
        part.train(name.startswith(_ONCE) == once)
    average = deepcopy(model)
    steps = sum(count for _, count in stages)
    optimizer = torch.optim.AdamW(weight_groups(model, 5e-3), lr=rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_share(step, steps))
    for step, (side, chosen) in enumerate(_batches(task.pictures, stages), 1):
        batch = _to_batch([samples[i] for i in chosen], side)
        found = model(batch["img"])
        if task.name == "classify":
            loss = criterion(found, batch)[0]
        elif once:
            loss = criterion.one2one.loss(found["one2one"], batch)[0].sum()
        else:
            loss = criterion.one2many.loss(found["one2many"], batch)[0].sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 10.0)
        optimizer.step()
        schedule.step()
        follow(average, model, 1 - 1 / min(step + 1, 150))
        if step % 100 == 0:
            say(f"step {step}/{steps}, loss {float(loss):.3f}")
    return average


def _sample(which: tuple[str, int]) -> Sample:
    cv2.setNumThreads(1)
    return sample(TASKS[which[0]], which[1])


def sample(task: Task, number: int) -> Sample:
    """A picture in the network's input size with its truth in parts of that size (0 to 1).

    Args:
        task: A value of TASKS.
        number: Which picture; 0, 1, ...

    Returns:
        image (side, side, 3) uint8 RGB; classes (N,); boxes (N, 4) centre and size, or (N, 5) with the angle in radians for
        obb; masks (side / 4, side / 4) uint8 with the number of the object from 1; joints (N, K, 3) x, y, visible, all 0
        where not visible.
    """
    seed = FIRST_SEED + number
    rng = np.random.default_rng(seed)
    long, ratio = rng.uniform(0.8, 2.4) * task.side, rng.uniform(0.5, 1)
    size_hw = (round(long), round(long * ratio))
    scene = task.draw(seed, size_hw if rng.random() < 0.3 else size_hw[::-1])
    things, side = scene.things, task.side
    if task.name == "classify":
        return {"image": _middle(scene.image, side), "classes": np.array([things[0].class_id])}
    fit = Letterbox.fit(scene.image.shape[:2], (side, side))
    made = {"image": fit.apply(scene.image), "classes": np.array([thing.class_id for thing in things])}
    if task.name == "obb":
        rotated = np.array([thing.rotated for thing in things])
        sizes = rotated[:, 2:4] * np.mean(fit.gain_xy)
        made["boxes"] = np.concatenate(
            (fit.to_input(rotated[:, :2]) / side, sizes / side, np.radians(rotated[:, 4:])), 1
        )
        return made
    corners = fit.to_input(np.array([thing.box_xyxy for thing in things]).reshape(-1, 2, 2)) / side
    made["boxes"] = np.concatenate((corners.mean(axis=1), corners[:, 1] - corners[:, 0]), axis=1)
    if task.name == "segment":
        made["masks"] = numbers = np.zeros((side // 4, side // 4), np.uint8)
        for i, thing in enumerate(things, 1):
            whole = fit.apply(np.repeat(thing.mask[..., None] * np.uint8(255), 3, axis=2), padding=0)[..., 0]
            numbers[cv2.resize(whole, numbers.shape, interpolation=cv2.INTER_AREA) > 127] = i
    if task.name == "pose":
        joints = np.array([[(j.x, j.y, j.visible) for j in thing.joints] for thing in things], np.float64)
        joints[..., :2] = fit.to_input(joints[..., :2]) / side
        joints[joints[..., 2] == 0] = 0
        made["joints"] = joints
    return made


def _middle(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The square in the middle of an image in `side` pixels."""
    height, width = image.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = image[top : top + short, left : left + short]
    scaled: NDArray[np.uint8] = cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA)
    return scaled


def _batches(pictures: int, stages: Stages) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """(side, numbers of the pictures) of each batch: all pictures in a new order, again and again."""
    rng = np.random.default_rng(0)
    rest = np.zeros(0, np.int64)
    for side, count in stages:
        for _ in range(count):
            if len(rest) < BATCH:
                rest = rng.permutation(pictures)
            yield side, rest[:BATCH]
            rest = rest[BATCH:]


def _to_batch(samples: list[Sample], side: int) -> dict[str, Any]:
    """What the losses of Ultralytics take; pictures and masks are scaled down when `side` is smaller than theirs."""
    import torch
    from torch.nn import functional

    images = torch.from_numpy(np.stack([sample["image"] for sample in samples])).permute(0, 3, 1, 2).float() / 255
    if side != images.shape[-1]:
        images = functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
    batch = {"img": images, "cls": torch.from_numpy(np.concatenate([s["classes"] for s in samples]))}
    if "boxes" not in samples[0]:
        return batch
    batch["batch_idx"] = torch.from_numpy(np.repeat(np.arange(len(samples)), [len(s["classes"]) for s in samples]))
    batch["bboxes"] = torch.from_numpy(np.concatenate([s["boxes"] for s in samples])).float()
    if "joints" in samples[0]:
        batch["keypoints"] = torch.from_numpy(np.concatenate([s["joints"] for s in samples])).float()
    if "masks" in samples[0]:
        masks = torch.from_numpy(np.stack([s["masks"] for s in samples])).float()
        if side // 4 != masks.shape[-1]:
            masks = functional.interpolate(masks[None], (side // 4, side // 4), mode="nearest")[0]
        # The class of each pixel, for the head that only helps the training; 0 where there is nothing.
        kinds = [np.concatenate(([0], s["classes"]))[s["masks"]] for s in samples]
        classes = torch.from_numpy(np.stack(kinds)).float()
        batch["sem_masks"] = functional.interpolate(classes[None], masks.shape[-2:], mode="nearest")[0]
        batch["masks"] = masks
    return batch


def _network(task: Task) -> Any:
    import ultralytics
    import yaml
    from ultralytics.cfg import get_cfg
    from ultralytics.nn import tasks

    folder = Path(ultralytics.__file__).parent / "cfg" / "models" / "26"
    design = yaml.safe_load((folder / f"{task.architecture}.yaml").read_text())
    design |= {"scales": {"t": [0.5, WIDTH, MOST_CHANNELS]}, "scale": "t", "nc": len(task.names)}
    classes = {
        "detect": tasks.DetectionModel,
        "segment": tasks.SegmentationModel,
        "pose": tasks.PoseModel,
        "obb": tasks.OBBModel,
        "classify": tasks.ClassificationModel,
    }
    if task.name == "pose":
        design["kpt_shape"] = [len(draw.JOINTS), 3]
    model = classes[task.name](design, nc=len(task.names), verbose=False)
    model.names = dict(enumerate(task.names))
    if task.name == "pose":
        model.kpt_names = {0: list(draw.JOINTS)}
    model.task = task.name
    model.args = get_cfg(overrides={"task": task.name, "imgsz": task.side, "overlap_mask": True})
    return model.train()


def _take_over(model: Any, checkpoint: Path) -> None:
    """Copies the weights of a trained network that have the same name and shape in this one."""
    from ultralytics import YOLO

    if not checkpoint.is_file():
        raise FileNotFoundError(f"{checkpoint}: this network begins with that one: train it first")
    trained, own = YOLO(checkpoint).model.float().state_dict(), model.state_dict()
    fitting = {name: value for name, value in trained.items() if name in own and own[name].shape == value.shape}
    model.load_state_dict(fitting, strict=False)


def _save(task: Task, model: Any, out: Path) -> Path:
    """Writes a checkpoint as Ultralytics reads it."""
    import torch
    import ultralytics

    model = deepcopy(model).half().eval()
    model.criterion, model.args = None, {"task": task.name, "imgsz": task.side, "data": None}
    path = out / f"{task.name}.pt"
    torch.save(
        {
            "model": model,
            "train_args": {"task": task.name, "imgsz": task.side},
            "epoch": -1,
            "version": ultralytics.__version__,
            "license": "AGPL-3.0 (https://ultralytics.com/license)",
        },
        path,
    )
    return path


def export(checkpoint: Path, out: Path) -> list[Path]:
    """Writes the network of a checkpoint as ONNX files.

    `<task>.onnx` gives every candidate and needs non-maximum suppression, `<task>_e2e.onnx` gives the objects themselves;
    a classifier has only the first.

    Args:
        checkpoint: A file that `train` wrote.
        out: The directory for the files.

    Returns:
        Their paths.
    """
    from ultralytics import YOLO

    made = []
    heads = {"": None} if checkpoint.stem == "classify" else {"": None, "_e2e": False}
    for suffix, nms in heads.items():
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(shutil.copy(checkpoint, folder))
            file = YOLO(copy).export(format="onnx", imgsz=TASKS[checkpoint.stem].side, nms=nms, opset=OPSET)
            made.append(Path(shutil.move(file, out / f"{checkpoint.stem}{suffix}.onnx")))
    return made


def convert(onnx_file: Path) -> Path:
    """Writes an ONNX file as OpenVINO's .xml and .bin in half precision beside it, with a metadata.yaml.

    Args:
        onnx_file: The file to convert.

    Returns:
        The path of the .xml file.
    """
    import onnx
    import openvino
    import yaml

    path = onnx_file.with_suffix(".xml")
    openvino.save_model(openvino.convert_model(onnx_file), path, compress_to_fp16=True)
    metadata = {entry.key: entry.value for entry in onnx.load(onnx_file).metadata_props}
    values = {key: _literal(text) for key, text in metadata.items()}
    path.with_name("metadata.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def _literal(text: str) -> Any:
    """The value that a text of the metadata stands for; the text itself when it is just a text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
