import base64
import io
import json
import logging
import os
import random
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import nuclio_sdk
import numpy as np
import pytest

from common.errors import StartupError
from common.serving import nuclio
from tests.functions import write_function
from tests.image_files import encode, photo, to_base64
from tools.wrapper import LoadedFunction

PICTURE = np.zeros((40, 60, 3), np.uint8)
PICTURE[10:20, 15:45] = 255
FILE = encode(PICTURE)
IMAGE = to_base64(FILE)
BOX = {"type": "rectangle", "points": [15, 10, 35, 20]}
BODIES: dict[str, dict[str, Any]] = {
    "detector": {"image": IMAGE},
    "interactor": {"image": IMAGE, "pos_points": [[20, 15]], "neg_points": [], "obj_bbox": None},
    "tracker": {"image": IMAGE, "shapes": [BOX], "states": []},
    "reid": {"image0": IMAGE, "image1": IMAGE, "boxes0": [BOX], "boxes1": [BOX]},
}
FACTS = {
    "detector": {"image": "60x40", "shapes": 1},
    "interactor": {"image": "60x40", "pixels": 300},
    "tracker": {"image": "60x40", "objects": 1, "lost": 0},
    "reid": {"boxes0": 1, "boxes1": 1, "matched": 1},
}


class Logged(LoadedFunction):
    """A function whose log is kept, as the records that Nuclio's processor would get."""

    def __init__(self, directory: Path):
        self._log = io.StringIO()
        logger = nuclio_sdk.Logger(logging.DEBUG, name=f"test {directory}")
        logger._logger.propagate = False
        logger.set_handler("default", self._log, nuclio_sdk.logger.JSONFormatter())
        super().__init__(directory, unique=True, logger=logger)

    def records(self) -> list[dict[str, Any]]:
        """What was logged since the last call."""
        text = self._log.getvalue()
        self._log.truncate(0)
        self._log.seek(0)
        for line in text.splitlines():
            assert len(line) < 200_000  # longer ones block Nuclio's log pipe
        return [json.loads(line) for line in text.splitlines()]


def function(directory: Path, kind: str = "detector", handler: str | None = None, **options: Any) -> Logged:
    loaded = Logged(write_function(directory, kind, handler, **options))
    loaded.records()
    return loaded


def detector_that(directory: Path, does: str) -> Logged:
    """A detector whose `infer` is the given lines."""
    lines = "\n".join("            " + line for line in does.splitlines())
    handler = f"""
    class ModelHandler:
        def __init__(self, config):
            pass

        def infer(self, image, threshold):
{lines}
"""
    return function(directory, "detector", handler)


