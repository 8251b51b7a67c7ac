import numpy as np
import pytest

from common.cvat.reply import shape_points
from common.serving.last_shape import pack_shape, unpack_shape
from common.serving.state import encode_state
from common.shapes import Cuboid, Ellipse, Mask, Points, Polygon, Polyline, Rectangle, Shape

CORNERS = np.array([[1.25, 2], [3999.99, 0.01], [4, 2999.5]])
RING = np.hypot(*np.mgrid[-30:30, -40:41] / np.array([30, 40]).reshape(2, 1, 1))
SHAPES: list[Shape] = [
    Rectangle(box_xyxy=(0.5, 1.01, 3999.99, 2000.37), rotation=33.5),
    Ellipse(center_xy=(30.33, 40), radii_xy=(10.01, 5), rotation=350),
    Polygon(points_xy=CORNERS),
    Polyline(points_xy=CORNERS[:2]),
    Points(points_xy=CORNERS[:1]),
    Cuboid(points_xy=np.arange(16).reshape(8, 2) / 3),
    Mask.from_full((RING < 1) & (RING > 0.5)),
    Mask(bitmap=np.eye(5, dtype=bool), left=1700, top=4),
    Mask(bitmap=np.ones((1, 1), bool), left=0, top=0),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.type)
def test_a_shape_comes_back_as_the_reply_had_it(shape: Shape) -> None:
    found = unpack_shape(pack_shape(shape))
    assert type(found) is type(shape)
    assert shape_points(found) == shape_points(shape)
    assert getattr(found, "rotation", None) == getattr(shape, "rotation", None)


def test_a_usual_mask_takes_little_and_none_takes_much() -> None:
    y, x = np.mgrid[-2:2:500j, -2:2:500j]
    heart = (x**2 + y**2 - 1) ** 3 + x**2 * y**3 < 0
    usual = Mask.from_full(heart)
    assert len(encode_state("f", pack_shape(usual))) < 3000
    assert shape_points(unpack_shape(pack_shape(usual))) == shape_points(usual)

    noise = np.random.default_rng(1).random((2160, 3840)) < 0.5
    noise[:2] = noise[:, :2] = noise[-1:] = noise[:, -1:] = True
    packed = pack_shape(Mask.from_full(noise))
    assert len(encode_state("f", packed)) < 6_000
    found = unpack_shape(packed)
    assert isinstance(found, Mask)
    assert found.box_xyxy == (0, 0, 3840, 2160)
    assert found.bitmap[noise].all()  # what was set stays set, at a lower resolution


@pytest.mark.parametrize("packed", [None, [], ["mask", b"", [0, 0, 0, 5, 1]], ["tag", b"", 0.0], [[], b"", 0.0]])
def test_other_values_are_refused(packed: object) -> None:
    with pytest.raises(ValueError, match="not a packed shape"):
        unpack_shape(packed)
