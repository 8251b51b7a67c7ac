import pytest

from common.errors import StartupError
from common.networks.formats.metadata import DETECTION_OUTPUT, DetectionOutput, Metadata, class_names


def test_reads_what_ultralytics_writes() -> None:
    metadata = Metadata.read(
        {
            "names": "{0: 'cat', 1: \"dog's\", 10: 'x', 2: 'a', 3: 'b', 4: 'c', 5: 'd', 6: 'e', 7: 'f', 8: 'g', 9: 'h'}",
            "task": "pose",
            "head": "Pose",
            "stride": "32",
            "imgsz": "[384, 640]",
            "kpt_shape": "[17, 3]",
            "kpt_names": "{0: ['nose', 'left eye']}",
            "end2end": "False",
            "channels": "1",
            "args": "{'nms': True, 'dynamic': False}",
        }
    )
    assert metadata.names == ("cat", "dog's", "a", "b", "c", "d", "e", "f", "g", "h", "x")
    assert (metadata.task, metadata.head, metadata.end2end, metadata.nms) == ("pose", "Pose", False, True)
    assert (metadata.size_hw, metadata.channels) == ((384, 640), 1)
    assert (metadata.joints, metadata.joint_names) == ((17, 3), ("nose", "left eye"))


def test_a_file_that_says_nothing() -> None:
    assert Metadata.read({}) == Metadata()
    assert Metadata.read({"names": "['cat', 'dog']"}).names == ("cat", "dog")
    assert Metadata.read({"imgsz": "320"}).size_hw == (320, 320)


@pytest.mark.parametrize("odd", ["__import__('os')", "{", "yes", "[1, 2, 3]", "[-1, 5]"])
def test_what_is_no_literal_counts_as_not_there(odd: str) -> None:
    metadata = Metadata.read(
        {"imgsz": odd, "kpt_shape": odd, "end2end": odd, "args": odd, "channels": odd, "kpt_names": odd}
    )
    assert metadata == Metadata()


@pytest.mark.parametrize("names", ["{0: 'cat', 2: 'dog'}", "cat, dog", "{}", "7"])
def test_refuses_names_that_are_none(names: str) -> None:
    with pytest.raises(StartupError, match="names: expected a list of class names"):
        Metadata.read({"names": names})


def test_class_names_become_labels() -> None:
    names = ("dog's", "  two\n lines ", "", "x" * 70, "x" * 64, "a", "a", "a 2")
    labels = class_names(names)
    assert labels == ["dog's", "two lines", "class 2", "x" * 64, "x" * 62 + " 2", "a", "a 2", "a 2 2"]
    assert all(0 < len(label) <= 64 for label in labels) and len(set(labels)) == len(names)


@pytest.mark.parametrize(
    ("background", "decreased", "expected"),
    [
        (0, False, DetectionOutput(3, background_first=True)),
        (2, False, DetectionOutput(2, background_first=False)),
        (-1, False, DetectionOutput(3, background_first=False)),
        (0, True, DetectionOutput(2, background_first=False)),
    ],
)
def test_where_an_ssd_has_its_background(background: int, decreased: bool, expected: DetectionOutput) -> None:
    attributes = {"num_classes": 3, "background_label_id": background, "decrease_label_id": decreased, "top_k": 10}
    assert Metadata.read({DETECTION_OUTPUT: repr(attributes)}).detection_output == expected
    assert Metadata.read({DETECTION_OUTPUT: "something else"}).detection_output is None
