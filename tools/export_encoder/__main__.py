"""Exports the image encoder of a function of the SAM family and measures it against torch's.

    python -m tools.export_encoder FUNCTION [--variant NAME] [--model-path FOLDER] [--no-measure]

The file lies beside the weights, and the function takes it from then on (ENGINE=auto on a CPU).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.loader import load_handler_class
from common.networks.sam.export import export_function
from common.networks.sam.model import Loaded
from tools.collection import resolve

_RUNS = 5


def main(arguments: list[str] | None = None) -> int:
    """Exports an encoder and measures it.

    Args:
        arguments: The command line, without the program's name; None for that of the process.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.export_encoder", description="Exports the image encoder of a function of the SAM family."
    )
    parser.add_argument("function", help="its directory, or its name, such as pytorch/facebookresearch/edgetam")
    parser.add_argument("--variant", default=os.environ.get("VARIANT"), help="default: the one in weights.yaml")
    parser.add_argument("--model-path", default=os.environ.get("MODEL_PATH"), help="a folder with weights of your own")
    parser.add_argument("--no-measure", action="store_true", help="only export")
    given = parser.parse_args(arguments)
    try:
        directory = resolve(given.function)
        path = export_function(directory, given.variant, given.model_path)
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
        if not given.no_measure:
            measure(directory, given.variant, given.model_path)
    except (StartupError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def measure(directory: Path, variant: str | None, model_path: str | None) -> None:
    """Prints how many seconds the encoder takes for an image with each engine, the median of several runs.

    Args:
        directory: The function's directory.
        variant: The weights' variant; None for the default in weights.yaml.
        model_path: A folder with other weights; None for those of the variant.
    """
    config = replace(FunctionConfig.load(directory), workers=1)
    family = load_handler_class(directory).family  # type: ignore[attr-defined]
    image = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    for engine in ("torch", "onnxruntime", "openvino"):
        try:
            loaded = Loaded(
                config, family, variant=variant, model_path=model_path, device="cpu", engine=engine, precision="f32"
            )
        except StartupError as error:
            print(f"{engine}: {error}")
            continue
        seconds = []
        for _ in range(_RUNS + 1):  # the first run is slow
            begin = time.perf_counter()
            loaded.feature_maps(image)
            seconds.append(time.perf_counter() - begin)
        print(f"{loaded.encoder.description}: {statistics.median(seconds[1:]):.2f} s for 1280 x 720")


if __name__ == "__main__":
    sys.exit(main())
