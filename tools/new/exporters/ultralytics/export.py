"""Exports a .pt file with Ultralytics' package, and writes down what the .pt itself answers on some pictures.

Run as a script, by a Python that has the package; it imports nothing of this collection.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

LOWEST_SCORE = 0.001
MOST = 30  # detections of a picture, the best ones


def main(job: Path) -> None:
    """Carries out a job.

    Args:
        job: A JSON file with `model`, the name of the .pt file beside it, next to which the ONNX file is written; `size`, [height,
            width] or null for the size that it was trained with; `pictures`, files of numpy arrays, (H, W, 3) uint8 RGB. For
            each picture the answer is written beside it, as .npz; and `report.json` beside the job.
    """
    given = json.loads(job.read_text(encoding="utf-8"))
    os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_CONFIG_DIR": str(job.parent)}
    import ultralytics
    from ultralytics import YOLO

    model: Any = YOLO(given["model"])
    # A list, as its options have it, is (height, width).
    size = given["size"] or model.overrides.get("imgsz") or (224 if model.task == "classify" else 640)
    slim = importlib.util.find_spec("onnxslim") is not None
    path = model.export(format="onnx", imgsz=size, simplify=slim, device="cpu", verbose=False)
    size = _exported_size(path)
    model = YOLO(given["model"])  # the export has changed the other one
    for picture in given["pictures"]:
        image = np.load(picture)
        (result,) = model.predict(
            np.ascontiguousarray(image[..., ::-1]),
            imgsz=size,
            conf=LOWEST_SCORE,
            max_det=300,
            rect=False,
            retina_masks=True,
            device="cpu",
            verbose=False,
            save=False,
        )
        np.savez(Path(picture).with_suffix(".npz"), **_answer(result.cpu().numpy()))
    report = {"onnx": str(path), "task": model.task, "version": ultralytics.__version__}
    (job.parent / "report.json").write_text(json.dumps(report), encoding="utf-8")


def _answer(result: Any) -> dict[str, Any]:
    if result.probs is not None:
        return {"probabilities": np.asarray(result.probs.data)}
    boxes = result.boxes if result.obb is None else result.obb
    answer = {"scores": np.asarray(boxes.conf), "classes": np.asarray(boxes.cls)}
    if result.obb is not None:
        answer["rotated"] = rotated = np.asarray(boxes.xywhr)
        inside = ((rotated[:, :2] >= 0) & (rotated[:, :2] <= result.orig_shape[::-1])).all(axis=1)
        usable = inside & (rotated[:, 2:4] > 0).all(axis=1)
    else:
        answer["boxes"] = upright = np.asarray(boxes.xyxy)
        usable = (upright[:, 2:] > upright[:, :2]).all(axis=1)
    if result.masks is not None:
        answer["masks"] = np.asarray(result.masks.data, np.bool_)
        usable &= answer["masks"].any(axis=(1, 2))
    if result.keypoints is not None:
        answer["joints"] = np.asarray(result.keypoints.data)
    # Boxes without area, and what is outside, are no annotations.
    best = [i for i in np.argsort(-answer["scores"], kind="stable") if usable[i]][:MOST]
    return {name: values[best] for name, values in answer.items()}


def _exported_size(path: str) -> list[int]:
    import onnx

    entries = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
    sizes: list[int] = json.loads(entries["imgsz"])
    return sizes


if __name__ == "__main__":
    main(Path(sys.argv[1]))
