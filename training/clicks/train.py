"""The training: first clicks and boxes on stills, then clips, where the memory of a shape has to find it again.

The modules are transformers' own, in the order in which its inference runs them, but for many drawings at a time and
with gradients. Losses: cross entropy and dice on the mask, the error of the predicted IoU, and whether the shape is in
sight. All masks of an answer learn the same, as a drawing's shapes have no parts. SAM's focal loss, in place of cross entropy,
starts slower here (a mean IoU of 0.10 against 0.24 after 300 steps).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.clicks.drawings import TRIAL_SEEDS, Bitmap, box_around, click_inside, clip, large_enough, still
from training.clicks.network import SIDE, image_processor, load_network, make_network

_CLIP_LENGTH = 7
_SIZES = ((120, 160), (160, 120), (136, 136))  # height and width of the drawings
_STILL_BATCH, _PROMPTS_EACH, _CLIP_BATCH = 12, 4, 12
_RATE = 1e-3
_STILLS_SHARE = 0.5  # of the time; clips have the rest, with some stills among them
_PROMPTS = ("click", "box", "clicks")
_PROMPT_CHANCES = (0.6, 0.2, 0.2)
_SEEDS = TRIAL_SEEDS // 100  # for drawings, of each seed of a training
_SAY_EVERY = 50  # steps
_SEVERAL = 0.6  # of the first clicks are answered by several masks


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """pixels: (3, SIDE, SIDE) float32, preprocessed. mask: (SIDE, SIDE) bool, of one shape."""

    pixels: NDArray[np.float32]
    mask: Bitmap


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """maps: the encoder's feature maps of a picture, (C, h, w) float16 each, finest first. mask: as in `Sample`."""

    maps: tuple[Any, ...]
    mask: Bitmap


def train(
    seconds: float,
    *,
    seed: int = 0,
    stills: int = 4000,
    clips: int = 500,
    start: Path | None = None,
    say: Callable[[str], None] = print,
) -> Any:
    """A network trained for about so many seconds of this process's own time, on so many drawings.

    Args:
        seconds: Computing time, all cores together.
        seed: Of the weights and of the drawings.
        stills: How many scenes to learn clicks on.
        clips: How many clips to learn following on.
        start: The folder of a network that knows clicks already and only learns to follow; None for random weights.
        say: Called with each line of progress.

    Returns:
        An EdgeTAM for inference, in single precision.
    """
    import torch

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    # Its modules take the way that inference takes.
    network = (load_network(start) if start else make_network()).train(False).requires_grad_(True)
    network.mask_decoder.dynamic_multimask_via_stability = False
    network.spatial_perceiver._forward_2d = partial(latents_of_windows, network.spatial_perceiver)
    pictures = _draw_stills(stills, seed)
    if start is None:
        say(f"clicks, on {stills} drawings")
        _optimize(network, _STILLS_SHARE * seconds, lambda _: _loss_of_stills(network, pictures, rng), say)
    network.vision_encoder.train(False).requires_grad_(False)
    known = [_encoded(network, scene) for scene in pictures]
    films = [_encoded(network, frames) for frames in _draw_clips(clips, seed)]
    say(f"following, in {clips} clips")

    def loss(step: int) -> Any:
        if step % 5 == 0:  # lest clicks be forgotten
            return _still_loss(network, [known[i] for i in rng.integers(len(known), size=_STILL_BATCH)], rng)
        return _clip_loss(network, [films[i] for i in rng.integers(len(films), size=_CLIP_BATCH)], rng)

    _optimize(network, (1 if start else 1 - _STILLS_SHARE) * seconds, loss, say)
    network.mask_decoder.dynamic_multimask_via_stability = True
    del network.spatial_perceiver._forward_2d  # the class's own is left
    return network.train(False).requires_grad_(False)


