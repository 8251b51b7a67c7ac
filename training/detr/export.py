"""Writes an RT-DETR as an ONNX file with outputs `logits` and `pred_boxes`, as exports from the Hugging Face hub have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.onnx_file import write_onnx


def export(network: Any, folder: Path, side: int) -> Path:
    """Writes `model.onnx`, its weights in half precision, with `config.json` and `preprocessor_config.json` beside it.

    Args:
        network: An RTDetrForObjectDetection in inference mode.
        folder: Where the files go; it is made.
        side: Of the square input in pixels.

    Returns:
        The ONNX file's path.
    """
    import torch
    from transformers import RTDetrImageProcessor

    class Outputs(torch.nn.Module):  # type: ignore[misc]
        """The network with nothing but the two outputs."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixel_values: Any) -> tuple[Any, Any]:
            found = self.network(pixel_values=pixel_values)
            return found.logits, found.pred_boxes

    path = folder / "model.onnx"
    write_onnx(Outputs().eval(), path, {"pixel_values": (1, 3, side, side)}, ("logits", "pred_boxes"))
    network.config.save_pretrained(folder)
    RTDetrImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)
    return path
