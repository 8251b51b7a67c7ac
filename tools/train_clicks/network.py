"""The network: SAM 2 for video, all its parts, each as small as the drawings allow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.sam.model import offline_transformers

SIDE = 128  # pixels of the square that the network sees
_HIDDEN = 128  # the smallest that transformers takes: more than the 64 channels of a memory
_STRIDE = 16


def make_network() -> Any:
    """A `Sam2VideoModel` with random weights."""
    transformers = offline_transformers()
    fine = SIDE // 4
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 24,
        "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 3, 1],
        "embed_dim_per_stage": [24, 48, 96, 192],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [8, 8, 8, 4],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [8, 8],
    }
    vision = {
        "backbone_config": backbone,
        "backbone_channel_list": [192, 96, 48, 24],
        "backbone_feature_sizes": [[fine, fine], [fine // 2, fine // 2], [fine // 4, fine // 4]],
        "fpn_hidden_size": _HIDDEN,
    }
    prompts = {"hidden_size": _HIDDEN, "image_size": SIDE, "patch_size": _STRIDE, "mask_input_channels": 16}
    decoder = {
        "hidden_size": _HIDDEN,
        "mlp_dim": 2 * _HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "iou_head_hidden_dim": _HIDDEN,
        "iou_head_depth": 2,
    }
    config = transformers.Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=prompts,
        mask_decoder_config=decoder,
        image_size=SIDE,
        num_maskmem=4,
        max_object_pointers_in_encoder=8,
        multimask_output_for_tracking=False,
        memory_attention_hidden_size=_HIDDEN,
        memory_attention_num_layers=2,
        memory_attention_feed_forward_hidden_size=2 * _HIDDEN,
        memory_attention_dropout=0.0,
        memory_attention_rope_dropout=0.0,
        memory_attention_rope_feat_sizes=[SIDE // _STRIDE, SIDE // _STRIDE],
        memory_encoder_hidden_size=_HIDDEN,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=_HIDDEN,
        memory_fuser_embed_dim=_HIDDEN,
        memory_fuser_intermediate_dim=2 * _HIDDEN,
        memory_fuser_num_layers=2,
    )
    return transformers.Sam2VideoModel(config)


def image_processor() -> Any:
    """SAM 2's preprocessing for the network's side."""
    transformers = offline_transformers()
    return transformers.Sam2ImageProcessor(
        size={"height": SIDE, "width": SIDE}, mask_size={"height": SIDE // 4, "width": SIDE // 4}
    )


def save_network(network: Any, folder: Path) -> None:
    """Writes a folder as a hub's, with the weights in half precision: they are half as large, and as good."""
    import copy

    import torch

    copy.deepcopy(network).to(torch.float16).save_pretrained(folder)
    image_processor().save_pretrained(folder)
