"""A task of 1,000 frames of 1080p: tools.annotate against the SDK's annotate_task, same function, same server, same run.

Both are whole programs, from their start to their end, against a stand-in for CVAT's server in a process of its own.
Then the same task is annotated by a run that is killed at a random moment and resumed. BENCH_FRAMES sets another number
of frames.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil
from PIL import Image

from common.config import FunctionConfig
from tools.bench.compare import report
from tools.collection import ROOT, resolve
from training.shapes.draw import draw_shapes

FUNCTION = "onnx/yolo/shapes"
ENGINE = "onnxruntime"  # a fixed one, so that both programs compute the same
SIZE_HW = (1080, 1920)
_SCENES = 40  # different pictures; each stands for several frames
_TOKEN = "a-token-of-the-tests"  # noqa: S105 - of the stand-in
_KEY = {"Authorization": f"Bearer {_TOKEN}"}
_SDK = """
import sys
from cvat_sdk import make_client
from cvat_sdk.auto_annotation import annotate_task
sys.path.insert(0, {root!r})
from serverless import native
with make_client({url!r}, access_token={token!r}) as client:
    client.config.cache_dir = {cache!r}
    annotate_task(client, {task}, native.create(function={function!r}, engine={engine!r}), clear_existing=True)
"""


def run() -> None:
    """Measures, and prints the times."""
    count = int(os.environ.get("BENCH_FRAMES", "1000"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _draw_frames(folder / "frames", count)
        server, url, task = _serve(folder / "frames")
        try:
            _measure(folder, url, task, count)
        finally:
            server.kill()
            server.wait()


def _measure(folder: Path, url: str, task: int, count: int) -> None:
    cache, journals = folder / "cache", folder / "journals"
    sdk = _SDK.format(
        root=str(ROOT), url=url, token=_TOKEN, cache=str(cache), task=task, function=FUNCTION, engine=ENGINE
    )
    ours = [sys.executable, "-m", "tools.annotate", "--url", url, "--task", str(task), "--function", FUNCTION]
    ours += ["--option", f"engine={ENGINE}", "--journals", str(journals), "--clear-existing"]

    sdk_seconds, sdk_memory = _timed([sys.executable, "-c", sdk])
    expected = _annotations(url, task)
    our_seconds, our_memory = _timed(ours)
    found = _annotations(url, task)
    same = "the same annotations" if found == expected else "OTHER ANNOTATIONS"
    notes = {
        "annotate_task": f"{count / sdk_seconds:.1f} frames/s, {len(expected)} annotations",
        "tools.annotate": f"{count / our_seconds:.1f} frames/s, {same}; memory of all its processes by quarters of the "
        f"run: {', '.join(f'{m:.0f}' for m in our_memory)} MB (annotate_task: {', '.join(f'{m:.0f}' for m in sdk_memory)})",
    }
    times = {"annotate_task": sdk_seconds * 1000, "tools.annotate": our_seconds * 1000}
    report(f"{count} frames of 1920 x 1080, {FUNCTION}", times, "annotate_task", notes)

    httpx.delete(f"{url}/api/tasks/{task}/annotations", headers=_KEY, timeout=300).raise_for_status()
    moment = random.uniform(0.2, 0.9) * our_seconds  # noqa: S311 - not a secret
    process = subprocess.Popen(ours, cwd=ROOT, env=_environment(), stderr=subprocess.DEVNULL)  # noqa: S603
    time.sleep(moment)
    process.kill()
    process.wait()
    done = len(_annotations(url, task))
    subprocess.run([*ours, "--resume"], cwd=ROOT, env=_environment(), stderr=subprocess.DEVNULL, check=True)  # noqa: S603
    same = "the same annotations" if _annotations(url, task) == expected else "OTHER ANNOTATIONS"
    print(f"  killed after {moment:.1f} s with {done} annotations on the server, then resumed: {same}")


def _draw_frames(folder: Path, count: int) -> None:
    folder.mkdir()
    for i in range(count):
        path = folder / f"frame_{i:05d}.jpg"
        if i < _SCENES:
            Image.fromarray(draw_shapes(i, SIZE_HW).image).save(path, quality=92)
        else:
            shutil.copy(folder / f"frame_{i % _SCENES:05d}.jpg", path)


def _serve(frames: Path) -> tuple[subprocess.Popen[str], str, int]:
    labels = json.dumps(FunctionConfig.load(resolve(FUNCTION)).labels.to_raw())
    command = [sys.executable, "-m", "tests.tools.annotate.cvat_server", str(frames), labels]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603
    assert server.stdout is not None
    ready = json.loads(server.stdout.readline())
    return server, ready["url"], ready["task"]


def _timed(command: Sequence[str]) -> tuple[float, list[float]]:
    """Seconds of a program, and the most memory in MB that it and its children held in each quarter of them."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=_environment(), stderr=subprocess.DEVNULL)  # noqa: S603
    samples = []
    while process.poll() is None:
        samples.append(_memory_mb(process.pid))
        time.sleep(0.2)
    if process.returncode:
        raise RuntimeError(f"{command[:4]} ended with {process.returncode}")
    seconds = time.perf_counter() - begin
    quarter = max(len(samples) // 4, 1)
    return seconds, [max(samples[i : i + quarter], default=0) for i in range(0, 4 * quarter, quarter)]


def _memory_mb(pid: int) -> float:
    total = 0.0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_full_info().pss / 2**20
    except psutil.Error:
        pass
    return total


def _annotations(url: str, task: int) -> list[str]:
    """A task's annotations in a fixed order, without the server's numbers for them."""
    content: dict[str, Any] = httpx.get(f"{url}/api/tasks/{task}/annotations", headers=_KEY, timeout=300).json()
    return sorted(
        json.dumps({name: value for name, value in shape.items() if name != "id"}, sort_keys=True)
        for shape in content["shapes"]
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "CVAT_ACCESS_TOKEN": _TOKEN}
