"""Video memory in a state, against transformers' own sessions that are never interrupted."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.errors import BadState, StartupError
from common.networks.huggingface.library import offline_transformers
from common.networks.sam.memory import pack_memory, unpack_memory, unpack_pointer
from common.networks.sam.model import EDGETAM_VIDEO, SAM2_VIDEO, Family
from common.networks.sam.tracker import SamTracker
from common.serving.state import States
from common.shapes import Mask, Polygon, Rectangle, Shape
from common.vision.geometry import bounds_xyxy, box_area
from common.vision.mask import mask_to_bitmap, mask_to_outline, outline_to_mask
from tests.common.networks.sam.tiny_models import SIDE, image_processor, save_tiny

transformers = offline_transformers()

FAMILIES = {"sam2": SAM2_VIDEO, "edgetam": EDGETAM_VIDEO}
WIDTH, HEIGHT = 200, 150
FRAMES = 9  # more than are remembered: 3 by a memory, 5 by a pointer
BOX = (20.0, 22.0, 120.0, 100.0)
POLYGON = np.array([[30.0, 30], [140, 40], [120, 120], [40, 110]])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny")
    return {name: save_tiny(family, root / name) for name, family in FAMILIES.items()}


def handler(name: str, folder: Path, **options: Any) -> SamTracker:
    handler_class = type("Handler", (SamTracker,), {"family": FAMILIES[name]})
    config = FunctionConfig(directory=folder, name="tiny", kind="tracker", workers=99)  # one thread
    options = {"smallest_part": 0, "parts": "all", "state_precision": "f32", **options}
    return handler_class(config, model_path=str(folder), **options)


def picture(number: int) -> NDArray[np.uint8]:
    """Coarse random colours that move to the right by two pixels a frame."""
    coarse = np.random.default_rng(3).integers(0, 256, (9, 12, 3), np.uint8)
    columns = (np.arange(WIDTH) + 2 * number) * 9 // WIDTH
    return coarse[np.arange(HEIGHT) * 9 // HEIGHT][:, columns]


def shape(kind: str) -> Shape:
    if kind == "rectangle":
        return Rectangle(box_xyxy=BOX)
    if kind == "polygon":
        return Polygon(points_xy=POLYGON)
    return outline_to_mask(POLYGON, (HEIGHT, WIDTH))


class Reference:
    """One session of transformers, fed frame by frame, kept as it is."""

    def __init__(self, family: Family, folder: Path, given: Shape):
        self.model = getattr(transformers, family.model).from_pretrained(folder, local_files_only=True).eval()
        videos = transformers.Sam2VideoVideoProcessor(size={"height": SIDE, "width": SIDE})
        self.processor = transformers.Sam2VideoProcessor(image_processor(family), videos)
        self.session = self.processor.init_video_session(inference_device="cpu", dtype=torch.float32)
        prompt: dict[str, Any]
        if isinstance(given, Rectangle):
            prompt = {"input_boxes": [[list(given.box_xyxy)]]}
        else:
            mask = outline_to_mask(given.points_xy, (HEIGHT, WIDTH)) if isinstance(given, Polygon) else given
            assert isinstance(mask, Mask)
            prompt = {"input_masks": [mask_to_bitmap(mask, (HEIGHT, WIDTH))]}
        self.processor.add_inputs_to_inference_session(
            self.session, frame_idx=0, obj_ids=[1], original_size=(HEIGHT, WIDTH), **prompt
        )

    def next(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], float]:
        inputs = self.processor(images=image, return_tensors="pt")
        with torch.inference_mode():
            output = self.model(inference_session=self.session, frame=inputs.pixel_values[0])
        masks = self.processor.post_process_masks([output.pred_masks], original_sizes=inputs.original_sizes)
        return masks[0][0, 0].numpy(), float(output.object_score_logits)

    def remembered(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = self.session.output_dict_per_obj[0]
        kept = outputs["cond_frame_outputs"].get(number) or outputs["non_cond_frame_outputs"][number]
        return kept["maskmem_features"], kept["object_pointer"]


def bitmap_of(found: Shape | None) -> NDArray[np.bool_]:
    if found is None:
        return np.zeros((HEIGHT, WIDTH), np.bool_)
    assert isinstance(found, Mask)
    return mask_to_bitmap(found, (HEIGHT, WIDTH))


@pytest.mark.parametrize("kind", ["rectangle", "polygon", "mask"])
@pytest.mark.parametrize("name", FAMILIES)
def test_resumed_from_text_by_another_worker_on_every_frame_it_is_exact_to_the_last_bit(
    folders: dict[str, Path], name: str, kind: str
) -> None:
    reference = Reference(FAMILIES[name], folders[name], shape(kind))
    reference.next(picture(0))
    states = States("f")
    workers = [handler(name, folders[name]) for _ in range(2)]
    text = states.encode([workers[0].start(workers[0].prepare(picture(0)), shape(kind))])
    for number in range(1, FRAMES):
        expected, score = reference.next(picture(number))
        assert score > 0 and expected.any() and not expected.all(), "nothing is proved by nothing"
        ours = workers[number % 2]
        (state,) = states.decode(text, ["states[0]"])
        found, state = ours.track(ours.prepare(picture(number)), {**state, "type": "mask"})
        np.testing.assert_array_equal(bitmap_of(found), expected)
        memory, pointer = reference.remembered(number)
        newest = state["recent"][-1]
        assert torch.equal(torch.from_numpy(unpack_memory(newest[0], tuple(memory.shape))), memory.float())
        assert torch.equal(torch.from_numpy(unpack_pointer(newest[1], tuple(pointer.shape))), pointer)
        text = states.encode([state])


@pytest.mark.parametrize("name", FAMILIES)
def test_with_an_older_memory_in_place_of_the_newest_it_is_not_exact(folders: dict[str, Path], name: str) -> None:
    ours = handler(name, folders[name])
    state = ours.start(ours.prepare(picture(0)), shape("mask"))
    for number in range(1, 4):
        _, state = ours.track(ours.prepare(picture(number)), state)
    lost = {**state, "recent": [*state["recent"][:-1], state["recent"][-2]]}
    frame = ours.prepare(picture(4))
    _, after = ours.track(frame, state)
    _, after_loss = ours.track(frame, lost)
    assert after["recent"][-1] != after_loss["recent"][-1]


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return np.count_nonzero(a & b) / max(np.count_nonzero(a | b), 1)


@pytest.mark.parametrize("name", FAMILIES)
def test_stored_in_8_bits_it_stays_within_two_hundredths(folders: dict[str, Path], name: str) -> None:
    reference = Reference(FAMILIES[name], folders[name], shape("polygon"))
    reference.next(picture(0))
    ours = handler(name, folders[name], state_precision="int8")
    states = States("f")
    text = states.encode([{**ours.start(ours.prepare(picture(0)), shape("polygon")), "type": "mask"}])
    exact = States("f").encode([handler(name, folders[name]).start(ours.prepare(picture(0)), shape("polygon"))])
    assert len(text[0]) < 0.9 * len(exact[0])
    for number in range(1, FRAMES):
        expected, _ = reference.next(picture(number))
        (state,) = states.decode(text, ["states[0]"])
        found, state = ours.track(ours.prepare(picture(number)), state)
        assert iou(bitmap_of(found), expected) >= 0.98
        text = states.encode([state])


@pytest.mark.parametrize("name", FAMILIES)
def test_an_object_comes_back_as_what_it_was_given_as(folders: dict[str, Path], name: str) -> None:
    ours = handler(name, folders[name])
    frames = [ours.prepare(picture(number)) for number in range(2)]
    state = ours.start(frames[0], shape("mask"))
    mask, _ = ours.track(frames[1], state)
    assert isinstance(mask, Mask)
    box, _ = ours.track(frames[1], {**state, "type": "rectangle"})
    assert isinstance(box, Rectangle)
    assert box.box_xyxy == tuple(map(float, mask.box_xyxy))
    polygon, _ = ours.track(frames[1], {**state, "type": "polygon"})
    assert isinstance(polygon, Polygon)
    np.testing.assert_array_equal(polygon.points_xy, mask_to_outline(mask, 1.0))


@pytest.mark.parametrize("name", FAMILIES)
def test_objects_of_one_frame_do_not_touch_each_other(folders: dict[str, Path], name: str) -> None:
    ours = handler(name, folders[name])
    first, second = ours.prepare(picture(0)), ours.prepare(picture(1))
    states = [ours.start(first, shape(kind)) for kind in ("mask", "rectangle")]
    together = [ours.track(second, state)[1] for state in states]
    alone = [ours.track(ours.prepare(picture(1)), copy.deepcopy(state))[1] for state in reversed(states)]
    assert together == alone[::-1]
    assert together[0]["recent"] != together[1]["recent"]


@pytest.mark.parametrize("name", FAMILIES)
def test_an_object_out_of_sight_is_lost_and_may_come_back(tmp_path: Path, name: str) -> None:
    hidden, seen = tmp_path / "hidden", tmp_path / "seen"
    ours = handler(name, save_tiny(FAMILIES[name], hidden, object_score=-40))
    state = ours.start(ours.prepare(picture(0)), shape("mask"))
    for number in range(1, 4):
        found, state = ours.track(ours.prepare(picture(number)), state)
        assert found is None
    assert state["seen"] == 4
    again = handler(name, save_tiny(FAMILIES[name], seen))
    found, _ = again.track(again.prepare(picture(4)), {**state, "model": again._key})
    assert found is not None


@pytest.mark.parametrize("name", FAMILIES)
def test_a_state_grows_to_a_limit_and_no_further(folders: dict[str, Path], name: str) -> None:
    sizes = {}
    for frames in (0, 2):
        ours = handler(name, folders[name], memory_frames=frames)
        state = ours.start(ours.prepare(picture(0)), shape("mask"))
        lengths = []
        for number in range(1, FRAMES + 3):
            _, state = ours.track(ours.prepare(picture(number)), state)
            lengths.append(len(States("f").encode([state])[0]))
        assert max(lengths[-4:]) < 1.05 * min(lengths[-4:])
        assert state["seen"] == FRAMES + 3
        sizes[frames] = lengths[-1]
    assert sizes[2] < 0.85 * sizes[0]


def test_a_thin_object_does_not_vanish_before_it_is_seen(folders: dict[str, Path]) -> None:
    ours = handler("edgetam", folders["edgetam"])
    line = np.zeros((2000, 3000), np.bool_)
    line[1000, 100:2900] = True
    prompt = ours._mask_prompt(Mask.from_full(line), (2000, 3000))
    assert prompt.sum() > 0


def test_a_turned_box_is_taken_with_its_corners(folders: dict[str, Path]) -> None:
    ours = handler("edgetam", folders["edgetam"])
    turned = ours._box_prompt(Rectangle(box_xyxy=(60, 60, 100, 80), rotation=90), (HEIGHT, WIDTH))
    upright = ours._box_prompt(Rectangle(box_xyxy=(70, 50, 90, 90)), (HEIGHT, WIDTH))
    torch.testing.assert_close(turned["point_coords"], upright["point_coords"])


@pytest.mark.parametrize("precision", ["f32", "bf16", "int8"])
def test_memories_survive_packing(precision: str) -> None:
    memory = np.random.default_rng(0).standard_normal((50, 1, 64)).astype(np.float32) * np.logspace(-8, 8, 64, base=2)
    memory = memory.astype(np.float32)
    memory[:, 0, 5] = 0
    found = unpack_memory(pack_memory(memory, precision), memory.shape)
    if precision == "f32":
        np.testing.assert_array_equal(found, memory)
    elif precision == "bf16":
        expected = torch.from_numpy(memory).to(torch.bfloat16).float().numpy()
        np.testing.assert_array_equal(found, expected)
    else:
        assert (np.abs(found - memory) <= np.abs(memory).max(axis=0) / 127 * 0.5001).all()


DAMAGES: dict[str, Any] = {
    "no object": lambda s: [1, 2],
    "a field less": lambda s: {k: v for k, v in s.items() if k != "first"},
    "another model": lambda s: {**s, "model": "0" * 16},
    "another shape type": lambda s: {**s, "type": "skeleton"},
    "a text for a number": lambda s: {**s, "seen": "3"},
    "a number too small": lambda s: {**s, "seen": 1},
    "a cut memory": lambda s: {**s, "first": [s["first"][0][:-9], s["first"][1]]},
    "an inflated memory": lambda s: {**s, "first": [s["first"][0] + b"x" * 99, s["first"][1][:-4]]},
    "a memory of another kind": lambda s: {**s, "first": [b"Zzz", s["first"][1]]},
    "a cut pointer": lambda s: {**s, "first": [s["first"][0], s["first"][1][:-4]]},
    "no memory": lambda s: {**s, "recent": [[b"", m[1]] for m in s["recent"]]},
    "a memory that is none": lambda s: {**s, "recent": [*s["recent"][:-1], "memory"]},
    "memories that are no list": lambda s: {**s, "recent": "memories"},
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_a_state_that_it_did_not_make_is_refused(folders: dict[str, Path], damage: str, precision: str) -> None:
    ours = handler("edgetam", folders["edgetam"], state_precision=precision)
    state = ours.start(ours.prepare(picture(0)), shape("mask"))
    for number in (1, 2):
        _, state = ours.track(ours.prepare(picture(number)), state)
    with pytest.raises(BadState, match=r"^expected a state that this function returned, got "):
        ours.track(ours.prepare(picture(3)), DAMAGES[damage](state))


def test_a_state_of_other_weights_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    ours = handler("edgetam", folders["edgetam"])
    other = handler("edgetam", save_tiny(EDGETAM_VIDEO, tmp_path, seed=5))
    state = other.start(other.prepare(picture(0)), shape("mask"))
    with pytest.raises(BadState, match="another model, or of other weights"):
        ours.track(ours.prepare(picture(1)), state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state_precision": "f8"}, "STATE_PRECISION: expected one of f32, bf16, int8"),
        ({"memory_frames": 1}, "MEMORY_FRAMES: expected 0, or 2 to 3, got 1"),
        ({"memory_frames": 9}, "MEMORY_FRAMES: expected 0, or 2 to 3, got 9"),
    ],
)
def test_options_that_make_no_sense_stop_the_start(
    folders: dict[str, Path], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(StartupError, match=message):
        handler("edgetam", folders["edgetam"], **options)


@pytest.mark.parametrize("name", FAMILIES)
def test_box_polygon_and_mask_are_of_the_same_part(folders: dict[str, Path], name: str) -> None:
    ours, whole = (handler(name, folders[name], parts=parts, polygon_tolerance=0.0) for parts in ("one", "all"))
    state = ours.start(ours.prepare(picture(0)), shape("mask"))
    islands = 0
    for number in range(1, 5):
        frame = ours.prepare(picture(number))
        found = {kind: ours.track(frame, {**state, "type": kind})[0] for kind in ("rectangle", "polygon", "mask")}
        full = whole.track(whole.prepare(picture(number)), {**state, "type": "mask"})[0]
        assert isinstance(full, Mask)
        box, polygon, mask = found["rectangle"], found["polygon"], found["mask"]
        assert isinstance(box, Rectangle) and isinstance(polygon, Polygon) and isinstance(mask, Mask)
        assert box.box_xyxy == bounds_xyxy(polygon) == mask.box_xyxy
        assert cv2.connectedComponents(mask.bitmap.view(np.uint8), connectivity=8)[0] == 2
        assert not (bitmap_of(mask) & ~bitmap_of(full)).any()
        islands += box_area(mask.box_xyxy) < box_area(full.box_xyxy)
        _, state = ours.track(frame, state)
    assert islands, "nothing is proved by masks in one piece"


@pytest.mark.parametrize("name", FAMILIES)
def test_states_made_before_the_box_was_kept_go_on(folders: dict[str, Path], name: str) -> None:
    ours = handler(name, folders[name], parts="one")
    state = ours.start(ours.prepare(picture(0)), shape("rectangle"))
    frame, earlier = ours.prepare(picture(1)), {key: value for key, value in state.items() if key != "box"}
    found, after = ours.track(frame, earlier)
    assert isinstance(found, Rectangle)
    assert after.keys() == state.keys()
    with pytest.raises(BadState, match=r"got one with \[1, 2\] for a box"):
        ours.track(frame, {**state, "box": [1, 2]})


def test_parts_that_are_no_choice_stop_the_start(folders: dict[str, Path]) -> None:
    with pytest.raises(StartupError, match=r"^PARTS: expected one or all, got the text 'some'$"):
        handler("edgetam", folders["edgetam"], parts="some")
