"""Tiny random models of each architecture, saved as folders like the published ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from common.networks.huggingface.library import offline_transformers

transformers = offline_transformers()

NAMES = ("person", "car", "dog")
_LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}
_STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}
_RESNET = {"model_type": "resnet", **_STAGES, "out_features": ["stage4"]}
_ALL_STAGES = ["stage1", "stage2", "stage3", "stage4"]
_RT_RESNET = {"model_type": "rt_detr_resnet", **_STAGES, "out_indices": [2, 3, 4]}
_HGNET = {
    "model_type": "hgnet_v2", "stem_channels": [3, 8, 8], "stage_in_channels": [8, 16, 24, 32],
    "stage_mid_channels": [8, 8, 8, 8], "stage_out_channels": [16, 24, 32, 48], "stage_num_blocks": [1, 1, 1, 1],
    "stage_downsample": [False, True, True, True], "stage_light_block": [False, False, True, True],
    "stage_kernel_size": [3, 3, 3, 3], "stage_numb_of_layers": [1, 1, 1, 1], "embedding_size": 8,
    "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1], "out_indices": [2, 3, 4],
    "use_learnable_affine_block": True,
}  # fmt: skip
_SWIN = {
    "model_type": "swin", "image_size": 64, "patch_size": 4, "embed_dim": 8, "depths": [1, 1, 1, 1],
    "num_heads": [1, 2, 2, 2], "window_size": 2, "out_features": ["stage1", "stage2", "stage3", "stage4"],
}  # fmt: skip
_DETR = {
    "backbone_config": _RESNET, "d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_queries": 20,
}  # fmt: skip
_RT_DETR = {
    "encoder_hidden_dim": 32, "encoder_layers": 1, "encoder_ffn_dim": 32, "encoder_attention_heads": 2, "d_model": 32,
    "num_queries": 20, "decoder_in_channels": [32, 32, 32], "decoder_ffn_dim": 32, "decoder_layers": 2,
    "decoder_attention_heads": 2, "num_denoising": 0, "hidden_expansion": 0.5,
}  # fmt: skip
_D_FINE = {**_RT_DETR, "backbone_config": _HGNET, "encoder_in_channels": [24, 32, 48], "lqe_hidden_dim": 8}
_RF_DETR = {
    "backbone_config": {
        "model_type": "rf_detr_dinov2", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "mlp_ratio": 2, "image_size": 64, "patch_size": 16, "num_windows": 2, "out_features": ["stage1", "stage2"],
    },
    "d_model": 32, "decoder_ffn_dim": 32, "decoder_layers": 1, "decoder_self_attention_heads": 2,
    "decoder_cross_attention_heads": 2, "decoder_n_points": 2, "num_queries": 10, "group_detr": 1,
    "intermediate_size": 32,
}  # fmt: skip
_YOLOS = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": [64, 96],
    "patch_size": 16, "num_detection_tokens": 10,
}  # fmt: skip
_LW_DETR = {
    "backbone_config": {
        "model_type": "lw_detr_vit", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2,
        "image_size": 64, "pretrain_image_size": 64, "patch_size": 16, "num_windows": 4, "window_block_indices": [0],
        "out_indices": [1, 2],
    },
    "d_model": 32, "decoder_ffn_dim": 32, "decoder_layers": 1, "decoder_self_attention_heads": 2,
    "decoder_cross_attention_heads": 2, "decoder_n_points": 2, "num_queries": 10, "group_detr": 1,
    "hidden_expansion": 0.5, "projector_scale_factors": [1.0],
}  # fmt: skip
_MASK2FORMER = {
    "backbone_config": _SWIN, "feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 32,
    "encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "dim_feedforward": 32, "num_queries": 10,
}  # fmt: skip
_MASKFORMER = {
    "backbone_config": _SWIN, "fpn_feature_size": 32, "mask_feature_size": 32,
    "decoder_config": {"model_type": "detr", **{k: v for k, v in _DETR.items() if k != "backbone_config"}, "num_queries": 10},
}  # fmt: skip
_ONEFORMER = {
    "backbone_config": _SWIN, "hidden_dim": 32, "mask_dim": 32, "conv_dim": 32, "encoder_feedforward_dim": 32,
    "encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "dim_feedforward": 32, "num_queries": 10,
    "text_encoder_width": 32, "text_encoder_vocab_size": 600, "text_encoder_num_layers": 1, "task_seq_len": 77,
    "text_encoder_context_length": 77, "is_training": False,
}  # fmt: skip
_EOMT = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 64, "patch_size": 16,
    "num_blocks": 1, "num_queries": 10, "num_register_tokens": 1,
}  # fmt: skip
_SEGFORMER = {
    "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16,
}  # fmt: skip
_SQUARE = {"size": {"height": 64, "width": 64}}
_EDGES = {"size": {"shortest_edge": 64, "longest_edge": 96}}

# The model's class: its configuration's, the configuration, its preprocessing's, the preprocessing.
_MODELS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "DetrForObjectDetection": ("DetrConfig", {**_DETR, "use_timm_backbone": False}, "DetrImageProcessor", _EDGES),
    "ConditionalDetrForObjectDetection": (
        "ConditionalDetrConfig", {**_DETR, "use_timm_backbone": False}, "ConditionalDetrImageProcessor", _EDGES,
    ),
    "DeformableDetrForObjectDetection": (
        "DeformableDetrConfig",
        {**_DETR, "use_timm_backbone": False, "num_feature_levels": 1, "encoder_n_points": 2, "decoder_n_points": 2},
        "DeformableDetrImageProcessor", _EDGES,
    ),
    "DabDetrForObjectDetection": (
        "DabDetrConfig",
        {**{k: v for k, v in _DETR.items() if k != "d_model"}, "hidden_size": 32, "use_timm_backbone": False},
        "ConditionalDetrImageProcessor", _EDGES,
    ),
    "TableTransformerForObjectDetection": (
        "TableTransformerConfig", {**_DETR, "use_timm_backbone": False}, "DetrImageProcessor", _EDGES,
    ),
    "YolosForObjectDetection": ("YolosConfig", _YOLOS, "YolosImageProcessor", _EDGES),
    "RTDetrForObjectDetection": (
        "RTDetrConfig", {**_RT_DETR, "backbone_config": _RT_RESNET, "encoder_in_channels": [16, 24, 32]},
        "RTDetrImageProcessor", _SQUARE,
    ),
    "RTDetrV2ForObjectDetection": (
        "RTDetrV2Config", {**_RT_DETR, "backbone_config": _RT_RESNET, "encoder_in_channels": [16, 24, 32]},
        "RTDetrImageProcessor", _SQUARE,
    ),
    "DFineForObjectDetection": ("DFineConfig", _D_FINE, "RTDetrImageProcessor", _SQUARE),
    "Deimv2ForObjectDetection": ("Deimv2Config", _D_FINE, "RTDetrImageProcessor", _SQUARE),
    # Published with the preprocessing of DETR.
    "RfDetrForObjectDetection": ("RfDetrConfig", _RF_DETR, "DetrImageProcessor", _SQUARE),
    "LwDetrForObjectDetection": ("LwDetrConfig", _LW_DETR, "DeformableDetrImageProcessor", _SQUARE),
    "Mask2FormerForUniversalSegmentation": (
        "Mask2FormerConfig", _MASK2FORMER, "Mask2FormerImageProcessor", {"size": {"height": 384, "width": 384}},
    ),
    "MaskFormerForInstanceSegmentation": ("MaskFormerConfig", _MASKFORMER, "MaskFormerImageProcessor", _EDGES),
    "OneFormerForUniversalSegmentation": (
        "OneFormerConfig", _ONEFORMER, "OneFormerImageProcessor", {**_EDGES, "num_text": 4},
    ),
    "EomtForUniversalSegmentation": (
        "EomtConfig", {**_EOMT, "mlp_ratio": 2}, "EomtImageProcessor",
        {"size": {"shortest_edge": 64, "longest_edge": 64}, "do_pad": True},
    ),
    "EomtDinov3ForUniversalSegmentation": (
        "EomtDinov3Config", {**_EOMT, "intermediate_size": 64}, "EomtImageProcessor",
        {"size": {"shortest_edge": 64, "longest_edge": 64}, "do_pad": True},
    ),
    "DetrForSegmentation": (
        "DetrConfig",
        {**_DETR, "use_timm_backbone": False, "backbone_config": {**_RESNET, "out_features": _ALL_STAGES},
         "encoder_attention_heads": 8, "decoder_attention_heads": 8},
        "DetrImageProcessor", _EDGES,
    ),
    "RfDetrForInstanceSegmentation": ("RfDetrConfig", _RF_DETR, "DetrImageProcessor", _SQUARE),
    "SegformerForSemanticSegmentation": ("SegformerConfig", _SEGFORMER, "SegformerImageProcessor", _SQUARE),
    "ViTForImageClassification": (
        "ViTConfig",
        {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
         "patch_size": 16},
        "ViTImageProcessor", {"size": {"height": 32, "width": 32}},
    ),
    "ConvNextForImageClassification": (
        "ConvNextConfig", {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
        "ConvNextImageProcessor", {"size": {"shortest_edge": 64}},
    ),
}  # fmt: skip


# How strongly the heads for classes are drawn, where the usual would make every score 0 or 1.
_GAINS = {"DabDetr": 0.6, "LwDetr": 0.5, "RfDetr": 0.5, "Yolos": 0.6}


def save_tiny(architecture: str, folder: Path, *, seed: int = 0, **config: Any) -> Any:
    """A model with random weights, drawn with enough spread that no two scores are alike; it is saved and returned.

    config: of its configuration.
    """
    config_class, settings, processor_class, processing = _MODELS[architecture]
    torch.manual_seed(seed)
    configuration = getattr(transformers, config_class)(**{**settings, **_LABELS, **config})
    model = getattr(transformers, architecture)(configuration).eval()
    spread(model, seed, _GAINS.get(architecture.partition("For")[0], 3.0))
    model.save_pretrained(folder)
    getattr(transformers, processor_class)(**processing).save_pretrained(folder)
    if architecture.startswith("OneFormer"):
        save_tokenizer(folder)
    return model


def save_tokenizer(folder: Path) -> None:
    """CLIP's tokenizer of single bytes: no two of them are merged."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [*map(chr, shown), *(chr(256 + i) for i in range(256 - len(shown)))]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))


def spread(model: Any, seed: int = 0, class_gain: float = 3.0) -> None:
    """Draws all matrices again, so that logits are spread over several units and depend on the image."""
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                gain = class_gain if "class" in name or "score" in name else 1.3
                fan_in = parameter[0].numel() if "embed" not in name.rpartition(".")[0].rpartition(".")[2] else 1
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (gain / max(fan_in, 1) ** 0.5))
