"""Tiny random networks of transformers' DETR family with their processors, exported to ONNX as people export them."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
import transformers

CLASSES = ("person", "car", "dog")
SIDE = 64
_LABELS = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: i for i, name in enumerate(CLASSES)}}
_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
_RT_RESNET = _RESNET | {"model_type": "rt_detr_resnet", "out_indices": [2, 3, 4]}
_HGNET = {
    "model_type": "hgnet_v2",
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 16, 24, 32],
    "stage_mid_channels": [8, 8, 8, 8],
    "stage_out_channels": [16, 24, 32, 48],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_downsample": [False, True, True, True],
    "stage_light_block": [False, False, True, True],
    "stage_kernel_size": [3, 3, 3, 3],
    "stage_numb_of_layers": [1, 1, 1, 1],
    "embedding_size": 8,
    "hidden_sizes": [16, 24, 32, 48],
    "depths": [1, 1, 1, 1],
    "out_indices": [2, 3, 4],
    "use_learnable_affine_block": True,
}
_DETR = {
    "backbone_config": _RESNET | {"out_features": ["stage4"]},
    "use_timm_backbone": False,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "num_queries": 20,
}
_RT = {
    "encoder_hidden_dim": 32,
    "encoder_layers": 1,
    "encoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "d_model": 32,
    "num_queries": 20,
    "decoder_in_channels": [32, 32, 32],
    "decoder_ffn_dim": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "num_denoising": 0,
    "hidden_expansion": 0.5,
}
_RF = {
    "backbone_config": {
        "model_type": "rf_detr_dinov2",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "mlp_ratio": 2,
        "image_size": SIDE,
        "patch_size": 16,
        "num_windows": 2,
        "out_features": ["stage1", "stage2"],
    },
    "d_model": 32,
    "decoder_ffn_dim": 32,
    "decoder_layers": 1,
    "decoder_self_attention_heads": 2,
    "decoder_cross_attention_heads": 2,
    "decoder_n_points": 2,
    "num_queries": 10,
    "group_detr": 1,
    "intermediate_size": 32,
}
_YOLOS = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": [SIDE, SIDE],
    "patch_size": 16,
    "num_detection_tokens": 20,
}
_CLASSES_SPREAD = 2.0
_IS_CLASSES = re.compile("class|score")
_EDGES = {"shortest_edge": SIDE, "longest_edge": 96}
_SQUARE = {"height": SIDE, "width": SIDE}


@dataclass(frozen=True)
class Kind:
    """A kind of network: its configuration, class and processor."""

    config: type[Any]
    settings: Mapping[str, Any]
    network: type[Any]
    processor: type[Any]
    size: Mapping[str, int]
    free: bool = False
    """Whether it is exported with a free input size."""
    spread: float = 1.0
    """Of the weights of the head that gives boxes."""
    gain: float = 0.7
    """Of all other weights: the higher, the more a pixel matters."""


_T: Any = transformers
KINDS = {
    "detr": Kind(_T.DetrConfig, _DETR, _T.DetrForObjectDetection, _T.DetrImageProcessor, _EDGES, free=True),
    "detr_seg": Kind(
        _T.DetrConfig,
        _DETR
        | {"backbone_config": _RESNET | {"out_features": ["stage1", "stage2", "stage3", "stage4"]}}
        | {"encoder_attention_heads": 8, "decoder_attention_heads": 8},
        _T.DetrForSegmentation,
        _T.DetrImageProcessor,
        _SQUARE,
    ),
    "yolos": Kind(_T.YolosConfig, _YOLOS, _T.YolosForObjectDetection, _T.YolosImageProcessor, _SQUARE),
    "conditional_detr": Kind(
        _T.ConditionalDetrConfig,
        _DETR,
        _T.ConditionalDetrForObjectDetection,
        _T.ConditionalDetrImageProcessor,
        _EDGES,
        free=True,
    ),
    "deformable_detr": Kind(
        _T.DeformableDetrConfig,
        _DETR
        | {
            "backbone_config": _RESNET | {"out_features": ["stage2", "stage3", "stage4"]},
            "num_feature_levels": 3,
            "decoder_layers": 2,
        },
        _T.DeformableDetrForObjectDetection,
        _T.DeformableDetrImageProcessor,
        _SQUARE,
    ),
    "rt_detr": Kind(
        _T.RTDetrConfig,
        _RT | {"backbone_config": _RT_RESNET, "encoder_in_channels": [16, 24, 32]},
        _T.RTDetrForObjectDetection,
        _T.RTDetrImageProcessor,
        _SQUARE,
    ),
    "rt_detr_v2": Kind(
        _T.RTDetrV2Config,
        _RT | {"backbone_config": _RT_RESNET, "encoder_in_channels": [16, 24, 32]},
        _T.RTDetrV2ForObjectDetection,
        _T.RTDetrImageProcessor,
        _SQUARE,
    ),
    "d_fine": Kind(
        _T.DFineConfig,
        _RT | {"backbone_config": _HGNET, "encoder_in_channels": [24, 32, 48], "lqe_hidden_dim": 8},
        _T.DFineForObjectDetection,
        _T.RTDetrImageProcessor,
        _SQUARE,
    ),
    "deimv2": Kind(
        _T.Deimv2Config,
        _RT | {"backbone_config": _HGNET, "encoder_in_channels": [24, 32, 48], "lqe_hidden_dim": 8},
        _T.Deimv2ForObjectDetection,
        _T.RTDetrImageProcessor,
        _SQUARE,
    ),
    "rf_detr": Kind(
        _T.RfDetrConfig, _RF, _T.RfDetrForObjectDetection, _T.RfDetrImageProcessor, _SQUARE, spread=0.5, gain=0.4
    ),
    "rf_detr_seg": Kind(
        _T.RfDetrConfig, _RF, _T.RfDetrForInstanceSegmentation, _T.RfDetrImageProcessor, _SQUARE, spread=0.5, gain=0.3
    ),
}


def network(name: str) -> tuple[Any, Any]:
    """A random network and its processor.

    The weights are drawn again with more spread: as they are, all places of an image look alike, and ties decide.

    Args:
        name: One of KINDS.
    """
    torch.manual_seed(7)
    kind = KINDS[name]
    model = kind.network(kind.config(**kind.settings, **_LABELS)).eval()
    with torch.no_grad():
        for part, module in model.named_modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                inputs = module.weight[0].numel()
                spread = kind.spread if "bbox" in part else _CLASSES_SPREAD if _IS_CLASSES.search(part) else kind.gain
                module.weight.normal_(0, spread / inputs**0.5)
                if module.bias is not None:
                    module.bias.normal_(0, 0.2)
            elif isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)) and module.weight is not None:
                module.weight.normal_(1, 0.2)
                module.bias.normal_(0, 0.2)
            elif isinstance(module, nn.Embedding):
                module.weight.normal_(0, 1)
        for part, values in model.named_parameters():
            if "detection_tokens" in part or "query" in part.rpartition(".")[2]:
                values.normal_(0, 1)
    return model, kind.processor(size=dict(kind.size))


class NamedOutputs(nn.Module):
    """The outputs that exporters name, in their order."""

    def __init__(self, model: Any, names: tuple[str, ...], masked: bool):
        super().__init__()
        self.model, self.names, self.masked = model, names, masked

    def forward(self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        inputs = {"pixel_mask": pixel_mask} if self.masked else {}
        outputs = self.model(pixel_values=pixel_values, **inputs)
        return tuple(outputs[name] for name in self.names)


def export(folder: Path, model: Any, processor: Any, *, free: bool = False, masked: bool = False) -> Path:
    """Writes model.onnx with config.json and preprocessor_config.json beside it, as optimum does.

    Args:
        folder: Where to.
        model: From `network`.
        processor: From `network`.
        free: Whether height and width of the input are free.
        masked: Whether the input pixel_mask is exported too.
    """
    names = ("logits", "pred_boxes", *(("pred_masks",) if "Segment" in type(model).__name__ else ()))
    inputs = [torch.rand(1, 3, SIDE, SIDE + (32 if free else 0))]
    if masked:
        inputs.append(torch.ones(1, *inputs[0].shape[2:], dtype=torch.int64))
    input_names = ["pixel_values", "pixel_mask"][: len(inputs)]
    axes = {"pixel_values": {2: "height", 3: "width"}, "pixel_mask": {1: "height", 2: "width"}}
    path = folder / "model.onnx"
    write_onnx(
        path,
        NamedOutputs(model, names, masked),
        inputs,
        input_names,
        names,
        {name: axes[name] for name in input_names} if free else None,
    )
    model.config.save_pretrained(folder)
    processor.save_pretrained(folder)
    return path


def write_onnx(
    path: Path,
    module: nn.Module,
    inputs: Sequence[torch.Tensor],
    input_names: Sequence[str],
    output_names: Sequence[str],
    free: Mapping[str, Mapping[int, str]] | None = None,
) -> Path:
    """Writes a module as ONNX.

    Args:
        path: The file.
        module: What to export.
        inputs: An example of each input.
        input_names: Their names.
        output_names: The outputs' names.
        free: The free axes of each input.
    """
    with mock.patch.object(nn.functional, "interpolate", _interpolate), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            tuple(inputs),
            str(path),
            input_names=list(input_names),
            output_names=list(output_names),
            opset_version=17,
            dynamo=False,
            dynamic_axes=None if free is None else {name: dict(axes) for name, axes in free.items()},
        )
    return path


_original_interpolate = nn.functional.interpolate


def _interpolate(values: torch.Tensor, size: Any = None, *arguments: Any, **options: Any) -> torch.Tensor:
    """Without the step that ONNX has no operator for, where it changes nothing: position embeddings of the right size."""
    if size is not None and options.get("antialias") and [int(side) for side in size] == list(values.shape[2:]):
        return values
    return _original_interpolate(values, size, *arguments, **options)
