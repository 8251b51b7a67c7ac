import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cvat_sdk.masks import encode_mask

from common.config import FunctionConfig
from common.errors import BadRequest, ModelError, StartupError
from common.networks.loader import load_handler_class
from common.serving import kinds
from common.serving.kinds import Kind
from common.serving.stages import Stages
from common.serving.state import encode_state
from tests.functions import TRACKER, write_function
from tests.image_files import encode, to_base64


def picture(left: int, top: int = 10, width: int = 20) -> str:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[top : top + 10, max(left, 0) : max(left + width, 0)] = 255
    return to_base64(encode(pixels))


def tracker(
    directory: Path,
    handler: str | None = None,
    types: str | None = "rectangle, mask",
    environment: dict[str, str] | None = None,
) -> Kind:
    annotations = {} if types is None else {"supported_shape_types": types}
    config = FunctionConfig.load(write_function(directory, "tracker", handler, annotations=annotations))
    return kinds.make(config, load_handler_class(directory), environment or {})


def answered(made: Kind, **fields: Any) -> Any:
    return json.loads(made.answer({"image": picture(15), **fields}, Stages()))


BOX = {"type": "rectangle", "points": [15, 10, 35, 20]}


def test_an_object_over_three_frames(tmp_path: Path) -> None:
    made = tracker(tmp_path)
    first = answered(made, shapes=[BOX], states=[])
    assert first["shapes"] == [BOX]
    second = answered(made, image=picture(17), shapes=[None], states=first["states"])
    assert second["shapes"] == [{"type": "rectangle", "points": [17, 10, 37, 20]}]
    third = answered(made, image=picture(20, top=12), states=second["states"])
    assert third["shapes"] == [{"type": "rectangle", "points": [20, 12, 40, 22]}]
    assert all(isinstance(state, str) and len(state) < 200 for state in third["states"])


def test_any_replica_goes_on(tmp_path: Path) -> None:
    first = answered(tracker(tmp_path / "one"), shapes=[BOX])
    second = answered(tracker(tmp_path / "two"), image=picture(30), states=first["states"])
    assert second["shapes"] == [{"type": "rectangle", "points": [30, 10, 50, 20]}]


def test_several_objects_in_order(tmp_path: Path) -> None:
    made = tracker(tmp_path)
    pixels = np.zeros((40, 60), bool)
    pixels[10:20, 15:35] = True
    mask = {"type": "mask", "points": encode_mask(pixels)}
    first = answered(made, shapes=[mask, BOX, mask])
    assert [shape["type"] for shape in first["shapes"]] == ["mask", "rectangle", "mask"]
    assert first["shapes"][0] == mask
    second = answered(
        made, image=picture(16), shapes=[None, BOX, None], states=[first["states"][0], None, first["states"][2]]
    )
    assert second["shapes"] == [
        {"type": "mask", "points": [0, 200, 16, 10, 35, 19]},
        BOX,
        {"type": "mask", "points": [0, 200, 16, 10, 35, 19]},
    ]


def test_old_servers_get_bare_boxes_in_every_frame(tmp_path: Path) -> None:
    made = tracker(tmp_path, types=None)
    first = answered(made, shapes=[[15, 10, 35, 20]], states=[])
    assert first["shapes"] == [[15, 10, 35, 20]]
    second = answered(made, image=picture(18), shapes=[[15, 10, 35, 20]], states=first["states"])
    assert second["shapes"] == [[18, 10, 38, 20]]
    third = answered(made, image=picture(19), shapes=[None], states=second["states"])
    assert third["shapes"] == [[19, 10, 39, 20]]


GONE = {"image": picture(15, width=0)}


