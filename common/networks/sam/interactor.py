"""Clicks and boxes to masks: one handler for all generations of SAM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.errors import BadRequest, StartupError, describe
from common.networks.sam.masks import bitmap_of_logits, check_smallest, resized_without_padding, without_small_parts
from common.networks.sam.model import Family, Loaded
from common.protocol import Prompt

_KEPT_AS = {"f16": np.float16, "f32": np.float32}


@dataclass(frozen=True, slots=True, eq=False)
class SamEmbedding:
    """maps: the encoder's feature maps (1, C, h, w), finest first, float16 or float32. size_hw: of the image, pixels."""

    maps: tuple[NDArray[Any], ...]
    size_hw: tuple[int, int]


class SamInteractor:
    """An interactor on a model of the family that a subclass names.

    Options: VARIANT, a name in weights.yaml; MODEL_PATH, a folder that goes before it; DEVICE, cpu or cuda; ENGINE, what
    runs the image encoder, one of auto (an exported encoder when there is one), torch, onnxruntime, openvino; PRECISION
    of the encoder's arithmetic, f32, bf16, f16 or auto (f32 on a CPU, bf16 on a GPU); EMBEDDING_PRECISION in which
    embeddings are kept, f16 or f32; SMALLEST_PART, islands and holes of fewer pixels are removed.
    """

    family: ClassVar[Family]

    def __init__(
        self,
        config: FunctionConfig,
        *,
        variant: str | None = None,
        model_path: str | None = None,
        device: str = "cpu",
        engine: str = "auto",
        precision: str = "auto",
        embedding_precision: str = "f16",
        smallest_part: int = 64,
    ):
        if embedding_precision not in _KEPT_AS:
            raise StartupError(f"EMBEDDING_PRECISION: expected f16 or f32, got {describe(embedding_precision)}")
        self._kept_as = _KEPT_AS[embedding_precision]
        self._smallest = check_smallest(smallest_part)
        self._loaded = Loaded(
            config,
            self.family,
            variant=variant,
            model_path=model_path,
            device=device,
            engine=engine,
            precision=precision,
        )
        self.model_key = f"{self._loaded.key}/{embedding_precision}"
        model = self._loaded.model
        self.check(config, model.config)
        # The same for all images; the model would compute it anew for every click.
        places = model.get_image_wide_positional_embeddings()
        model.get_image_wide_positional_embeddings = lambda: places

    def check(self, config: FunctionConfig, model_config: Any) -> None:
        """For subclasses: raises StartupError when this model must not run under this configuration."""

    def embed(self, image: NDArray[np.uint8]) -> SamEmbedding:
        """Encodes an image. The precision in which embeddings are kept counts from here on, for all clicks alike.

        Raises BadRequest for an image so narrow that nothing of it is left in the square that the model sees.
        """
        height, width = image.shape[:2]
        if self.family.padded and not all(inner_size((height, width), self._loaded.side)):
            raise BadRequest(f"image: {width} x {height} pixels are too long and narrow for this model")
        maps = self._loaded.feature_maps(image)
        nothing = getattr(self._loaded.model, "no_memory_embedding", None)
        if nothing is not None:  # what says to the decoder that there are no frames before this one
            maps[-1] = maps[-1] + nothing.reshape(1, -1, 1, 1)
        return SamEmbedding(
            maps=tuple(each.cpu().numpy().astype(self._kept_as, copy=False) for each in maps),
            size_hw=(height, width),
        )

    def segment(self, embedding: SamEmbedding, prompt: Prompt) -> NDArray[np.bool_]:
        """The object that a prompt means: the best of several masks for one click, a single mask for more."""
        return self.refine(embedding, prompt, None)[0]

    def refine(
        self, embedding: SamEmbedding, prompt: Prompt, hint: NDArray[np.float16] | None
    ) -> tuple[NDArray[np.bool_], NDArray[np.float16]]:
        """As `segment`, from the mask of the prompt with one click less; returns the hint for one click more."""
        logits = self._decode(embedding, prompt, hint)
        limit = self.family.hint_limit
        next_hint = logits if limit is None else np.clip(logits, -limit, limit)
        if self.family.padded:
            side = self._loaded.side
            logits = resized_without_padding(logits, (side, side), inner_size(embedding.size_hw, side))
        bitmap = bitmap_of_logits(logits, embedding.size_hw)
        return without_small_parts(bitmap, self._smallest), next_hint.astype(np.float16)

    def pack(self, embedding: SamEmbedding) -> dict[str, NDArray[Any]]:
        maps = {f"map{i}": each for i, each in enumerate(embedding.maps)}
        return {"size_hw": np.array(embedding.size_hw, np.int64), **maps}

    def unpack(self, arrays: Mapping[str, NDArray[Any]]) -> SamEmbedding:
        height, width = arrays["size_hw"].tolist()
        return SamEmbedding(maps=tuple(arrays[f"map{i}"] for i in range(len(arrays) - 1)), size_hw=(height, width))

    def image_size_hw(self, embedding: SamEmbedding) -> tuple[int, int]:
        return embedding.size_hw

    def _decode(self, embedding: SamEmbedding, prompt: Prompt, hint: NDArray[np.float16] | None) -> NDArray[np.float32]:
        """The decoder's logits (h, w) of the mask to show."""
        import torch

        device = self._loaded.device
        one_click = len(prompt.pos_points_xy) == 1 and not len(prompt.neg_points_xy) and prompt.box_xyxy is None
        with torch.inference_mode():
            maps = [torch.from_numpy(each).to(device).float() for each in embedding.maps]
            inputs = prompt_tensors(prompt, embedding.size_hw, self._loaded.side, self.family)
            if hint is not None:
                inputs["input_masks"] = torch.from_numpy(hint.astype(np.float32))[None, None]
            output = self._loaded.model(
                image_embeddings=maps[0] if len(maps) == 1 else maps,
                multimask_output=one_click,
                **{name: tensor.to(device) for name, tensor in inputs.items()},
            )
            best = int(output.iou_scores[0, 0].argmax())
            logits: NDArray[np.float32] = output.pred_masks[0, 0, best].float().cpu().numpy()
        return logits