class TestAnswers:
    @pytest.mark.parametrize("kind", BODIES)
    def test_each_kind(self, tmp_path: Path, kind: str) -> None:
        loaded = function(tmp_path, kind)
        reply = loaded(BODIES[kind])
        assert (reply.status, reply.content_type) == (200, "application/json")
        if kind == "detector":
            assert reply.json()[0]["points"] == [15, 10, 45, 20]
        elif kind == "interactor":
            assert reply.json()["bounds"] == [15, 10, 44, 19]
        elif kind == "tracker":
            assert reply.json()["shapes"] == [BOX]
        else:
            assert reply.json() == [0]
        (record,) = loaded.records()
        assert (record["message"], record["level"]) == ("Answered", "info")
        facts = record["with"]
        assert facts["status"] == 200
        assert facts["reply_bytes"] == len(reply.body)
        assert {name: facts[name] for name in FACTS[kind]} == FACTS[kind]
        times = {name: value for name, value in facts.items() if name.endswith("_ms")}
        assert times.keys() >= {"decode_ms", "inference_ms", "encode_ms"}
        assert all(isinstance(value, float) and 0 <= value < 60_000 for value in times.values())
        stages = [entry.partition(";dur=") for entry in reply.headers["Server-Timing"].split(", ")]
        assert [f"{name}_ms" for name, _, _ in stages] == list(times)
        for name, _, value in stages:
            assert float(value) == pytest.approx(times[f"{name}_ms"], abs=0.06)

    @pytest.mark.parametrize(
        "content_type",
        [
            "application/json",
            "application/json; charset=utf-8",
            "text/json",
            "application/octet-stream",
            "text/plain",
            "",
        ],
    )
    @pytest.mark.parametrize("kind", BODIES)
    def test_of_any_content_type(self, tmp_path: Path, kind: str, content_type: str) -> None:
        assert function(tmp_path, kind)(json.dumps(BODIES[kind]), content_type).status == 200

    def test_the_body_of_the_reply_is_text(self, tmp_path: Path) -> None:
        """Bytes would gain base64 on the wire, and a list would go out as Python writes it."""
        loaded = function(tmp_path)
        for body in (BODIES["detector"], None):
            response = nuclio.answer(loaded.context, nuclio_sdk.Event(body=body))
            assert isinstance(response, nuclio_sdk.Response)
            assert type(response.body) is str

    def test_text_that_is_not_ascii(self, tmp_path: Path) -> None:
        loaded = function(tmp_path)
        reply = loaded(BODIES["detector"])
        assert reply.json()[0]["attributes"] == [{"name": "text", "value": "hell Ü"}]
        assert loaded.records()[0]["with"]["reply_bytes"] == len(reply.body)


def bomb() -> str:
    data = bytearray(FILE)
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return to_base64(bytes(data))


def tampered() -> str:
    return "test-tracker.2.0123456789abcdef01234567.eJwDAAAAAAE="


REFUSED: list[tuple[str, Any, str]] = [
    ("detector", b"", "body: expected a JSON object"),
    ("detector", b"image=abc", "body: expected JSON"),
    ("detector", "[1, 2]", "body: expected a JSON object"),
    ("detector", b"[" * 100_000, "body: expected JSON"),
    ("detector", {}, "image: expected an image file in base64, got nothing"),
    ("detector", {"image": None}, "image: expected an image file in base64, got null"),
    ("detector", {"image": "not base64!"}, "image: expected an image file in base64"),
    ("detector", {"image": to_base64(b"no image")}, "image: expected an image file (JPEG, PNG, WebP, BMP, TIFF or GIF)"),
    ("detector", {"image": to_base64(FILE[:-40])}, "image: the image is damaged or truncated"),
    ("detector", {"image": bomb()}, "image: 60000 x 60000 pixels are over the limit"),
    ("detector", {"image": IMAGE, "threshold": "high"}, "threshold: expected a number from 0 to 1"),
    ("detector", {"image": IMAGE, "threshold": 1.5}, "threshold: expected a number from 0 to 1, got 1.5"),
    ("interactor", {"image": IMAGE}, "pos_points: expected at least one positive point"),
    ("interactor", {"image": IMAGE, "pos_points": [[61, 5]]}, "pos_points[0]: expected a point inside the image"),
    ("interactor", {"image": IMAGE, "obj_bbox": [[0, 0], [60, 41]]}, "obj_bbox[1]: expected a point inside the image"),
    ("tracker", {"image": IMAGE, "shapes": [BOX], "states": ["a", "b"]}, "states: expected as many as shapes (1)"),
    ("tracker", {"image": IMAGE, "states": ["someone.1.else.s"]}, "states[0]: expected a state that test-tracker returned"),
    ("tracker", {"image": IMAGE, "states": [tampered()]}, "states[0]: the state was changed or cut on its way"),
    ("tracker", {"image": IMAGE, "shapes": [{"type": "polygon", "points": [0, 0, 5, 0, 5, 5]}]}, "shapes[0].type: expected rectangle"),
    ("reid", {"image0": IMAGE, "boxes0": [], "boxes1": []}, "image1: expected an image file in base64, got nothing"),
    ("reid", {"image0": IMAGE, "image1": IMAGE, "boxes0": [5], "boxes1": []}, "boxes0[0]: expected the shape's points"),
]  # fmt: skip


