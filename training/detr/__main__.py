"""Trains the network and says how well it does on drawings that it has never seen.

python -m training.detr --out FOLDER
python -m training.detr --measure FOLDER
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from common.networks.engine import open_engine
from training.detr.export import export
from training.detr.train import SIDE, STAGES, train
from training.shapes.measure import Found, Tally, fresh_scenes


def main(arguments: list[str] | None = None) -> int:
    """Trains or measures.

    Args:
        arguments: Of the command line; None for those of this process.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m training.detr", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="where the folder with model.onnx and config.json goes")
    parser.add_argument("--measure", type=Path, metavar="FOLDER", help="only measure a network")
    parser.add_argument("--pictures", type=int, default=100, help="to measure on (default: 100)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads to use (default: 1)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    if (given.out is None) == (given.measure is None):
        parser.error("give either --out or --measure")
    if given.out is not None:
        begin = time.process_time()
        network = train(given.seed, stages=STAGES, threads=given.threads, say=lambda line: print(line, flush=True))
        path = export(network, given.out, SIDE)
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {(time.process_time() - begin) / 60:.1f} minutes of CPU")
    print(measured((given.out or given.measure) / "model.onnx", given.pictures))
    return 0


def measured(path: Path, count: int, threshold: float = 0.5) -> str:
    """How well a network finds shapes, in a line of text.

    Args:
        path: Its ONNX file.
        count: How many unseen drawings.
        threshold: The lowest score of what counts as found.
    """
    import cv2

    engine = open_engine(path, threads=1)
    numbers = Tally()
    for scene in fresh_scenes("detect", count):
        height, width = scene.image.shape[:2]
        pixels = cv2.resize(scene.image, (SIDE, SIDE)).astype(np.float32).transpose(2, 0, 1)[None] / 255
        logits, boxes = (output[0] for output in engine.run([pixels]))
        scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
        corners = np.concatenate((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), axis=1)
        corners = corners * (width, height, width, height)
        found = [
            Found(int(one.argmax()), float(one.max()), box)
            for one, box in zip(scores, corners, strict=True)
            if one.max() >= threshold
        ]
        numbers.add(scene.things, found)
    return (
        f"{count} unseen drawings with {numbers.things} shapes: {len(numbers.box_ious)} found "
        f"({len(numbers.box_ious) / numbers.things:.1%}), {numbers.extra} extra, mean IoU {np.mean(numbers.box_ious):.3f}"
    )


if __name__ == "__main__":
    sys.exit(main())