def prompt_tensors(prompt: Prompt, size_hw: tuple[int, int], side: int, family: Family) -> dict[str, Any]:
    """A prompt as the model's inputs, in pixels of the square that it sees; the arithmetic is that of transformers."""
    import torch

    height, width = inner_size(size_hw, side) if family.padded else (side, side)
    scale_x, scale_y = width / size_hw[1], height / size_hw[0]
    exact = torch.float64 if family.padded else torch.float32

    def scaled(points: Any) -> Any:
        return torch.stack([points[:, 0] * scale_x, points[:, 1] * scale_y], dim=-1)

    inputs = {}
    points = np.concatenate([prompt.pos_points_xy, prompt.neg_points_xy])
    if len(points):
        labels = [1] * len(prompt.pos_points_xy) + [0] * len(prompt.neg_points_xy)
        inputs["input_points"] = scaled(torch.tensor(points, dtype=exact))[None, None]
        inputs["input_labels"] = torch.tensor(labels)[None, None]
    if prompt.box_xyxy is not None:
        corners = torch.tensor(prompt.box_xyxy, dtype=torch.float32).to(exact).reshape(2, 2)
        inputs["input_boxes"] = scaled(corners).reshape(1, 1, 4)
    return inputs


def inner_size(size_hw: tuple[int, int], side: int) -> tuple[int, int]:
    """(height, width) of an image resized so that its longer side has `side` pixels."""
    scale = side * 1.0 / max(size_hw)
    return int(size_hw[0] * scale + 0.5), int(size_hw[1] * scale + 0.5)
