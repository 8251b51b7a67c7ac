"""Trains the network and says how well it follows shapes in clips that it has never seen.

python -m training.tracker --out FILE.onnx
python -m training.tracker --measure FILE.onnx
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from training.tracker.network import export
from training.tracker.train import train
from training.tracker.trial import follow, start, unseen_clips

_LENGTH, _GONE = 30, 5  # frames with the shape, and without it


def main(arguments: list[str] | None = None) -> int:
    """Trains or measures.

    Args:
        arguments: Of the command line; None for those of this process.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m training.tracker", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, metavar="FILE", help="the ONNX file to write")
    parser.add_argument("--measure", type=Path, metavar="FILE", help="only measure a network")
    parser.add_argument("--clips", type=int, default=10, help="to measure on (default: 10)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads to use (default: 1)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    if (given.out is None) == (given.measure is None):
        parser.error("give either --out or --measure")
    if given.out is not None:
        begin = time.process_time()
        network = train(given.seed, threads=given.threads, say=lambda line: print(line, flush=True))
        export(network, given.out)
        minutes = (time.process_time() - begin) / 60
        print(f"{given.out}: {given.out.stat().st_size / 1e6:.2f} MB, {minutes:.1f} minutes of CPU")
    print(measured(given.out or given.measure, given.clips))
    return 0


def measured(path: Path, count: int) -> str:
    """How well a network follows shapes, in a line of text.

    Args:
        path: Its ONNX file.
        count: How many unseen clips.
    """
    function = start(path.resolve())
    scores = [follow(function, trial) for trial in unseen_clips(count, _LENGTH, gone=_GONE)]
    ious = np.concatenate([score.ious for score in scores])
    lost = np.concatenate([score.lost for score in scores])
    worst = min(float(np.mean(score.ious)) for score in scores)
    return (
        f"{count} unseen clips of {_LENGTH} frames: mean IoU {ious.mean():.3f}, {worst:.3f} in the worst clip; "
        f"lost in {lost.mean():.0%} of the {_GONE} frames after the shape has gone"
    )


if __name__ == "__main__":
    sys.exit(main())
