"""Clicks and boxes to masks: one handler for all generations of SAM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.errors import BadRequest, StartupError
from common.networks.mask_logits import bitmap_of_logits
from common.networks.sam.masks import check_smallest, resized_without_padding, without_small_parts
from common.networks.sam.model import Family, Loaded
from common.protocol import Prompt

_KEPT_AS = {"f16": np.float16, "f32": np.float32}


@dataclass(frozen=True, slots=True, eq=False)
class SamEmbedding:
    """An image as the encoder has seen it."""

    maps: tuple[NDArray[Any], ...]
    """The encoder's feature maps (1, C, h, w), finest first, float16 or float32."""
    size_hw: tuple[int, int]
    """(height, width) of the image in pixels."""


class SamInteractor:
    """An interactor on a model of the family that a subclass names.

    Options:
        VARIANT: A name in weights.yaml.
        MODEL_PATH: A folder of weights; takes precedence over VARIANT.
        DEVICE: cpu or cuda.
        ENGINE: What runs the image encoder: torch, onnxruntime, openvino, or auto (an exported encoder when there is one).
        PRECISION: Of the encoder's arithmetic: f32, bf16, f16, or auto (f32 on a CPU, bf16 on a GPU).
        EMBEDDING_PRECISION: In which embeddings are kept: f16 or f32.
        SMALLEST_PART: Islands and holes of the mask with fewer pixels are removed; 0: none.
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
        known = embedding_precision in _KEPT_AS
        StartupError.check(known, "EMBEDDING_PRECISION", " or ".join(_KEPT_AS), embedding_precision)
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
        # The same for all images; the model would compute it again for every click.
        places = model.get_image_wide_positional_embeddings()
        model.get_image_wide_positional_embeddings = lambda: places

    def check(self, config: FunctionConfig, model_config: Any) -> None:
        """For subclasses: checks whether this model may run under this configuration.

        Args:
            config: What function.yaml says.
            model_config: The model's own configuration.

        Raises:
            StartupError: It may not.
        """

    def embed(self, image: NDArray[np.uint8]) -> SamEmbedding:
        """Encodes an image, in the precision in which embeddings are kept, so that all clicks see the same one.

        Raises:
            BadRequest: The image is so narrow that nothing of it is left in the square that the model sees.
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
        """Like `segment`, from the mask of the prompt with one click less; also returns the hint for one click more."""
        logits = self._decode(embedding, prompt, hint)
        limit = self.family.hint_limit
        next_hint = logits if limit is None else np.clip(logits, -limit, limit)
        if self.family.padded:
            side = self._loaded.side
            logits = resized_without_padding(logits, (side, side), inner_size(embedding.size_hw, side))
        bitmap = bitmap_of_logits(logits, embedding.size_hw)
        return without_small_parts(bitmap, self._smallest), next_hint.astype(np.float16)

    def pack(self, embedding: SamEmbedding) -> dict[str, NDArray[Any]]:
        """An embedding as named arrays."""
        maps = {f"map{i}": each for i, each in enumerate(embedding.maps)}
        return {"size_hw": np.array(embedding.size_hw, np.int64), **maps}

    def unpack(self, arrays: Mapping[str, NDArray[Any]]) -> SamEmbedding:
        """The inverse of `pack`."""
        height, width = arrays["size_hw"].tolist()
        return SamEmbedding(maps=tuple(arrays[f"map{i}"] for i in range(len(arrays) - 1)), size_hw=(height, width))

    def image_size_hw(self, embedding: SamEmbedding) -> tuple[int, int]:
        """(height, width) in pixels of the image that was embedded."""
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
    """A prompt as the model's inputs, with the arithmetic of transformers.

    Args:
        prompt: In pixels of the image.
        size_hw: (height, width) of the image.
        side: Height and width of the square that the model sees.
        family: Says whether the image is padded or stretched to that square.

    Returns:
        `input_points` (1, 1, N, 2) with `input_labels` (1, 1, N), and `input_boxes` (1, 1, 4), in pixels of the square; only what
        the prompt has.
    """
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
    """The size of an image resized so that its longer side fills the model's square.

    Args:
        size_hw: (height, width) of the image.
        side: Height and width of the square.

    Returns:
        (height, width) in pixels of the square.
    """
    scale = side * 1.0 / max(size_hw)
    return int(size_hw[0] * scale + 0.5), int(size_hw[1] * scale + 0.5)
