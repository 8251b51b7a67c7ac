"""The memory of one worker of a function, from its import to large images."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.config import FunctionConfig, read_yaml, section
from common.errors import StartupError
from tools.check.process import WorkerProcess
from tools.check.samples import Sample, frame, good_requests, tracked_shapes
from tools.memory.requests import send_large

_LIMIT_S = 600.0
_MOST_SMALL = 3  # requests: the others differ in the form of the image file alone


@dataclass
class Measured:
    """What a worker held, in bytes."""

    imported: int = 0
    """After the import of its module."""
    started: int = 0
    """After `init_context`."""
    most_starting: int = 0
    """The peak until then."""
    most_small: int = 0
    """The peak until the end of some requests of tools.check, whose images are small."""
    most_large: int = 0
    """The peak until the end of the requests with a large image."""
    refused: list[str] = field(default_factory=list)
    """Requests that were not answered with 200, and the answers."""


def measure(directory: Path, environment: Mapping[str, str], megapixels: float) -> Measured:
    """Starts a worker of a function as Nuclio does, sends it requests, and reads what it holds.

    Args:
        directory: The function's.
        environment: Variables for the worker; they take precedence over those of its function.yaml.
        megapixels: The size of the large image.

    Raises:
        StartupError: It can't be measured: it does not start, or its process ended.
    """
    config = FunctionConfig.load(directory)
    path = config.directory / "function.yaml"
    module, _, function = str(section(read_yaml(path), "spec", path).get("handler", "main:handler")).partition(":")
    with tempfile.TemporaryDirectory(prefix="memory-") as scratch, Path(scratch, "output").open("w+") as output:
        variables = {"TMPDIR": scratch, **config.environment, **environment}
        process = WorkerProcess(config, module, function, variables, output)
        try:
            return _measure(config, process, megapixels)
        except (EOFError, ConnectionError, TimeoutError) as error:
            ended = "no answer in time" if isinstance(error, TimeoutError) else process.how_it_ended()
            raise StartupError(f"{config.name}: its process: {ended}; {process.last_words()}") from error
        finally:
            process.end()


def _measure(config: FunctionConfig, process: WorkerProcess, megapixels: float) -> Measured:
    measured = Measured()
    for step in ("import", "start"):
        answer, _ = process.ask({"step": step}, b"", _LIMIT_S)
        if "problem" in answer:
            raise StartupError(f"{config.name}: {answer['problem']['type']}: {answer['problem']['message']}")
        if step == "import":
            measured.imported = process.memory().now
    memory = process.memory()
    measured.started, measured.most_starting = memory.now, memory.most

    def ask(name: str, body: Any) -> Any:
        header = {"step": "call", "content_type": "application/json"}
        answer, text = process.ask(header, json.dumps(body).encode(), _LIMIT_S)
        if answer["status"] == 200:
            return json.loads(text)
        measured.refused.append(f"{name}: {answer['status']} {text[:200].decode(errors='replace')}")
        return None

    for sample in _small(config):
        ask(sample.name, sample.body)
    measured.most_small = process.memory().most
    send_large(config, megapixels, ask)
    measured.most_large = process.memory().most
    return measured


def _small(config: FunctionConfig) -> list[Sample]:
    if config.kind != "tracker":
        return good_requests(config)[:_MOST_SMALL]
    shapes = tracked_shapes(config)
    samples = (
        Sample(f"a {kind}", {"image": frame(0), "shapes": [shape], "states": []}) for kind, shape in shapes.items()
    )
    return list(samples)[:_MOST_SMALL]
