"""Predictors and workers: blocks of frames, and the result of each."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import orjson
import psutil
import pytest
from PIL import Image as PillowImage

from common.config import FunctionConfig
from tests.scenes import BLUE, GREEN, RED, png, scene
from tests.tools.annotate.conftest import FUNCTIONS, SIZE_HW, box_of, frames
from tools.annotate.annotation_encoder import AnnotationEncoder
from tools.annotate.errors import CannotRun
from tools.annotate.function import Function
from tools.annotate.label_mapping import TaskLabel, match_labels
from tools.annotate.predictor import FrameInput, FrameResult
from tools.annotate.predictor_spec import PredictorSpec
from tools.annotate.remote_function import RemoteDetector
from tools.annotate.workers import ProcessWorker, start_processes


def spec(directory: Path = FUNCTIONS / "everything", **options: object) -> PredictorSpec:
    config = FunctionConfig.load(directory)
    labels = config.labels
    own = [TaskLabel.own(label) for label in labels.values()]
    mapping = match_labels(labels, own, {}, allow_unmatched=False, convert_masks=False)
    return PredictorSpec(Function("detector", config, options, threshold=0.85), AnnotationEncoder(mapping))


def block(count: int) -> list[FrameInput]:
    return [FrameInput(i, data) for i, (_, data) in enumerate(frames(count))]


BAD = FrameInput(99, png(scene([(box_of(0), RED)], SIZE_HW, corner=BLUE)))
DEADLY = FrameInput(98, png(scene([(box_of(0), RED)], SIZE_HW, corner=GREEN)))


def check(result: FrameResult, frame: int) -> None:
    assert result.frame == frame
    assert result.error == ""
    assert result.annotations is not None
    assert result.size_wh == (90, 60)
    boxes = [orjson.loads(text)["points"] for text in result.annotations.shapes]
    assert boxes == [list(box_of(frame))]


def test_a_block_is_one_call_of_the_model() -> None:
    predictor = spec().open()
    for i, result in enumerate(predictor.predict(block(5))):
        check(result, i)
    assert predictor._detector._handler.batches == [5]


def test_one_bad_picture_leaves_the_others_of_its_block() -> None:
    predictor = spec().open()
    jobs = [*block(2), BAD, FrameInput(97, b"no picture"), *block(4)[2:]]
    results = predictor.predict(jobs)
    for i, result in enumerate([*results[:2], *results[4:]]):
        check(result, i)
    assert results[2].error == "ValueError: this picture is not to be had"
    assert results[3].error.startswith("image: expected an image file")


@pytest.mark.parametrize("with_ultralytics", [False, True])
def test_a_file_that_is_no_image_is_told_in_plain_words_for_a_function_elsewhere(
    with_ultralytics: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if with_ultralytics:  # importing it replaces Pillow's open for the whole process by one that ends so

        def image_open(*_: object) -> None:
            raise ModuleNotFoundError("No module named 'pi_heif'")

        monkeypatch.setattr(PillowImage, "open", image_open)
    nowhere = Function(kind="detector", urls=("http://127.0.0.1:9",), timeout_s=1)
    remote = RemoteDetector(nowhere, spec().encoder)
    (result,) = remote.predict([FrameInput(0, b"hello")])
    assert result.error == "the image can't be opened: not an image file"


@pytest.fixture
def worker():
    (made,) = start_processes(spec(), 1, timeout_s=30)
    yield made
    made.close()


def test_a_worker_that_dies_of_a_picture_goes_on_with_the_others(worker: ProcessWorker) -> None:
    first = worker._process.pid
    results = worker.predict([*block(2), DEADLY, *block(4)[2:]])
    for i, result in enumerate([*results[:2], *results[3:]]):
        check(result, i)
    assert results[2].error == "the function's process died (signal SIGKILL)"
    assert worker._process.pid != first
    for i, result in enumerate(worker.predict(block(2))):
        check(result, i)


def test_a_picture_that_takes_too_long_is_given_up() -> None:
    (worker,) = start_processes(spec(), 1, timeout_s=1.0)
    slow = FrameInput(97, png(scene([(box_of(0), RED)], SIZE_HW, corner=(255, 255, 0))))
    try:
        begin = time.monotonic()
        assert "no answer within 1 s" in worker.predict([slow])[0].error
        check(worker.predict(block(1))[0], 0)
        assert time.monotonic() - begin < 40
    finally:
        worker.close()


def test_what_a_worker_has_started_ends_with_it(tmp_path: Path) -> None:
    directory = shutil.copytree(FUNCTIONS / "everything", tmp_path / "everything")
    with (directory / "model_handler.py").open("a") as file:
        file.write(
            "\nimport pathlib, subprocess\n"
            "pathlib.Path(__file__).with_name('pid').write_text(str(subprocess.Popen(['sleep', '600']).pid))\n"
        )
    (worker,) = start_processes(spec(directory), 1, timeout_s=30)
    child = psutil.Process(int((directory / "pid").read_text()))
    assert child.is_running()
    worker.close()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_worker_that_always_dies_is_given_up(worker: ProcessWorker) -> None:
    for _ in range(2):
        assert "died" in worker.predict([DEADLY])[0].error
    with pytest.raises(CannotRun, match="died 3 times without an answer"):
        worker.predict([DEADLY])


def test_a_function_that_can_not_start_says_why() -> None:
    with pytest.raises(CannotRun, match="unknown option 'bogus'"):
        start_processes(spec(bogus=1), 2, timeout_s=30)


def test_workers_agree_on_what_their_models_run_in(tmp_path: Path) -> None:
    """Left to itself a function takes whatever is faster at the moment; here it takes turns."""
    for name in ("function.yaml", "model_handler.py"):
        (tmp_path / name).write_text((FUNCTIONS / "everything" / name).read_text())
    code = (tmp_path / "model_handler.py").read_text().replace(
        "def __init__(self, config: FunctionConfig, *, note",
        "def __init__(self, config: FunctionConfig, *, engine: str = 'auto', note",
    ).replace(
        "        self._note, self._fail = note, fail\n",
        "        if engine == 'auto':\n"
        "            turn = os.open(config.directory / 'turns', os.O_CREAT | os.O_APPEND | os.O_WRONLY)\n"
        "            os.write(turn, b'x')\n"
        "            engine = ('openvino', 'onnxruntime')[os.fstat(turn).st_size % 2]\n"
        "            from common.networks import engine as engines\n"
        "            engines.note_choice(engine)\n"
        "        self._note, self._fail = engine, fail\n",
    )  # fmt: skip
    (tmp_path / "model_handler.py").write_text(code)
    workers = start_processes(spec(tmp_path), 3, timeout_s=30)
    try:
        assert (tmp_path / "turns").stat().st_size == 3
        notes = []
        for worker in workers:
            for jobs in (block(1), [DEADLY], block(1)):  # a new process as well
                for result in worker.predict(jobs):
                    if result.annotations is not None:
                        (shape,) = [orjson.loads(text) for text in result.annotations.shapes]
                        notes.append(shape["attributes"][-1]["value"])
        assert len(notes) == 6
        assert set(notes) == {workers[0].library}
        assert (tmp_path / "turns").stat().st_size == 3
    finally:
        for worker in workers:
            worker.close()


def test_reid_looks_at_each_frame_of_a_block_once() -> None:
    box = {"type": "rectangle", "label_id": 1}
    places = [(10, 10, 30, 30), (14, 10, 34, 30), (18, 10, 38, 30), (22, 10, 42, 30)]
    jobs = [FrameInput(i, png(scene([(place, RED)])), [{**box, "points": place}]) for i, place in enumerate(places)]
    predictor = PredictorSpec(Function("reid", FunctionConfig.load(FUNCTIONS / "colours"))).open()
    embedded = []
    embed = predictor._reid._handler.embed
    predictor._reid._handler.embed = lambda image, boxes: embedded.append(1) or embed(image, boxes)
    assert [result.partners for result in predictor.predict(jobs)] == [[0], [0], [0]]
    assert len(embedded) == 4
