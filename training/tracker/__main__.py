"""Trains the network and says how well it follows shapes in clips that it has never seen.

python -m training.tracker --out FILE.onnx
python -m training.tracker --measure FILE.onnx
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from training.tracker.network import export
from training.tracker.train import train


def main(arguments: list[str] | None = None) -> int:
    """Trains or measures.

    Args:
        arguments: Of the command line; None for those of this process.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m training.tracker", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, metavar="FILE", help="the ONNX file to write")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads to use (default: 1)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    begin = time.process_time()
    network = train(given.seed, threads=given.threads, say=lambda line: print(line, flush=True))
    export(network, given.out)
    print(
        f"{given.out}: {given.out.stat().st_size / 1e6:.2f} MB, {(time.process_time() - begin) / 60:.1f} minutes of CPU"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
