"""A network that sees parts of an image, each scaled to the size of its input: in batches, where the file allows it."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import StartupError
from common.networks.engine import Array, Engine, Tensor, open_engine
from common.networks.exported.model import model_file
from common.networks.formats.signature import list_ports
from common.networks.normalisation import Normalisation

_LOG = logging.getLogger(__name__)
_MOST_AT_ONCE = 16  # pictures; bounds the memory of a request with hundreds of boxes
_TOLERANCE = 1e-2  # by how much the answers of two batches may differ, as a part of the largest value


class PatchNetwork:
    """An .onnx file or an OpenVINO .xml whose one input takes colour pictures, (batch, 3, height, width).

    Args:
        path: The file, or a folder with one.
        device: As for `open_engine`.
        engine: As for `open_engine`.
        precision: As for `open_engine`.
        threads: As for `open_engine`.
        size_hw: Height and width of the input, for files that leave it free; None for the file's own.
        normalisation: From pixels to the network's values.

    Raises:
        StartupError: The file can't be run, or its input is not such pictures.
    """

    path: Path
    """The model file."""
    size_hw: tuple[int, int]
    """Height and width of the input, pixels."""
    outputs: tuple[Tensor, ...]
    """The outputs, with the shapes that they had for one picture."""
    example: list[Array]
    """The outputs for two pictures of noise."""

    def __init__(
        self,
        path: str | Path,
        *,
        device: str = "cpu",
        engine: str = "auto",
        precision: str = "f32",
        threads: int = 1,
        size_hw: tuple[int, int] | None = None,
        normalisation: Normalisation | None = None,
    ):
        import cv2

        cv2.setNumThreads(threads)
        self.path = model_file(Path(path))
        self._normalisation = normalisation or Normalisation()
        self._engine = open_engine(
            self.path,
            device=device,
            engine=engine,
            precision=precision,
            threads=threads,
            example=lambda opened: [self._planes(_noise(1, self._size(opened, size_hw)), opened.inputs[0])],
        )
        self.size_hw = self._size(self._engine, size_hw)
        self._port = self._engine.inputs[0]
        self._batch = self._port.shape[0] or _MOST_AT_ONCE
        self._try_out()

    @property
    def engine(self) -> str:
        """Which engine runs the network, and on what."""
        return self._engine.description

    @property
    def metadata(self) -> dict[str, str]:
        """The texts stored in the file."""
        return dict(self._engine.metadata)

    @property
    def seen(self) -> str:
        """Inputs and outputs, for messages."""
        return f"inputs: {list_ports(self._engine.inputs)}; outputs: {list_ports(self.outputs)}"

    def run(self, pictures: Iterable[NDArray[np.uint8]]) -> list[Array]:
        """What the network answers to some pictures; only a few of them are in memory at a time.

        Args:
            pictures: Each (height, width, 3) uint8 RGB of `size_hw`; one at least.

        Returns:
            Its outputs in the file's order, the pictures along the first axis.
        """
        parts = [self._answer(np.stack(batch)) for batch in self._batches(pictures)]
        return [np.concatenate(output) for output in zip(*parts, strict=True)]

    def _batches(self, pictures: Iterable[NDArray[np.uint8]]) -> Iterator[Sequence[NDArray[np.uint8]]]:
        waiting = iter(pictures)
        while batch := list(itertools.islice(waiting, self._batch)):
            if self._port.shape[0]:
                yield batch
                continue
            # Engines plan anew for each size of a batch: few sizes, powers of two.
            while batch:
                count = 1 << (len(batch).bit_length() - 1)
                yield batch[:count]
                batch = batch[count:]

    def _answer(self, pictures: NDArray[np.uint8]) -> list[Array]:
        planes = self._planes(pictures, self._port)
        places = self._port.shape[0] or len(pictures)
        if len(pictures) < places:  # the rest of the file's batch stays empty
            planes = np.concatenate([planes, np.zeros((places - len(pictures), *planes.shape[1:]), planes.dtype)])
        outputs = self._engine.run([planes])
        if any(output.ndim == 0 or len(output) != places for output in outputs):
            shapes = ", ".join(str(output.shape) for output in outputs)
            raise StartupError(
                f"{self.path}: expected outputs with {places} pictures along their first axis, got {shapes}"
            )
        return [output[: len(pictures)] for output in outputs]

    def _planes(self, pictures: NDArray[np.uint8], port: Tensor) -> Array:
        return self._normalisation.planes(pictures, port.dtype)

    def _size(self, engine: Engine, wanted_hw: tuple[int, int] | None) -> tuple[int, int]:
        ports = engine.inputs
        if len(ports) != 1 or len(ports[0].shape) != 4 or ports[0].shape[1] not in (3, None):
            raise StartupError(
                f"{self.path}: expected one input that takes colour pictures (batch, 3, height, width). Seen: inputs: "
                f"{list_ports(ports)}; outputs: {list_ports(engine.outputs)}"
            )
        _, _, height, width = ports[0].shape
        if wanted_hw is None and (height is None or width is None):
            raise StartupError(
                f"{self.path}: the size of the file's input is free: set IMAGE_SIZE to the one that the network was trained "
                "with, height x width, such as 256x128"
            )
        free = wanted_hw or (0, 0)
        size_hw = height or free[0], width or free[1]
        if wanted_hw and size_hw != wanted_hw:
            raise StartupError(
                f"IMAGE_SIZE is {wanted_hw[0]}x{wanted_hw[1]}, but the input of {self.path} is fixed to {size_hw[0]}x{size_hw[1]} "
                "(height x width): leave IMAGE_SIZE empty"
            )
        return size_hw

    def _try_out(self) -> None:
        """Runs the network on noise, to see its outputs and whether it really takes several pictures at once."""
        pictures = _noise(2, self.size_hw)
        try:
            single = [self._answer(pictures[i : i + 1]) for i in range(2)]
        except StartupError:
            raise
        except Exception as error:  # each engine has its own
            first, *_ = str(error).splitlines() or [""]
            raise StartupError(f"{self.path}: {self.engine} can't run it: {first[:300]}") from error
        ports = zip(self._engine.outputs, single[0], strict=True)
        self.outputs = tuple(replace(port, shape=output.shape, dtype=output.dtype) for port, output in ports)
        self.example = [np.concatenate(pair) for pair in zip(*single, strict=True)]
        if self._batch > 1 and not self._same_together(pictures):
            _LOG.warning(
                "%s gives other answers for several pictures at once: it gets them one at a time", self.path.name
            )
            self._batch = 1

    def _same_together(self, pictures: NDArray[np.uint8]) -> bool:
        try:
            together = self._answer(pictures)
        except Exception:  # each engine has its own
            return False
        return all(
            found.shape == expected.shape
            and np.allclose(
                found, expected, rtol=0, atol=_TOLERANCE * max(float(np.abs(expected).max(initial=0)), 1e-6)
            )
            for found, expected in zip(together, self.example, strict=True)
        )


def _noise(count: int, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, *size_hw, 3), np.uint8)