class TestRefuses:
    @pytest.mark.parametrize(("kind", "body", "message"), REFUSED, ids=[message[:40] for _, _, message in REFUSED])
    @pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
    def test_with_400_and_the_field_s_name(
        self, tmp_path: Path, kind: str, body: Any, message: str, content_type: str
    ) -> None:
        loaded = function(tmp_path, kind)
        reply = loaded(body, content_type)
        assert (reply.status, reply.content_type) == (400, "application/json")
        assert reply.json().keys() == {"error"}
        assert reply.json()["error"].startswith(message)
        (record,) = loaded.records()
        assert (record["message"], record["level"]) == ("Refused", "warning")
        assert record["with"]["error"] == reply.json()["error"]
        assert "trace" not in record["with"]

    def test_a_thousand_times_and_still_answers_in_the_same_process(self, tmp_path: Path) -> None:
        functions = {kind: function(tmp_path / kind, kind) for kind in BODIES}
        before = {kind: loaded(BODIES[kind]).json() for kind, loaded in functions.items()}
        process = os.getpid()
        bodies = [(kind, body if isinstance(body, (bytes, str)) else json.dumps(body)) for kind, body, _ in REFUSED]
        for kind, body in bodies:
            functions[kind](body)
        tracemalloc.start()
        for i in range(1000):
            kind, body = bodies[i % len(bodies)]
            assert functions[kind](body).status == 400
            functions[kind].records()
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < 2e6
        assert os.getpid() == process
        for kind, loaded in functions.items():
            reply = loaded(BODIES[kind])
            assert (reply.status, reply.json()) == (200, before[kind])


class TestMeantForAnother:
    @pytest.mark.parametrize("name", ["X-Nuclio-Target", "x-nuclio-target"])
    @pytest.mark.parametrize("kind", BODIES)
    def test_is_421_with_both_names_and_the_remedy(self, tmp_path: Path, kind: str, name: str) -> None:
        loaded = function(tmp_path, kind)
        assert loaded(BODIES[kind], headers={name: f"test-{kind}"}).status == 200
        loaded.records()
        reply = loaded(BODIES[kind], headers={name: "onnx-yolo-detect"})
        assert (reply.status, reply.content_type) == (421, "application/json")
        error = reply.json()["error"]
        assert error.startswith(f"this is test-{kind}, and the request is for onnx-yolo-detect: ")
        assert "./deploy_cpu.sh --no-build" in error
        (record,) = loaded.records()
        assert (record["message"], record["level"]) == ("Refused", "warning")
        assert record["with"] == {"status": 421, "reply_bytes": len(reply.body), "error": error}

    def test_takes_precedence_over_a_wrong_body(self, tmp_path: Path) -> None:
        """Of two faults, this is the one to mend first: the body may be right for the other function."""
        assert function(tmp_path)({}, headers={"X-Nuclio-Target": "other"}).status == 421

    def test_by_the_name_under_which_it_was_deployed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NUCLIO_FUNCTION_NAME", "test-detector-gpu")
        loaded = function(tmp_path)
        assert loaded(BODIES["detector"], headers={"X-Nuclio-Target": "test-detector-gpu"}).status == 200
        reply = loaded(BODIES["detector"], headers={"X-Nuclio-Target": "test-detector"})
        assert (reply.status, reply.json()["error"].split(",")[0]) == (421, "this is test-detector-gpu")


SECRET = "".join(
    random.Random(0).choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", k=100_000)
)


