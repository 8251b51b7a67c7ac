"""Trains the network and says how well it does on drawings that it has never seen.

python -m training.clicks --minutes 26 --out FOLDER
python -m training.clicks --measure FOLDER
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from training.clicks.network import save_network
from training.clicks.train import train
from training.clicks.trial import click_ious, track_ious


def main(arguments: list[str] | None = None) -> int:
    """Trains or measures.

    Args:
        arguments: Of the command line; None for those of this process.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m training.clicks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=26, help="of computing time, all cores together (default: 26)")
    parser.add_argument("--out", type=Path, help="where the folder with the network goes")
    parser.add_argument("--measure", type=Path, metavar="FOLDER", help="only measure a network")
    parser.add_argument("--start", type=Path, metavar="FOLDER", help="train this network further")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    if (given.out is None) == (given.measure is None):
        parser.error("give either --out or --measure")
    if given.out is not None:
        begin = time.monotonic()
        network = train(
            given.minutes * 60, seed=given.seed, start=given.start, say=lambda line: print(line, flush=True)
        )
        save_network(network, given.out)
        print(f"{given.out}: trained in {(time.monotonic() - begin) / 60:.1f} minutes")
    measure(given.out or given.measure)
    return 0


def measure(folder: Path) -> None:
    """Prints mean IoUs of clicks, boxes and following.

    Args:
        folder: The network's.
    """
    for prompt in ("click", "box"):
        ious = click_ious(folder, 200, prompt=prompt)
        print(
            f"a {prompt}: mean IoU {ious.mean():.3f}, {np.mean(ious > 0.8):.0%} above 0.8, on {len(ious)} unseen drawings"
        )
    for occluded in (False, True):
        ious = track_ious(folder, 20, 21, occluded=occluded)
        print(
            f"{'a shape that gets covered' if occluded else 'a moving shape'}: mean IoU {np.nanmean(ious):.3f}, "
            f"{np.nanmean(ious[:, -1]):.3f} in the last of 20 frames, on {len(ious)} unseen clips"
        )


if __name__ == "__main__":
    sys.exit(main())
