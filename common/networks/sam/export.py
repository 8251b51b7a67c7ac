"""Exports the image encoder of a SAM function to ONNX, beside its weights, where the function finds it at start.

    python -m common.networks.sam.export DIRECTORY [--variant NAME] [--model-path FOLDER]

ONNX Runtime and OpenVINO both run the file. Needs torch and onnx; at image build or by hand, never at request time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pybase64

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.loader import load_handler_class
from common.networks.sam.model import (
    EXPORTED,
    PROBE_KEY,
    WEIGHTS_KEY,
    Family,
    feature_maps,
    load_model,
    model_folder,
    model_side,
    probe_pixels,
    probe_values,
    weights_digest,
)
from common.networks.weights import locate

_OPSET = 17


def export_function(directory: str | Path, variant: str | None = None, model_path: str | None = None) -> Path:
    """Exports the encoder of a function.

    Args:
        directory: The function's.
        variant: A name in its weights.yaml; None for the default.
        model_path: A folder of weights that takes precedence over it.

    Returns:
        The exported file.

    Raises:
        StartupError: The function has no model of the SAM family, or its weights are missing.
    """
    config = FunctionConfig.load(directory)
    family = getattr(load_handler_class(config.directory), "family", None)
    if not isinstance(family, Family):
        raise StartupError(f"{config.name}: its handler has no model of the SAM family")
    return export_encoder(model_folder(locate(config, variant, model_path)), family)


def export_encoder(folder: Path, family: Family) -> Path:
    """Exports the encoder of a model, beside its weights; the file is written completely or not at all.

    Args:
        folder: The model's, as published.
        family: Which generation it is of.

    Returns:
        The exported file.
    """
    import onnx
    import torch

    model = load_model(folder, family)
    side = model_side(model)

    class Encoder(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: Any) -> tuple[Any, ...]:
            return tuple(feature_maps(self.model, self.model.vision_encoder(pixels, return_dict=True)))

    encoder = Encoder().eval()  # the exporter restores the mode of a module and of all modules in it
    pixels = torch.zeros(1, 3, side, side)
    with tempfile.TemporaryDirectory(dir=folder) as scratch, torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of every size that it takes for constant: all of them are
        path = Path(scratch) / EXPORTED
        count = len(encoder(pixels))
        torch.onnx.export(
            encoder,
            (pixels,),
            str(path),
            dynamo=False,
            opset_version=_OPSET,
            input_names=["pixels"],
            output_names=[f"map{i}" for i in range(count)],
        )
        probe = [probe_values(each.numpy()) for each in encoder(torch.from_numpy(probe_pixels(side)))]
        properties = {
            WEIGHTS_KEY: weights_digest(folder),
            PROBE_KEY: pybase64.b64encode_as_string(np.concatenate(probe).tobytes()),
        }
        exported = onnx.load(str(path))
        onnx.helper.set_model_props(exported, properties)
        onnx.save(exported, str(path))
        os.replace(path, folder / EXPORTED)
    return folder / EXPORTED


def main(arguments: list[str] | None = None) -> int:
    """Exports, and prints where to.

    Args:
        arguments: Of the command line; None for this process's own.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog="python -m common.networks.sam.export", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("directory", type=Path, help="a function's directory")
    parser.add_argument("--variant", default=os.environ.get("VARIANT"), help="default: the one in weights.yaml")
    parser.add_argument("--model-path", default=os.environ.get("MODEL_PATH"), help="a folder with weights of your own")
    given = parser.parse_args(arguments)
    begin = time.monotonic()
    try:
        path = export_function(given.directory, given.variant, given.model_path)
    except StartupError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB in {time.monotonic() - begin:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