class TestFailures:
    @pytest.mark.parametrize(
        ("does", "name"),
        [
            ("raise ValueError('secret detail')", "ValueError"),
            ("raise KeyError('secret detail')", "KeyError"),
            ("raise MemoryError('secret detail')", "MemoryError"),
            ("return self.infer(image, threshold)", "RecursionError"),
            ("raise Exception", "Exception"),
            ("return 5", "TypeError"),
            ("return None", "TypeError"),
            ("return ['shape']", "AttributeError"),
        ],
    )
    def test_of_the_handler_are_500_with_its_class_and_no_more(self, tmp_path: Path, does: str, name: str) -> None:
        loaded = detector_that(tmp_path, does)
        reply = loaded(BODIES["detector"])
        assert (reply.status, reply.content_type) == (500, "application/json")
        assert reply.json() == {"error": f"test-detector failed with {name}; its log says why"}
        (record,) = loaded.records()
        assert (record["message"], record["level"]) == ("Failed", "error")
        assert record["with"]["cause"].startswith(f"{name}: ")
        if "secret" in does:
            assert "secret detail" in record["with"]["cause"]
            assert "model_handler.py" in record["with"]["trace"]
            assert "in infer" in record["with"]["trace"]
        assert len(record["with"]["trace"]) <= 8010
        assert record["with"]["decode_ms"] > 0
        assert "inference" in reply.headers["Server-Timing"]

    def test_the_log_has_the_error_behind_the_error(self, tmp_path: Path) -> None:
        loaded = detector_that(
            tmp_path,
            "try:\n    {}['the cause']\nexcept KeyError as error:\n    raise RuntimeError('the result') from error",
        )
        loaded(BODIES["detector"])
        trace = loaded.records()[0]["with"]["trace"]
        assert trace.index("KeyError: 'the cause'") < trace.index("RuntimeError: the result")
        loaded = detector_that(
            tmp_path / "b", "try:\n    {}['hidden']\nexcept KeyError:\n    raise RuntimeError('the result') from None"
        )
        loaded(BODIES["detector"])
        assert "hidden" not in loaded.records()[0]["with"]["trace"].replace("{}['hidden']", "")

    def test_a_shape_that_cvat_would_drop_is_500_with_what_is_wrong(self, tmp_path: Path) -> None:
        loaded = detector_that(tmp_path, "from common.shapes import Tag\nreturn [Tag(label='cat')]")
        reply = loaded(BODIES["detector"])
        assert reply.status == 500
        assert reply.json() == {
            "error": "test-detector failed: shape 0: the label 'cat' is not in the function's spec: bright, mask"
        }
        assert "in infer" not in json.dumps(loaded.records()[0]["with"]["error"])

    def test_text_that_no_json_can_hold_is_500(self, tmp_path: Path) -> None:
        does = "from common.shapes import Rectangle\nreturn [Rectangle(label='bright', box_xyxy=(1, 1, 9, 9), attributes={'text': chr(0xD800)})]"
        assert detector_that(tmp_path, does)(BODIES["detector"]).status == 500

    @pytest.mark.parametrize(
        "does",
        [
            f"raise ValueError({SECRET!r})",
            f"raise ValueError('cannot read ' + {SECRET!r})",
            f"raise ValueError(b'' + {SECRET.encode()!r})",
            "raise ValueError(image.tobytes())",
            "raise ValueError(str(image.ravel().tolist()))",
            f"from common.errors import ModelError\ntry:\n    raise ValueError({SECRET!r})\nexcept ValueError as error:\n    raise ModelError('wrong') from error",
            "raise ValueError('line\\n' * 1_000_000)",
        ],
        ids=lambda does: does[:30],
    )
    def test_no_image_reaches_reply_or_log(self, tmp_path: Path, does: str) -> None:
        # In a file of its own, so that no line of the source with the data in it stands in the traceback.
        (tmp_path / "data").mkdir()
        source = tmp_path / "data" / "source.py"
        source.write_text(
            "def infer(self, image, threshold):\n" + "\n".join("    " + line for line in does.splitlines())
        )
        loaded = detector_that(
            tmp_path / "function",
            f"space = {{}}\nexec(compile(open({str(source)!r}).read(), 'generated', 'exec'), space)\nreturn space['infer'](self, image, threshold)",
        )
        picture = photo((300, 400))
        reply = loaded({"image": to_base64(encode(picture))})
        assert reply.status == 500
        assert len(reply.body) < 1000
        (record,) = loaded.records()
        text = json.dumps(record)
        assert len(text) < 20_000
        for start in range(0, len(SECRET), 1000):
            assert SECRET[start : start + 60] not in text + reply.body.decode()
        assert repr(picture.tobytes()[:30])[2:-1] not in text

    def test_huge_bodies_leave_short_records(self, tmp_path: Path) -> None:
        loaded = function(tmp_path)
        huge = base64.b64encode(random.Random(1).randbytes(15_000_000)).decode()
        bodies: list[Any] = [
            {"image": huge},
            {"image": huge + "!"},
            {"image": [huge]},
            {"image": IMAGE, "threshold": huge},
            {huge: 1},
            json.dumps({"image": huge})[:-10],
            huge,
        ]
        for body in bodies:
            reply = loaded(body)
            assert reply.status == 400
            assert len(reply.body) < 600
            (record,) = loaded.records()
            assert len(json.dumps(record)) < 2000
            assert huge[:40] not in json.dumps(record) + reply.body.decode()


