"""The network: EdgeTAM for video, all its parts, each as small as the drawings allow.

EdgeTAM and not SAM 2: its encoder is a convolutional network, which learns faster from few drawings than SAM 2's Hiera
transformer (a mean IoU of 0.46 against 0.32 after the first 400 steps of the same training).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.networks.huggingface.library import offline_transformers

SIDE = 128  # pixels of the square that the network sees
_HIDDEN = 128  # the smallest that transformers takes: more than the 64 channels of a memory
_STRIDE = 16
_WIDTHS, _DEPTHS = (24, 48, 96, 160), (1, 1, 3, 1)  # of the encoder's stages, the finest first
_LATENTS = 4  # a side of the grid by which a frame is remembered


def make_network() -> Any:
    """An `EdgeTamVideoModel` with random weights."""
    transformers = offline_transformers()
    fine, coarse = SIDE // 4, SIDE // _STRIDE
    backbone = transformers.TimmWrapperConfig(
        architecture="repvit_m1",
        model_args={
            "in_chans": 3,
            "features_only": True,
            "out_indices": [0, 1, 2, 3],
            "embed_dim": list(_WIDTHS),
            "depth": list(_DEPTHS),
        },
    )
    vision = transformers.EdgeTamVisionConfig(
        backbone_config=backbone,
        backbone_channel_list=list(_WIDTHS[::-1]),
        backbone_feature_sizes=[[fine, fine], [fine // 2, fine // 2], [fine // 4, fine // 4]],
        fpn_hidden_size=_HIDDEN,
    )
    prompts = {"hidden_size": _HIDDEN, "image_size": SIDE, "patch_size": _STRIDE, "mask_input_channels": 16}
    decoder = {
        "hidden_size": _HIDDEN,
        "mlp_dim": 2 * _HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "iou_head_hidden_dim": _HIDDEN,
        "iou_head_depth": 2,
    }
    config = transformers.EdgeTamVideoConfig(
        vision_config=vision,
        prompt_encoder_config=prompts,
        mask_decoder_config=decoder,
        image_size=SIDE,
        num_maskmem=4,
        max_object_pointers_in_encoder=8,
        multimask_output_for_tracking=False,
        memory_attention_hidden_size=_HIDDEN,
        memory_attention_num_layers=2,
        memory_attention_mlp_hidden_size=_HIDDEN,
        memory_attention_dropout=0.0,
        memory_attention_rope_dropout=0.0,
        memory_attention_rope_feat_sizes=[coarse, coarse],
        memory_attention_rope_k_sizes=[_LATENTS, _LATENTS],
        memory_encoder_hidden_size=_HIDDEN,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=_HIDDEN,
        memory_fuser_embed_dim=_HIDDEN,
        memory_fuser_intermediate_dim=_HIDDEN,
        memory_fuser_num_layers=2,
        perceiver_resampler_num_latents=_LATENTS**2,
        perceiver_resampler_num_latents_2d=_LATENTS**2,
        perceiver_resampler_hidden_size=64,
        perceiver_resampler_mlp_intermediate_size=128,
        perceiver_resampler_attention_head_dim=64,
        perceiver_resampler_num_layers=1,
    )
    network = transformers.EdgeTamVideoModel(config)
    _initialise(network)
    return network


def _initialise(network: Any) -> None:
    """Random weights from which training gets anywhere, in place of those that transformers gives."""
    import torch

    for module in network.modules():
        # torch's own range, as the authors have it: the one of transformers is meant for layers of many hundred channels.
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            module.reset_parameters()
    with torch.no_grad():
        # One and the same in published weights: a place has the same code in a prompt and in the picture.
        code = network.prompt_encoder.shared_embedding.positional_embedding
        network.shared_image_embedding.positional_embedding.copy_(code)
        for name, module in network.mask_decoder.transformer.named_modules():
            # Prompts and pixels of one place look at each other from the start.
            if "cross_attn" in name.rpartition(".")[2] or name == "final_attn_token_to_image":
                torch.nn.init.orthogonal_(module.q_proj.weight)
                module.k_proj.weight.copy_(module.q_proj.weight)


def image_processor() -> Any:
    """EdgeTAM's preprocessing, which is SAM 2's, for the network's side."""
    transformers = offline_transformers()
    return transformers.Sam2ImageProcessor(
        size={"height": SIDE, "width": SIDE}, mask_size={"height": SIDE // 4, "width": SIDE // 4}
    )


def save_network(network: Any, folder: Path) -> None:
    """Writes a folder as a hub's, with the weights in half precision: they are half as large, and as good.

    Args:
        network: An EdgeTAM.
        folder: Where the files go.
    """
    import copy

    import torch

    copy.deepcopy(network).to(torch.float16).save_pretrained(folder)
    image_processor().save_pretrained(folder)


def load_network(folder: Path) -> Any:
    """What `save_network` wrote, in single precision.

    Args:
        folder: Where the files are.
    """
    import torch

    return offline_transformers().EdgeTamVideoModel.from_pretrained(folder, dtype=torch.float32)
