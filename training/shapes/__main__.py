"""`python -m training.shapes TASK|all --out DIR`: makes the tiny networks and writes them to a directory."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training.shapes.train import TASKS, convert, export, train


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains the networks and writes their files.

    Args:
        arguments: Of the command line; None for those of this process.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog="python -m training.shapes",
        description="Trains tiny YOLO networks on drawn shapes and exports them: TASK.pt, TASK.onnx, TASK_e2e.onnx, and "
        "for detect OpenVINO's .xml and .bin. Needs the packages torch, ultralytics, onnx, onnxslim and openvino.",
    )
    parser.add_argument("task", choices=[*TASKS, "all"], help="what the network is for")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the files go")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads to use (default: 2)")
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    for name in TASKS if chosen.task == "all" else [chosen.task]:
        checkpoint = train(TASKS[name], chosen.out, chosen.threads, log=lambda line: print(line, flush=True))
        files = [checkpoint, *export(checkpoint, chosen.out)]
        if name == "detect":
            files.append(convert(chosen.out / "detect.onnx"))
        for file in files:
            print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
