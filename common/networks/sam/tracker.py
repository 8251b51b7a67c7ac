"""Objects followed through frames by the video memory of SAM 2 and its relatives; there is no session besides the memory.

The models remember an object by a map of features for each of the last frames and by a pointer, one vector, for some
frames more. A state holds just what the next frame's prediction reads, so that any worker can
continue from it: in the precision in which the model itself keeps it, the result is the same to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.errors import BadState, StartupError, describe
from common.networks.fingerprint import content_key
from common.networks.huggingface.library import offline_transformers
from common.networks.mask_logits import bitmap_of_logits
from common.networks.sam.masks import check_smallest, one_part, without_small_parts
from common.networks.sam.memory import PRECISIONS, pack_memory, pack_pointer, unpack_memory, unpack_pointer
from common.networks.sam.model import Family, Loaded
from common.shapes import BoxXyxy, Mask, Polygon, Rectangle, Shape
from common.vision.geometry import bounds_xyxy, rotated_bounds_xyxy
from common.vision.mask import mask_to_bitmap, mask_to_outline, outline_to_mask

SHAPE_TYPES = ("rectangle", "polygon", "mask")
_OBJECT = 1  # each session here follows one object
_PARTS = ("one", "all")
_OURS = "a state that this function returned"


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """An image as the encoder has seen it."""

    vision: list[Any]
    """The encoder's feature maps, tensors (h * w, 1, C), finest first."""
    size_hw: tuple[int, int]
    """(height, width) of the image in pixels."""