def _optimize(network: Any, seconds: float, loss_of_step: Callable[[int], Any], say: Callable[[str], None]) -> None:
    """Changes what of a network may be changed, for so many seconds of this process's own time."""
    import torch

    changed = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(changed, lr=_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    begin, step, recent = time.process_time(), 0, []
    while (done := (time.process_time() - begin) / seconds) < 1:
        rate = _RATE * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = max(rate, 2e-5)
        loss = loss_of_step(step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(changed, 1.0)
        optimizer.step()
        recent.append(float(loss.detach()))
        step += 1
        if step % _SAY_EVERY == 0:
            say(f"{done:4.0%}  step {step}  loss {np.mean(recent):.3f}")
            recent = []


def _loss_of_stills(network: Any, pictures: Sequence[Sequence[Sample]], rng: np.random.Generator) -> Any:
    network.vision_encoder.train(True)  # its batch normalisation has to learn
    scenes = [pictures[i] for i in rng.integers(len(pictures), size=_STILL_BATCH)]
    maps = encode(network, [scene[0] for scene in scenes])
    known = [
        [Known(tuple(each[i] for each in maps), sample.mask) for sample in scene] for i, scene in enumerate(scenes)
    ]
    return _still_loss(network, known, rng)


def _encoded(network: Any, samples: Sequence[Sample]) -> list[Known]:
    """Samples, encoded for good; those that share their pixels share their maps."""
    import torch

    with torch.no_grad():
        pixels = {id(sample.pixels): sample for sample in samples}
        maps = [each.half() for each in encode(network, list(pixels.values()))]
    place = {key: i for i, key in enumerate(pixels)}
    return [Known(tuple(each[place[id(sample.pixels)]] for each in maps), sample.mask) for sample in samples]


def latents_of_windows(perceiver: Any, features: Any) -> tuple[Any, Any]:
    """What EdgeTAM's perceiver makes of the windows of features; that of transformers takes no batches.

    Args:
        perceiver: The network's spatial perceiver.
        features: (B, C, h, w) float32.

    Returns:
        The latents (B, N, C) and their position encodings.
    """
    batch, channels, height, _ = features.shape
    across = math.isqrt(perceiver.num_latents_2d)
    side = height // across
    windows = features.unfold(2, side, side).unfold(3, side, side)  # (B, C, across, across, side, side)
    windows = windows.permute(0, 2, 3, 4, 5, 1).reshape(batch * across**2, side**2, channels)
    latents = perceiver.latents_2d.repeat(batch, 1)[:, None]
    for layer in perceiver.layers:
        latents = layer(latents, windows, positional_encoding=None)
    latents = latents.reshape(batch, across**2, channels)
    shape = (batch, channels, across, across)
    places = perceiver.positional_encoding(shape, features.device, features.dtype).expand(shape)
    return perceiver.layer_norm(latents), places.flatten(2).transpose(1, 2)


def _draw_stills(count: int, seed: int = 0) -> list[list[Sample]]:
    """For each scene one sample for every shape on it, sharing the picture; other scenes for each seed, 0 to 99."""
    processor = image_processor()
    scenes = []
    for each in range(seed * _SEEDS, seed * _SEEDS + count * 2):
        scene = still(each, _SIZES[each % len(_SIZES)])
        things = [thing for thing in scene.things if large_enough(thing.mask)]
        if things:
            pixels = processor(scene.image, return_tensors="np")["pixel_values"][0]
            scenes.append([Sample(pixels, _squared(thing.mask)) for thing in things])
        if len(scenes) == count:
            break
    return scenes


def _draw_clips(count: int, seed: int = 0) -> list[list[Sample]]:
    """For each clip its frames in order; the first shows the whole shape, or enough of it. Seeds as for stills."""
    processor = image_processor()
    clips = []
    for each in range(seed * _SEEDS, seed * _SEEDS + count * 2):
        moving = clip(each, _CLIP_LENGTH, _SIZES[each % len(_SIZES)])
        if large_enough(moving.masks[0]):
            pixels = processor(list(moving.images), return_tensors="np")["pixel_values"]
            clips.append([Sample(p, _squared(mask)) for p, mask in zip(pixels, moving.masks, strict=True)])
        if len(clips) == count:
            break
    return clips


def _squared(mask: Bitmap) -> Bitmap:
    """A mask stretched to the square that the network sees."""
    covered = cv2.resize(mask.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(covered > 0.5)


def _still_loss(network: Any, scenes: Sequence[Sequence[Known]], rng: np.random.Generator) -> Any:
    """The loss of some prompts for each scene, all of one kind; for clicks, of the correcting ones too."""
    import torch

    maps = _stacked([scene[0] for scene in scenes])
    maps[-1] = maps[-1] + network.no_memory_embedding.reshape(1, -1, 1, 1)
    maps = [each.repeat_interleave(_PROMPTS_EACH, dim=0) for each in maps]
    samples = [scene[i] for scene in scenes for i in rng.integers(len(scene), size=_PROMPTS_EACH)]
    truth = torch.from_numpy(np.stack([sample.mask for sample in samples]))
    kind = str(rng.choice(_PROMPTS, p=_PROMPT_CHANCES))
    if kind == "box":
        return _prediction_loss(decode(network, maps, boxes=[box_around(s.mask, rng) for s in samples]), truth)
    points, labels = [[click_inside(sample.mask, rng)] for sample in samples], [[1] for _ in samples]
    prediction = decode(network, maps, points, labels, several=rng.random() < _SEVERAL)
    loss = _prediction_loss(prediction, truth)
    if kind == "clicks":
        shown = prediction.best_logits().detach()
        for i, mask in enumerate(truth.numpy()):
            correct(points[i], labels[i], mask, resized(shown[i : i + 1])[0].numpy() > 0, rng)
        hint = shown[:, None].clamp(-32, 32) if rng.random() < 0.7 else None
        loss = loss + _prediction_loss(decode(network, maps, points, labels, hint=hint), truth)
    return loss


def correct(
    points: list[tuple[float, float]], labels: list[int], truth: Bitmap, shown: Bitmap, rng: np.random.Generator
) -> None:
    """Adds the click that someone would make next: into the larger of what is missing and what is too much.

    Args:
        points: The clicks (x, y) so far; extended in place.
        labels: 1 for a positive click, 0 for a negative one; extended in place.
        truth: (H, W) bool, the shape.
        shown: (H, W) bool, what the network has found.
        rng: The source of chance.
    """
    missing, wrong = truth & ~shown, shown & ~truth
    label = int(np.count_nonzero(missing) >= np.count_nonzero(wrong))
    where = missing if label else wrong
    if not where.any():
        where, label = truth, 1
    points.append(click_inside(where, rng))
    labels.append(label)


def _stacked(samples: Sequence[Known]) -> list[Any]:
    """The feature maps of several samples, (B, C, h, w) float32."""
    import torch

    return [torch.stack(each).float() for each in zip(*(sample.maps for sample in samples), strict=True)]


def _clip_loss(network: Any, clips: Sequence[Sequence[Known]], rng: np.random.Generator) -> Any:
    """The loss of following one shape of each clip from its first frame on."""
    import torch

    length, batch = len(clips[0]), len(clips)
    maps = [each.unflatten(0, (batch, length)) for each in _stacked([each for frames in clips for each in frames])]
    places = network.vision_encoder.neck.position_encoding(maps[-1][:, 0].shape, "cpu", torch.float32)
    places = places.flatten(2).permute(2, 0, 1)
    first: list[tuple[Any, Any, Any]] = []
    recent: list[tuple[Any, Any, Any]] = []
    total = torch.zeros(())
    for number in range(length):
        samples = [frames[number] for frames in clips]
        truth = torch.from_numpy(np.stack([sample.mask for sample in samples]))
        *fine, coarse = (each[:, number] for each in maps)
        flat = coarse.flatten(2).permute(2, 0, 1)
        if number == 0:
            seen = coarse + network.no_memory_embedding.reshape(1, -1, 1, 1)
            prediction = _first_prediction(network, [*fine, seen], samples, rng)
        else:
            seen = _remembering(network, flat, places, first, recent).reshape(batch, *coarse.shape[2:], -1)
            prediction = decode(network, [*fine, seen.permute(0, 3, 1, 2)])
        if prediction is None:  # given as a mask: that is remembered as it is
            logits = torch.where(truth, 10.0, -10.0)[:, None]
            score = logits.new_full((batch, 1, 1), 10.0)
            pointer = decode(network, [*fine, coarse], hint=_mask_prompt(network, truth)).pointer(network, score)
        else:
            total = total + _prediction_loss(prediction, truth)
            shown = prediction.best_logits()
            score = prediction.score
            logits = resized(torch.where(score[:, 0] > 0, shown.flatten(1), -1024.0).view_as(shown))[:, None]
            pointer = prediction.pointer(network, score)
        memory, memory_places = network._encode_new_memory(
            current_vision_feats=flat,
            pred_masks_high_res=logits,
            object_score_logits=score,
            is_mask_from_pts=number == 0,
        )
        kept = (memory.float(), memory_places, pointer)
        if number == 0:
            first.append(kept)
        else:
            recent.insert(0, kept)
    return total / length


def _first_prediction(network: Any, maps: list[Any], samples: Sequence[Known], rng: np.random.Generator) -> Any:
    """What a box finds, as CVAT's rectangles give it; None at times: the shape is then given by its mask."""
    if rng.random() < 0.5:
        return None
    return decode(network, maps, boxes=[box_around(sample.mask, rng) for sample in samples])


def _remembering(network: Any, flat: Any, places: Any, first: list[Any], recent: list[Any]) -> Any:
    """A frame's coarsest features (h * w, B, C) after a look at the memories: (B, h * w, C)."""
    import torch

    memories = [(0, {"maskmem_features": first[0][0], "maskmem_pos_enc": first[0][1]})]
    for before in range(min(network.num_maskmem - 1, len(recent)), 0, -1):
        memory, memory_places, _ = recent[before - 1]
        memories.append((before, {"maskmem_features": memory, "maskmem_pos_enc": memory_places}))
    features, encodings = network._build_memory_attention_inputs(memories, torch.device("cpu"))
    most = network.config.max_object_pointers_in_encoder
    offsets = [len(recent) + 1, *range(1, min(most, len(recent) + 1))]
    pointers = [first[0][2], *(each[2] for each in recent[: most - 1])]
    tokens, token_places = network._process_object_pointers(
        offsets, pointers, most, flat.shape[1], network.hidden_dim, torch.device("cpu")
    )
    found = network.memory_attention(
        current_vision_features=flat,
        current_vision_position_embeddings=places,
        memory=torch.cat([*features, tokens]),
        memory_posision_embeddings=torch.cat([*(e.expand(-1, flat.shape[1], -1) for e in encodings), token_places]),
        num_object_pointer_tokens=tokens.shape[0],
        num_spatial_memory_tokens=len(features),
    )
    return found.reshape(flat.shape[1], flat.shape[0], -1)


def _mask_prompt(network: Any, truth: Any) -> Any:
    """Masks (B, SIDE, SIDE) as the decoder takes them for an object that is given by its mask."""
    return network.mask_downsample(truth.float()[:, None])


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """logits: (B, M, h, w). ious: (B, M), as predicted. tokens: (B, M, C). score: (B, 1, 1), above 0 for in sight."""

    logits: Any
    ious: Any
    tokens: Any
    score: Any

    def best_logits(self) -> Any:
        """(B, h, w) of the masks with the highest predicted IoU."""
        import torch

        return self.logits[torch.arange(len(self.logits)), self.ious.argmax(dim=1)]

    def pointer(self, network: Any, score: Any) -> Any:
        """The objects' pointers; those of objects out of sight say so.

        Args:
            network: The network.
            score: (B, 1, 1), above 0 for objects in sight.

        Returns:
            (B, C).
        """
        import torch

        best = self.tokens[torch.arange(len(self.tokens)), self.ious.argmax(dim=1)]
        in_sight = (score[:, 0] > 0).float()
        return in_sight * network.object_pointer_proj(best) + (1 - in_sight) * network.no_object_pointer


def encode(network: Any, samples: Sequence[Sample]) -> list[Any]:
    """The encoder's feature maps of some pictures.

    Args:
        network: The network.
        samples: One for each picture.

    Returns:
        (B, C, h, w) each, finest first.
    """
    import torch

    pixels = torch.from_numpy(np.stack([sample.pixels for sample in samples]))
    fine, middle, coarse = network.vision_encoder(pixels, return_dict=True).fpn_hidden_states
    return [network.mask_decoder.conv_s0(fine), network.mask_decoder.conv_s1(middle), coarse]


def decode(
    network: Any,
    maps: list[Any],
    points: list[Any] | None = None,
    labels: list[Any] | None = None,
    *,
    boxes: list[Any] | None = None,
    hint: Any = None,
    several: bool = False,
) -> Prediction:
    """The decoder's masks for a prompt each; without one, for what the memory has found.

    Args:
        network: The network.
        maps: Feature maps (B, C, h, w), finest first.
        points: For each picture its clicks (x, y) in pixels of the square.
        labels: For each picture, for each click 1 (positive) or 0 (negative).
        boxes: For each picture (left, top, right, bottom) in pixels of the square.
        hint: (B, 1, h, w) logits of an earlier mask.
        several: Three masks for each prompt instead of one.
    """
    import torch

    batch = len(maps[0])
    if points is None and boxes is None:
        points, labels = [[(0.0, 0.0)]] * batch, [[-1]] * batch
    sparse, dense = network.prompt_encoder(
        input_points=None if points is None else torch.tensor(points)[:, None],
        input_labels=None if labels is None else torch.tensor(labels)[:, None],
        input_boxes=None if boxes is None else torch.tensor(boxes)[:, None],
        input_masks=hint,
    )
    logits, ious, tokens, score = network.mask_decoder(
        image_embeddings=maps[-1],
        image_positional_embeddings=network.get_image_wide_positional_embeddings().repeat(batch, 1, 1, 1),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=several,
        high_resolution_features=maps[:-1],
    )
    return Prediction(logits[:, 0], ious[:, 0], tokens[:, 0], score)


def _prediction_loss(prediction: Prediction, truth: Any) -> Any:
    """The mean loss of a prediction's masks against (B, SIDE, SIDE) bool; of shapes out of sight, only the score's."""
    from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, l1_loss

    in_sight = truth.flatten(1).sum(dim=1) >= 4
    loss = 0.5 * binary_cross_entropy_with_logits(prediction.score[:, 0, 0], in_sight.float())
    if not in_sight.any():
        return loss
    logits = prediction.logits[in_sight]
    # How much of each of the logits' pixels is covered.
    covered = avg_pool2d(truth[in_sight].float()[:, None], SIDE // logits.shape[-1])
    error = binary_cross_entropy_with_logits(logits, covered.expand_as(logits), reduction="none").mean(dim=(2, 3))
    chance = logits.sigmoid()
    common = (chance * covered).sum(dim=(2, 3))
    dice = 1 - (2 * common + 1) / (chance.sum(dim=(2, 3)) + covered.sum(dim=(2, 3)) + 1)
    shown, wanted = logits > 0, covered > 0.5
    ious = (shown & wanted).sum(dim=(2, 3)) / (shown | wanted).sum(dim=(2, 3)).clamp(min=1)
    return loss + (3 * error + dice).mean() + l1_loss(prediction.ious[in_sight], ious)


def resized(logits: Any) -> Any:
    """Logits at the size of the square.

    Args:
        logits: (B, h, w) or (B, M, h, w).

    Returns:
        (B, SIDE, SIDE) or (B, M, SIDE, SIDE).
    """
    from torch.nn.functional import interpolate

    layered = logits if logits.ndim == 4 else logits[:, None]
    large = interpolate(layered, (SIDE, SIDE), mode="bilinear", align_corners=False)
    return large if logits.ndim == 4 else large[:, 0]
