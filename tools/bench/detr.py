"""A detector of D-FINE-S's size, JPEG request to JSON reply: against its engine alone, and against the plain way.

The weights are random (speed is the same), and a threshold that leaves thirty objects. Needs torch and transformers.
"""

from __future__ import annotations

import base64
import io
import json
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.errors import StartupError
from tools.bench.yolo import measure_detector, picture

_SIDE = 640
_CLASSES = 80


def run() -> None:
    """Measures, and prints the times."""
    with tempfile.TemporaryDirectory() as folder:
        weights = random_weights(Path(folder) / "model")
        measure_detector("D-FINE-S", Path(folder), weights, {"plain way, torch": partial(_plain, weights.parent)})


def random_weights(folder: Path) -> Path:
    """A D-FINE-S with random weights, as transformers saves it and as an ONNX file.

    Args:
        folder: Where to write both, with config.json and preprocessor_config.json.

    Returns:
        The ONNX file.

    Raises:
        StartupError: A package is missing.
    """
    try:
        import torch
        from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config, RTDetrImageProcessor
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise StartupError("this measurement needs torch and transformers: make bench installs them") from error
    disable_progress_bar()
    backbone = HGNetV2Config(
        stem_channels=[3, 16, 16],
        stage_in_channels=[16, 64, 256, 512],
        stage_mid_channels=[16, 32, 64, 128],
        stage_out_channels=[64, 256, 512, 1024],
        hidden_sizes=[64, 256, 512, 1024],
        stage_num_blocks=[1, 1, 2, 1],
        stage_numb_of_layers=[3, 3, 3, 3],
        use_learnable_affine_block=True,
        out_indices=[2, 3, 4],
    )
    config = DFineConfig(
        backbone_config=backbone,
        freeze_backbone_batch_norms=False,
        encoder_in_channels=[256, 512, 1024],
        decoder_layers=3,
        hidden_expansion=0.5,
        depth_mult=0.34,
        id2label={i: f"class {i}" for i in range(_CLASSES)},
    )
    torch.manual_seed(0)
    network = DFineForObjectDetection(config).eval()
    _vary(network)
    network.save_pretrained(folder)
    RTDetrImageProcessor(size={"height": _SIDE, "width": _SIDE}).save_pretrained(folder)
    path = folder / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, about sizes that are fixed here
        torch.onnx.export(
            _outputs(network),
            (torch.zeros(1, 3, _SIDE, _SIDE),),
            str(path),
            input_names=["pixel_values"],
            output_names=["logits", "pred_boxes"],
            opset_version=17,
            dynamo=False,
        )
    return path


def _vary(network: Any) -> None:
    """Makes what a network of random weights gives depend on the picture, with scores of all sizes."""
    import torch

    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    pixels = torch.from_numpy(picture((_SIDE, _SIDE)).copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        for norm in norms:  # each layer's statistics from a picture
            norm.momentum, norm.training = 1.0, True
        network(pixel_values=pixels)
        network.eval()
        for name, weight in network.named_parameters():
            if "class_embed" in name or "enc_score_head" in name:
                if weight.ndim > 1:
                    weight.normal_(0, 1.5 / weight.shape[1] ** 0.5)
                else:
                    weight.fill_(-4.0)


def _outputs(network: Any) -> Any:
    """A module that returns the two outputs of exports alone."""
    import torch

    class Outputs(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixel_values: Any) -> tuple[Any, Any]:
            found = self.network(pixel_values=pixel_values)
            return found.logits, found.pred_boxes

    return Outputs().eval()


def _plain(folder: Path, body: bytes) -> Callable[[], str]:
    """What most functions for CVAT do: Pillow, numpy, the package, json."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    processor = AutoImageProcessor.from_pretrained(folder)
    network = AutoModelForObjectDetection.from_pretrained(folder).eval()

    def run() -> str:
        request = json.loads(body)
        image = Image.open(io.BytesIO(base64.b64decode(request["image"]))).convert("RGB")
        with torch.inference_mode():
            outputs = network(**processor(images=[image], return_tensors="pt"))
        (found,) = processor.post_process_object_detection(
            outputs, threshold=request["threshold"], target_sizes=[(image.height, image.width)]
        )
        return json.dumps(
            [
                {
                    "confidence": str(float(score)),
                    "label": network.config.id2label[int(label)],
                    "points": np.asarray(box).tolist(),
                    "type": "rectangle",
                }
                for score, label, box in zip(found["scores"], found["labels"], found["boxes"], strict=True)
            ]
        )

    return run