def test_a_lost_object_keeps_its_last_shape_and_may_be_found_again(tmp_path: Path) -> None:
    made, stages = tracker(tmp_path), Stages()
    first = answered(made, shapes=[BOX, BOX])
    assert "lost" not in first
    last = {"type": "rectangle", "points": [17, 10, 37, 20]}
    second = answered(made, image=picture(17), states=first["states"])
    assert second["shapes"] == [last, last]
    assert "lost" not in second
    for _ in range(3):
        reply = json.loads(made.answer({**GONE, "states": second["states"]}, stages))
        assert reply["shapes"] == [last, last]
        assert reply["lost"] == [0, 1]
        assert stages.facts == {"image": "60x40", "objects": 2, "lost": 2}
    found = answered(made, states=reply["states"])
    assert found["shapes"] == [BOX, BOX]
    assert "lost" not in found


def test_only_the_lost_one_of_several_is_named(tmp_path: Path) -> None:
    made = tracker(tmp_path)
    (state,) = answered(made, shapes=[BOX])["states"]
    reply = answered(made, **GONE, shapes=[BOX, None, BOX], states=[None, state, None])
    assert reply["shapes"] == [BOX, BOX, BOX]
    assert reply["lost"] == [1]


def test_a_lost_object_is_null_for_who_wants_it(tmp_path: Path) -> None:
    made = tracker(tmp_path, environment={"LOST": "null"})
    first = answered(made, shapes=[BOX])
    second = answered(made, **GONE, states=first["states"])
    assert second["shapes"] == [None]
    assert second.keys() == {"shapes", "states"}
    assert answered(made, states=second["states"])["shapes"] == [BOX]
    with pytest.raises(StartupError, match=r"^LOST: expected last or null, got the text 'keep'$"):
        tracker(tmp_path / "b", environment={"LOST": "keep"})


def test_a_lost_mask_stays_a_mask_and_a_bare_box_a_bare_box(tmp_path: Path) -> None:
    made = tracker(tmp_path)
    pixels = np.zeros((40, 60), bool)
    pixels[10:20, 15:35] = True
    mask = {"type": "mask", "points": encode_mask(pixels)}
    reply = answered(made, **GONE, states=answered(made, shapes=[mask])["states"])
    assert reply["shapes"] == [mask]
    old = tracker(tmp_path / "old", types=None)
    reply = answered(old, **GONE, states=answered(old, shapes=[[15, 10, 35, 20]])["states"])
    assert reply["shapes"] == [[15, 10, 35, 20]]


def test_the_shape_of_a_lost_object_stays_inside_a_smaller_frame(tmp_path: Path) -> None:
    made = tracker(tmp_path)
    first = answered(made, shapes=[BOX])
    for width, box in ((25, [15, 10, 25, 20]), (10, [15, 10, 35, 20])):  # of which nothing is left: as it was
        image = to_base64(encode(np.zeros((40, width, 3), np.uint8)))
        assert answered(made, image=image, states=first["states"])["shapes"] == [{"type": "rectangle", "points": box}]


def test_states_made_before_there_was_a_last_shape_go_on(tmp_path: Path) -> None:
    before, now = tracker(tmp_path, environment={"LOST": "null"}), tracker(tmp_path)
    earlier = encode_state("test-tracker", [False, {"type": "rectangle", "frames": 1}])
    assert answered(now, image=picture(17), states=[earlier])["shapes"] == [
        {"type": "rectangle", "points": [17, 10, 37, 20]}
    ]
    lost = answered(now, **GONE, states=[earlier])
    assert lost["shapes"] == [None]
    assert lost["lost"] == [0]
    assert answered(now, states=lost["states"])["shapes"] == [BOX]
    assert answered(before, states=answered(now, shapes=[BOX])["states"])["shapes"] == [BOX]


@pytest.mark.parametrize(
    "content",
    [
        "text", [1, {}], [False], [False, {}, None], [False, {}, ["rectangle", b"1234", 0.0]], [False, {}, [], 1],
        [False, {}, ["mask", b"", [0, 0, 5, 5, 1]]], [False, {}, ["mask", b"", [0, 0, 10**6, 10**6, 1]]],
        [False, {}, ["circle", b"1" * 16, 0]], [False, {}, ["rectangle", b"\xff" * 16, 0.0]],
        [False, {}, ["mask", b"", [float("inf"), 0, 5, 5, 1]]],
    ],
)  # fmt: skip
def test_a_state_of_another_content_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(
        BadRequest, match=r"^states\[0\]: expected a state that test-tracker returned, got one it did not"
    ):
        answered(tracker(tmp_path), states=[encode_state("test-tracker", content)])


