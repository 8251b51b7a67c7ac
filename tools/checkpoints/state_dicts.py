"""Whose weights a checkpoint without a network holds, from the names of its tensors and of what accompanies them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from common.errors import listed
from tools.checkpoints.formats import Verdict
from tools.checkpoints.tensors import Tensor

_TO_ONNX = "export the model to ONNX with the package that trained it"
_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "ema",
    "module",
    "net",
    "weights",
    "params",
    "student",
)
_PREFIXES = ("module.", "model.", "_orig_mod.", "_model.")


@dataclass(frozen=True, slots=True)
class _Family:
    keys: tuple[str, ...]
    """Each begins the name of some tensor, or is it."""
    what: str
    remedy: str


_TORCHVISION = "serverless/pytorch/torchvision"
_FAMILIES = (
    _Family(
        ("roi_heads.keypoint_predictor.", "backbone.body."),
        "the weights of torchvision's Keypoint R-CNN",
        f"use the function {_TORCHVISION}/keypoint_detection with them: MODEL_PATH",
    ),
    _Family(
        ("roi_heads.mask_predictor.", "backbone.body."),
        "the weights of torchvision's Mask R-CNN",
        f"use the function {_TORCHVISION}/instance_segmentation with them: MODEL_PATH",
    ),
    _Family(
        ("roi_heads.box_predictor.", "backbone."),
        "the weights of torchvision's Faster R-CNN",
        f"use the function {_TORCHVISION}/detection with them: MODEL_PATH",
    ),
    _Family(
        ("head.classification_head.", "head.regression_head.", "backbone."),
        "the weights of a detector of torchvision (RetinaNet, FCOS or SSD)",
        f"use the function {_TORCHVISION}/detection with them: MODEL_PATH",
    ),
    _Family(
        ("classifier.0.", "classifier.4.", "backbone."),
        "the weights of a semantic segmentation network of torchvision",
        _TO_ONNX,
    ),
    _Family(
        ("proposal_generator.", "roi_heads.", "backbone."),
        "the weights of a Detectron2 model",
        "export the model to ONNX with Detectron2 (tools/deploy/export_model.py --format onnx)",
    ),
    _Family(
        ("image_encoder.trunk.", "memory_attention."),
        "the weights of SAM 2",
        "the function serverless/pytorch/facebookresearch/sam2 takes them as a folder of transformers (config.json, "
        "model.safetensors): MODEL_PATH",
    ),
    _Family(
        ("image_encoder.", "prompt_encoder.", "mask_decoder."),
        "the weights of Segment Anything",
        "the function serverless/pytorch/facebookresearch/sam takes them as a folder of transformers (config.json, "
        "model.safetensors): MODEL_PATH",
    ),
    _Family(
        ("transformer.", "class_embed.", "bbox_embed.", "query_embed.", "backbone.0.body."),
        "the weights of DETR (facebookresearch/detr)",
        "the function serverless/pytorch/facebookresearch/detr takes them as a folder of transformers (config.json, "
        "model.safetensors); or export the model to ONNX",
    ),
    _Family(
        ("backbone.0.encoder.encoder.", "class_embed.", "transformer."),
        "the weights of RF-DETR",
        "export them with the package rfdetr (model.export()) and give the .onnx file",
    ),
    _Family(
        ("decoder.dec_score_head.", "decoder.dec_bbox_head.", "backbone."),
        "the weights of RT-DETR, D-FINE or DEIM",
        "export them with tools/deployment/export_onnx.py (RT-DETR: tools/export_onnx.py) of their repository and give the "
        ".onnx file",
    ),
    _Family(
        ("backbone.backbone.stem.", "head.cls_preds."),
        "the weights of YOLOX",
        "export them with tools/export_onnx.py --decode_in_inference of YOLOX",
    ),
    _Family(
        ("bbox_head.", "backbone."),
        "the weights of an OpenMMLab detector",
        "export the model to ONNX with mmdeploy (tools/deploy.py)",
    ),
    _Family(
        ("conv1.weight", "layer1.0.", "fc.weight"),
        "the weights of a ResNet classifier",
        f"use the function {_TORCHVISION}/classification with them: MODEL_PATH",
    ),
    _Family(
        ("conv1.conv.weight", "layer1.0.", "fc.weight"),
        "the weights of an OSNet or a similar network",
        "export it to ONNX for serverless/onnx/embedding/reid",
    ),
)


def recognise(root: Any) -> Verdict | None:
    """What a checkpoint without a network is.

    Args:
        root: Its value.

    Returns:
        The verdict, None when there are no tensors in it.
    """
    tensors = _tensors(root)
    if not tensors:
        return None
    top = root if isinstance(root, dict) else {}
    recognised = _by_company(top, tensors)
    tensors = _without_prefixes(tensors)
    recognised = recognised or _yolo(tensors)
    if recognised is not None:
        return recognised
    for family in _FAMILIES:
        if all(any(name.startswith(key) for name in tensors) for key in family.keys):
            return Verdict(family.what, family.remedy)
    named = listed([f"{name} {list(tensor.size)}" for name, tensor in tensors.items()][:3], 3)
    more = f", {len(tensors)} in all" if len(tensors) > 3 else ""
    return Verdict(
        f"a state dict, weights without the network that they belong to ({named}{more})",
        f"{_TO_ONNX}, where its code is",
    )


def _tensors(root: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name."""
    found: Any = root
    for _ in range(4):
        if not isinstance(found, dict):
            return {}
        tensors = {name: value for name, value in found.items() if isinstance(value, Tensor) and isinstance(name, str)}
        if tensors:
            break
        found = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), dict) and found[key]), None)
    else:
        return {}
    return tensors


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a state dict without the prefixes that wrappers add to all names."""
    for prefix in _PREFIXES:
        # YOLO's own names begin with model.0, model.1, ...
        numbered = prefix == "model." and all(name[6:7].isdecimal() for name in tensors)
        if all(name.startswith(prefix) for name in tensors) and not numbered:
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _by_company(top: Mapping[Any, Any], tensors: Collection[str]) -> Verdict | None:
    meta = top.get("meta")
    if isinstance(meta, dict) and {
        "mmengine_version",
        "mmdet_version",
        "mmcv_version",
        "config",
        "cfg",
        "dataset_meta",
        "CLASSES",
    } & set(meta):
        pose = any("keypoint" in name or name.startswith("head.final_layer") for name in tensors)
        target = "serverless/onnx/open-mmlab/pose" if pose else "serverless/onnx/yolo"
        return Verdict(
            "a checkpoint of OpenMMLab (mmdet, mmpose, mmrotate, ...)",
            f"export it to ONNX with mmdeploy (tools/deploy.py), for {target}",
        )
    if "net" in top and {"actor_type", "net_type", "constructor", "net_info"} & set(top):
        return Verdict(
            "a checkpoint of a tracker of the PyTracking kind, such as TransT",
            "use the function serverless/pytorch/dschoerk/transt with it: MODEL_PATH",
        )
    if "pytorch-lightning_version" in top:
        return Verdict(
            "a checkpoint of PyTorch Lightning: weights without the network",
            "export it where its code is: model.to_onnx(path, input_sample)",
        )
    if top.get("__author__") == "Detectron2" or "matching_heuristics" in top:
        return Verdict(
            "the weights of a Detectron2 model",
            "export the model to ONNX with Detectron2 (tools/deploy/export_model.py --format onnx)",
        )
    parts = {name.split(".")[1] for name in tensors if name.count(".") > 2 and name.startswith("model.")}
    if {"encoder", "decoder"} <= parts or any(
        name.startswith(("vit.embeddings", "bert.", "dinov2.", "detr.")) for name in tensors
    ):
        return Verdict(
            "the weights of a Hugging Face transformers model",
            "save it with model.save_pretrained(folder) and give the folder, which has config.json and model.safetensors",
        )
    return None


def _yolo(tensors: Collection[str]) -> Verdict | None:
    names = [name.removeprefix("model.") for name in tensors]
    first = any(name in ("0.conv.weight", "0.conv.conv.weight") for name in names)
    if not first:
        return None
    return Verdict(
        "the weights of a YOLO model without its network (a state dict)",
        "give best.pt or last.pt as the training wrote it, which has both",
    )
