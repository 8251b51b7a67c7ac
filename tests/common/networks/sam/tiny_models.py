"""Tiny random models of the SAM family, saved as folders like the published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from common.networks.huggingface.library import offline_transformers
from common.networks.sam.model import EDGETAM, EDGETAM_VIDEO, SAM, SAM2, SAM2_VIDEO, SAM3, Family

transformers = offline_transformers()

SIDE = 64  # pixels of the square that these models see; SAM 3's is 56
_DECODER = {
    "mlp_dim": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "iou_head_hidden_dim": 32,
    "iou_head_depth": 2,
}


def save_tiny(
    family: Family, folder: Path, *, seed: int = 0, with_processor: bool = True, object_score: float = 6.0
) -> Path:
    """A model of a family with random weights, drawn with enough spread that no mask is all or nothing."""
    torch.manual_seed(seed)
    model = _MAKERS[family.model]().eval()
    spread(model, object_score)
    model.save_pretrained(folder)
    if with_processor:
        image_processor(family).save_pretrained(folder)
    return folder


def image_processor(family: Family) -> Any:
    if family == SAM:
        return transformers.SamImageProcessor(
            size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE},
            mask_size={"longest_edge": SIDE // 4}, mask_pad_size={"height": SIDE // 4, "width": SIDE // 4},
        )  # fmt: skip
    side = 56 if family == SAM3 else SIDE
    processor_class = getattr(transformers, family.image_processor)
    return processor_class(size={"height": side, "width": side}, mask_size={"height": side // 4, "width": side // 4})


def spread(model: Any, object_score: float = 6.0) -> None:
    """Draws the mask heads again, so that logits lie on both sides of 0 and no two masks or scores are alike.

    object_score: what is added to the score by which a video model says whether the object is in sight.
    """
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and ("mask_decoder" in name or "prompt_encoder" in name):
                fan_in = parameter[0].numel() if "embed" not in name else 1
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (1.5 / fan_in**0.5))
            elif name.endswith("pred_obj_score_head.proj_out.bias"):
                parameter.fill_(object_score)


def _prompt_encoder(hidden: int, side: int = SIDE, patch: int = 16) -> dict[str, int]:
    return {"hidden_size": hidden, "image_size": side, "patch_size": patch, "mask_input_channels": 4}


def _decoder(hidden: int) -> dict[str, int]:
    return {"hidden_size": hidden, **_DECODER}


def _sam() -> Any:
    vision = {
        "hidden_size": 32, "output_channels": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE,
        "patch_size": 16, "window_size": 2, "global_attn_indexes": [1], "num_pos_feats": 16, "mlp_dim": 64,
        "initializer_range": 0.2,
    }  # fmt: skip
    return transformers.SamModel(
        transformers.SamConfig(
            vision_config=vision, prompt_encoder_config=_prompt_encoder(32), mask_decoder_config=_decoder(32)
        )
    )


def _sam2_vision(hidden: int) -> dict[str, Any]:
    fine = SIDE // 4
    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [4, 4, 4, 4],
        "global_attention_blocks": [3], "window_positional_embedding_background_size": [4, 4],
        "initializer_range": 0.2,
    }  # fmt: skip
    return {
        "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[fine, fine], [fine // 2, fine // 2], [fine // 4, fine // 4]],
        "fpn_hidden_size": hidden,
        "initializer_range": 0.2,
    }


def _sam2() -> Any:
    return transformers.Sam2Model(
        transformers.Sam2Config(
            vision_config=_sam2_vision(32),
            prompt_encoder_config=_prompt_encoder(32),
            mask_decoder_config=_decoder(32),
        )
    )


def _edgetam_vision(
    hidden: int, architecture: str = "test_convnext", channels: tuple[int, ...] = (64, 48, 32, 24)
) -> Any:
    fine = SIDE // 4
    backbone = transformers.TimmWrapperConfig(
        architecture=architecture, model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    )
    return transformers.EdgeTamVisionConfig(
        backbone_config=backbone,
        backbone_channel_list=list(channels),
        backbone_feature_sizes=[[fine, fine], [fine // 2, fine // 2], [fine // 4, fine // 4]],
        fpn_hidden_size=hidden,
        initializer_range=0.2,
    )


def _edgetam() -> Any:
    return transformers.EdgeTamModel(
        transformers.EdgeTamConfig(
            vision_config=_edgetam_vision(32),
            prompt_encoder_config=_prompt_encoder(32),
            mask_decoder_config=_decoder(32),
        )
    )


def _sam3_vision(hidden: int) -> dict[str, Any]:
    grid = 56 // 14
    backbone = {
        "model_type": "sam3_vit_model", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "image_size": 56, "patch_size": 14, "window_size": 2, "global_attn_indexes": [1],
        "pretrain_image_size": 28, "initializer_range": 0.2,
    }  # fmt: skip
    return {
        "backbone_config": backbone,
        "fpn_hidden_size": hidden,
        "scale_factors": [4.0, 2.0, 1.0, 0.5],
        "backbone_feature_sizes": [[4 * grid, 4 * grid], [2 * grid, 2 * grid], [grid, grid]],
        "initializer_range": 0.2,
    }


def _sam3() -> Any:
    return transformers.Sam3TrackerModel(
        transformers.Sam3TrackerConfig(
            vision_config=_sam3_vision(32),
            prompt_encoder_config=_prompt_encoder(32, side=56, patch=14),
            mask_decoder_config=_decoder(32),
        )
    )


def save_edgetam_as_published(folder: Path) -> Path:
    """EdgeTAM with the published backbone, which normalises by batches where the tiny one does not."""
    torch.manual_seed(0)
    config = transformers.EdgeTamConfig(
        vision_config=_edgetam_vision(32, "repvit_m1", (384, 192, 96, 48)),
        prompt_encoder_config=_prompt_encoder(32),
        mask_decoder_config=_decoder(32),
    )
    transformers.EdgeTamModel(config).save_pretrained(folder)
    return folder


def save_vit_h(folder: Path) -> Path:
    """A SAM 1 as wide as ViT-H that makes embeddings of its size, with next to nothing in it."""
    vision = {
        "hidden_size": 1280, "output_channels": 256, "num_hidden_layers": 1, "num_attention_heads": 16,
        "image_size": 1024, "patch_size": 16, "window_size": 14, "global_attn_indexes": [], "num_pos_feats": 128,
        "mlp_dim": 16, "initializer_range": 0.02,
    }  # fmt: skip
    config = transformers.SamConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 256, "mask_input_channels": 4},
        mask_decoder_config=_decoder(256),
    )
    torch.manual_seed(0)
    transformers.SamModel(config).save_pretrained(folder)
    return folder


def save_sam3_whole(folder: Path) -> Path:
    """All of SAM 3, detector and tracker, as `save_pretrained` writes it: not the names of tensors as published."""
    hidden = 128
    layers = {"num_layers": 1, "hidden_size": hidden, "num_attention_heads": 4, "intermediate_size": 64}
    text = {
        "model_type": "clip_text_model", "vocab_size": 40, "hidden_size": 32, "intermediate_size": 64,
        "projection_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "max_position_embeddings": 32,
    }  # fmt: skip
    detector = transformers.Sam3Config(
        vision_config=_sam3_vision(hidden), text_config=text, geometry_encoder_config=layers,
        detr_encoder_config=layers, detr_decoder_config={"num_queries": 10, **layers},
        mask_decoder_config={"hidden_size": hidden, "num_attention_heads": 4, "num_upsampling_stages": 3},
    )  # fmt: skip
    memory = _video(memory_attention_feed_forward_hidden_size=64) | {
        "image_size": 56,
        "memory_attention_rope_feat_sizes": [4, 4],
        "prompt_encoder_config": _prompt_encoder(hidden, side=56, patch=14),
    }
    tracker = transformers.Sam3TrackerVideoConfig(vision_config=_sam3_vision(hidden), **memory)
    config = transformers.Sam3VideoConfig(detector_config=detector.to_dict(), tracker_config=tracker.to_dict())
    transformers.Sam3VideoModel(config).save_pretrained(folder)
    return folder


def _video(**special: Any) -> dict[str, Any]:
    hidden = 128  # the smallest that works: memories have 64 channels
    return {
        "prompt_encoder_config": _prompt_encoder(hidden),
        "mask_decoder_config": _decoder(hidden),
        "image_size": SIDE,
        "num_maskmem": 3,
        "max_object_pointers_in_encoder": 5,
        "memory_attention_hidden_size": hidden,
        "memory_attention_num_layers": 1,
        "memory_attention_rope_feat_sizes": [SIDE // 16, SIDE // 16],
        "memory_encoder_hidden_size": hidden,
        "memory_encoder_output_channels": 64,
        "mask_downsampler_embed_dim": hidden,
        "memory_fuser_embed_dim": hidden,
        "memory_fuser_intermediate_dim": 64,
        "memory_fuser_num_layers": 1,
        **special,
    }


def _sam2_video() -> Any:
    return transformers.Sam2VideoModel(
        transformers.Sam2VideoConfig(
            vision_config=_sam2_vision(128), **_video(memory_attention_feed_forward_hidden_size=64)
        )
    )


def _edgetam_video() -> Any:
    return transformers.EdgeTamVideoModel(
        transformers.EdgeTamVideoConfig(
            vision_config=_edgetam_vision(128),
            **_video(
                memory_attention_mlp_hidden_size=64,
                memory_attention_rope_k_sizes=[2, 2],
                perceiver_resampler_num_latents=4,
                perceiver_resampler_num_latents_2d=4,
                perceiver_resampler_hidden_size=64,
                perceiver_resampler_mlp_intermediate_size=64,
                perceiver_resampler_attention_head_dim=64,
                perceiver_resampler_num_layers=1,
            ),
        )
    )


_MAKERS = {
    SAM.model: _sam,
    SAM2.model: _sam2,
    EDGETAM.model: _edgetam,
    SAM3.model: _sam3,
    SAM2_VIDEO.model: _sam2_video,
    EDGETAM_VIDEO.model: _edgetam_video,
}