class SamTracker:
    """A tracker on a model of the family that a subclass names.

    Options:
        VARIANT, MODEL_PATH, DEVICE, ENGINE, PRECISION: As for `SamInteractor`.
        SMALLEST_PART: Islands and holes of the mask with fewer pixels are removed; 0: none.
        PARTS: `one`: box, polygon and mask are of the part of the mask that continues the object of the last frame; `all`:
            a box goes around all islands, a mask has all of them, a polygon follows the largest.
        MEMORY_FRAMES: How many frames an object is remembered by, the first one included; 0: as many as the model was
            trained with, 7. Fewer make states smaller and tracking faster.
        STATE_PRECISION: Of the memory in a state: f32 (exact), bf16 (half of it; exact for SAM 2) or int8 (a quarter).
        POLYGON_TOLERANCE: How far, in pixels, a polygon may leave the mask's edge.
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
        memory_frames: int = 0,
        state_precision: str = "int8",
        smallest_part: int = 64,
        parts: str = "one",
        polygon_tolerance: float = 1.0,
    ):
        StartupError.check(parts in _PARTS, "PARTS", " or ".join(_PARTS), parts)
        self._one_part = parts == "one"
        precisions = f"one of {', '.join(PRECISIONS)}"
        StartupError.check(state_precision in PRECISIONS, "STATE_PRECISION", precisions, state_precision)
        self._state_precision, self._tolerance = state_precision, polygon_tolerance
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
        self._model = self._loaded.model
        trained_with = self._model.num_maskmem
        if memory_frames and not 2 <= memory_frames <= trained_with:
            raise StartupError(f"MEMORY_FRAMES: expected 0, or 2 to {trained_with}, got {memory_frames}")
        self._model.num_maskmem = memory_frames or trained_with
        self._session_class = getattr(
            offline_transformers(), self.family.model.removesuffix("Model") + "InferenceSession"
        )
        # Which model a state belongs to; its encoder's engine may differ between replicas that share states.
        self._key = content_key(self._loaded.weights, str(self._model.num_maskmem))[:16]
        self._places, self._memory_places, self._memory_shape = self._constants()

    def prepare(self, image: NDArray[np.uint8]) -> Frame:
        """Encodes a frame, once for all objects on it.

        Args:
            image: (H, W, 3) uint8 RGB.
        """
        maps = self._loaded.feature_maps(image)
        return Frame([each.flatten(2).permute(2, 0, 1) for each in maps], (image.shape[0], image.shape[1]))

    def start(self, frame: Frame, shape: Shape) -> Any:
        """The state of an object.

        Args:
            frame: What `prepare` returned.
            shape: Where the object is in that frame: a rectangle, polygon or mask.
        """
        session = self._session(frame, 0)
        if isinstance(shape, Rectangle):
            session.add_point_inputs(0, 0, self._box_prompt(shape, frame.size_hw))
        else:
            session.add_mask_inputs(0, 0, self._mask_prompt(shape, frame.size_hw))
        session.obj_with_new_inputs = [_OBJECT]
        self._run(session, 0)
        return {
            "model": self._key,
            "type": shape.type,
            "box": _share(bounds_xyxy(shape), frame.size_hw),
            "seen": 1,
            "first": self._remembered(session, 0),
            "recent": [],
        }

    def track(self, frame: Frame, state: Any) -> tuple[Shape | None, Any]:
        """Finds an object in the next frame.

        Args:
            frame: What `prepare` returned.
            state: The object's state after the frame before.

        Returns:
            The object's shape, None when the model's score says that it is not in sight; and its state after this frame.

        Raises:
            BadState: This handler did not make the state.
        """
        number = self._check(state)
        session = self._session(frame, number)
        memories = session.output_dict_per_obj[0]
        memories["cond_frame_outputs"][0] = self._recalled(state["first"], 0)
        for before, memory in enumerate(reversed(state["recent"]), 1):
            memories["non_cond_frame_outputs"][number - before] = self._recalled(memory, before)
        output = self._run(session, number)
        recent = [*state["recent"], self._remembered(session, number)]
        next_state = {**state, "seen": number + 1, "recent": self._trimmed(recent)}
        if float(output.object_score_logits.reshape(-1)[0]) <= 0:
            return None, next_state
        bitmap = bitmap_of_logits(output.pred_masks[0, 0].float().cpu().numpy(), frame.size_hw)
        mask = Mask.from_full(without_small_parts(bitmap, self._smallest))
        if not mask.bitmap.any():
            return None, next_state
        if self._one_part:
            mask = one_part(mask, _pixels(state.get("box"), frame.size_hw))
        return self._as(mask, state["type"]), {**next_state, "box": _share(mask.box_xyxy, frame.size_hw)}

    def _constants(self) -> tuple[list[Any], Any, tuple[int, ...]]:
        """The positional encodings of a frame and of a memory, the same for all of them, and a memory's shape."""
        import torch

        model = self._model
        height, width = model.backbone_feature_sizes[-1]
        with torch.inference_mode():
            coarse = torch.zeros(1, model.hidden_dim, height, width, device=self._loaded.device)
            places = self._loaded.places(coarse).flatten(2).permute(2, 0, 1)
            side = model.image_size
            memory, memory_places = model._encode_new_memory(
                current_vision_feats=coarse.flatten(2).permute(2, 0, 1),
                pred_masks_high_res=coarse.new_zeros(1, 1, side, side),
                object_score_logits=coarse.new_zeros(1, 1, 1),
                is_mask_from_pts=False,
            )
        return [places], memory_places, tuple(memory.shape)

    def _session(self, frame: Frame, number: int) -> Any:
        import torch

        device = self._loaded.device
        session = self._session_class(
            video_height=frame.size_hw[0],
            video_width=frame.size_hw[1],
            inference_device=device,
            inference_state_device=device,
            video_storage_device=device,
            dtype=torch.float32,
        )
        session.obj_id_to_idx(_OBJECT)
        features = {"vision_feats": frame.vision, "vision_pos_embeds": self._places}
        session.cache.cache_vision_features(number, features)
        return session

    def _run(self, session: Any, number: int) -> Any:
        import torch

        with torch.inference_mode():
            # The features are in the session already, so no pixels are read; that there is a frame means streaming.
            return self._model(inference_session=session, frame_idx=number, frame=torch.empty(3, 0, 0))

    def _remembered(self, session: Any, number: int) -> list[bytes]:
        """What a frame leaves behind, as bytes: [memory, pointer]."""
        outputs = session.output_dict_per_obj[0]
        kept = outputs["cond_frame_outputs"].get(number) or outputs["non_cond_frame_outputs"][number]
        memory, pointer = kept["maskmem_features"].float().cpu().numpy(), kept["object_pointer"].float().cpu().numpy()
        return [pack_memory(memory, self._state_precision), pack_pointer(pointer)]

    def _recalled(self, memory: list[bytes], before: int) -> dict[str, Any]:
        """The inverse of `_remembered`. Raises BadState for what it did not make."""
        import torch

        device = self._loaded.device
        try:
            pointer = unpack_pointer(memory[1], (1, 1, self._model.hidden_dim))
            features = unpack_memory(memory[0], self._memory_shape) if memory[0] else None
        except ValueError as error:
            raise BadState(f"expected {_OURS}, got one with {error}") from error
        recalled = {"object_pointer": torch.from_numpy(pointer)}
        if features is not None:
            recalled["maskmem_features"] = torch.from_numpy(features)
            recalled["maskmem_pos_enc"] = self._memory_places
        elif before < self._model.num_maskmem:
            raise BadState(f"expected {_OURS}, got one that lacks a memory")
        return {name: tensor.to(device) for name, tensor in recalled.items()}

    def _trimmed(self, recent: list[list[bytes]]) -> list[list[bytes]]:
        """The memories and pointers that the next frame will look at; `recent` is in order, the newest last."""
        memories = self._model.num_maskmem - 1
        pointers = self._model.config.max_object_pointers_in_encoder - 1
        recent = recent[-max(memories, pointers) :]
        return [[b"", pointer] for _, pointer in recent[:-memories]] + recent[-memories:]

    def _check(self, state: Any) -> int:
        """The number of the frame that comes next. Raises BadState for a state that this handler did not make."""
        # States that were made before there was PARTS have no box.
        if not isinstance(state, dict) or state.keys() - {"box"} != {"model", "type", "seen", "first", "recent"}:
            raise BadState(f"expected {_OURS}, got {describe(state)}")
        if state["model"] != self._key:
            raise BadState(f"expected {_OURS}, got one of another model, or of other weights")
        memories = [state["first"], *state["recent"]] if isinstance(state["recent"], list) else []
        whole = all(
            isinstance(m, list) and len(m) == 2 and all(isinstance(part, bytes) for part in m) for m in memories
        )
        number = state["seen"]
        if state["type"] not in SHAPE_TYPES or not memories or not whole or type(number) is not int:
            raise BadState(f"expected {_OURS}, got one it did not make")
        box = state.get("box")
        if box is not None and not (isinstance(box, list) and len(box) == 4 and all(type(v) is float for v in box)):
            raise BadState(f"expected {_OURS}, got one with {describe(box)} for a box")
        if not len(state["recent"]) < number < 2**31:
            raise BadState(f"expected {_OURS}, got one with more memories than frames")
        return number

    def _as(self, mask: Mask, kind: str) -> Shape:
        if kind == "mask":
            return mask
        if kind == "rectangle":
            left, top, right, bottom = mask.box_xyxy
            return Rectangle(box_xyxy=(float(left), float(top), float(right), float(bottom)))
        return Polygon(points_xy=mask_to_outline(mask, self._tolerance))

    def _box_prompt(self, box: Rectangle, size_hw: tuple[int, int]) -> dict[str, Any]:
        import torch

        side = self._loaded.side
        corners = torch.tensor(rotated_bounds_xyxy(box.box_xyxy, box.rotation), dtype=torch.float32).reshape(2, 2)
        scaled = torch.stack([corners[:, 0] * (side / size_hw[1]), corners[:, 1] * (side / size_hw[0])], dim=-1)
        # Labels 2 and 3: top left and bottom right corner.
        return {"point_coords": scaled[None, None], "point_labels": torch.tensor([[[2, 3]]], dtype=torch.int32)}

    def _mask_prompt(self, shape: Shape, size_hw: tuple[int, int]) -> Any:
        import torch
        from torch.nn.functional import interpolate

        mask = outline_to_mask(shape.points_xy, size_hw) if isinstance(shape, Polygon) else shape
        assert isinstance(mask, Mask)  # the function's annotations let nothing else through
        bitmap = torch.from_numpy(mask_to_bitmap(mask, size_hw).astype(np.float32))[None, None]
        side = self._loaded.side
        if size_hw != (side, side):
            bitmap = interpolate(bitmap, (side, side), mode="bilinear", align_corners=False, antialias=True)
        # What is thinner than half a pixel there would vanish: then its strongest pixels represent it.
        return (bitmap >= torch.clamp(bitmap.max(), max=0.5)).float()


def _share(box_xyxy: BoxXyxy | None, size_hw: tuple[int, int]) -> list[float] | None:
    """A box in shares of an image's width and height, for a state: the next frame may have another size."""
    return None if box_xyxy is None else (np.array(box_xyxy) / (*size_hw[::-1], *size_hw[::-1])).tolist()


def _pixels(box: list[float] | None, size_hw: tuple[int, int]) -> BoxXyxy | None:
    """The inverse of `_share`."""
    if box is None:
        return None
    left, top, right, bottom = box
    return left * size_hw[1], top * size_hw[0], right * size_hw[1], bottom * size_hw[0]