class TestStart:
    def test_is_logged(self, tmp_path: Path) -> None:
        (record,) = Logged(write_function(tmp_path, "reid", workers=2)).records()
        assert record["message"] == "The function is ready"
        assert record["with"].keys() >= {"function", "kind", "seconds", "threads", "workers"}
        assert (record["with"]["function"], record["with"]["kind"], record["with"]["workers"]) == (
            "test-reid",
            "reid",
            2,
        )

    @pytest.mark.parametrize(
        ("options", "variables", "message"),
        [
            ({"env": {"THRESHOLD": "5"}}, {}, "THRESHOLD: expected a number from 0 to 1, got 5.0"),
            ({}, {"MARGIN": "wide"}, "MARGIN: expected a whole number, got the text 'wide'"),
            ({}, {"MAX_IMAGE_PIXELS": "many"}, "MAX_IMAGE_PIXELS: expected a positive number of pixels, got 'many'"),
            ({}, {"THREADS": "0"}, "THREADS: expected a whole number of 1 or more, got '0'"),
            ({"labels": [{"name": 5}]}, {}, "metadata.annotations.spec[0].name: expected a non-empty text, got 5"),
            ({"handler": "import a_module_that_nobody_has"}, {}, "No module named 'a_module_that_nobody_has'"),
            ({"handler": "class Handler: ..."}, {}, "model_handler.py: expected a class named ModelHandler"),
        ],
    )
    def test_that_fails_is_logged_and_ends_the_worker(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        options: dict[str, Any],
        variables: dict[str, str],
        message: str,
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        logger = nuclio_sdk.Logger(logging.DEBUG, name=f"test {tmp_path}")
        stream = io.StringIO()
        logger._logger.propagate = False
        logger.set_handler("default", stream, nuclio_sdk.logger.JSONFormatter())
        with pytest.raises((StartupError, ModuleNotFoundError)) as caught:
            LoadedFunction(write_function(tmp_path, **options), unique=True, logger=logger)
        assert message in str(caught.value)
        (record,) = [json.loads(line) for line in stream.getvalue().splitlines()]
        assert (record["message"], record["level"]) == ("The function can't start", "error")
        assert message in record["with"]["error"]


def test_importing_loads_nothing_heavy() -> None:
    heavy = ("torch", "onnxruntime", "cv2", "scipy", "openvino", "transformers", "ultralytics", "pandas", "matplotlib")
    program = f"""
import sys
import common, common.serving.nuclio
print([name for name in {heavy!r} if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