def test_shapes_are_clipped_to_the_frame(tmp_path: Path) -> None:
    made = tracker(tmp_path)
    assert answered(made, shapes=[{"type": "rectangle", "points": [-5, 10, 35, 90]}])["shapes"] == [
        {"type": "rectangle", "points": [0, 10, 35, 40]}
    ]
    shifted = tracker(tmp_path / "b", TRACKER.replace("box_xyxy=mask.box_xyxy", "box_xyxy=(40, 30, 80, 50)"))
    first = answered(shifted, shapes=[BOX])
    assert answered(shifted, states=first["states"])["shapes"] == [{"type": "rectangle", "points": [40, 30, 60, 40]}]


def test_a_shape_that_has_left_the_frame_is_lost(tmp_path: Path) -> None:
    made = tracker(tmp_path, TRACKER.replace("box_xyxy=mask.box_xyxy", "box_xyxy=(70, 10, 90, 20)"))
    first = answered(made, shapes=[BOX])
    reply = answered(made, states=first["states"])
    assert reply["shapes"] == [BOX]
    assert reply["lost"] == [0]


def test_a_shape_that_is_none_is_the_model_s_fault_and_not_a_lost_object(tmp_path: Path) -> None:
    made = tracker(tmp_path, TRACKER.replace("box_xyxy=mask.box_xyxy", "box_xyxy=(1, 2, float('nan'), 4)"))
    first = answered(made, shapes=[BOX])
    with pytest.raises(ModelError, match="box: expected finite numbers"):
        answered(made, states=first["states"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shapes": [{"type": "polygon", "points": [0, 0, 5, 0, 5, 5]}]}, r"^shapes\[0\]\.type: expected rectangle or mask, got the text 'polygon'$"),
        ({"shapes": [BOX, {"type": "rectangle", "points": [100, 10, 120, 20]}]}, r"^shapes\[1\]: the box \[100, 10, 120, 20\] is outside the image of 60 x 40 pixels$"),
        ({"shapes": [{"type": "mask", "points": [0, 4, 70, 70, 71, 71]}]}, r"^shapes\[0\]: the mask is outside the image of 60 x 40 pixels$"),
        ({"states": ["junk"]}, r"^states\[0\]: expected a state that test-tracker returned, got one it did not make$"),
        ({"states": [{"a": 1}]}, r"^states\[0\]: expected a state that test-tracker returned, got an object of 1 field$"),
        ({"shapes": [BOX], "states": ["a", "b"]}, r"^states: expected as many as shapes \(1\) or none, got 2"),
    ],
)  # fmt: skip
def test_bad_requests(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        answered(tracker(tmp_path), **fields)


def test_a_bad_state_is_found_before_the_frame_is_decoded(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"^states\[0\]: "):
        answered(tracker(tmp_path), image=to_base64(b"no image"), states=["junk"])


def test_a_state_that_was_changed_or_of_another_content_is_refused(tmp_path: Path) -> None:
    made = tracker(tmp_path)
    (state,) = answered(made, shapes=[BOX])["states"]
    with pytest.raises(BadRequest, match=r"^states\[0\]: the state was changed or cut on its way"):
        answered(made, states=[state[:-1]])
    other = tracker(tmp_path / "other", TRACKER.replace('"frames"', '"count"'))
    with pytest.raises(BadRequest, match=r"^states\[0\]: expected a state with type and frames$"):
        answered(made, states=answered(other, shapes=[BOX])["states"])


def test_an_error_of_the_handler_s_own_is_not_put_on_the_state(tmp_path: Path) -> None:
    made = tracker(tmp_path, TRACKER.replace('state["frames"] += 1', 'raise ValueError("cannot reshape")'))
    first = answered(made, shapes=[BOX])
    with pytest.raises(ValueError, match=r"^cannot reshape$") as caught:
        answered(made, states=first["states"])
    assert not isinstance(caught.value, BadRequest)
