"""Several images in one run of a file: where its batch axis allows it, gives the same results and is not slower."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from common.errors import StartupError
from common.networks.engine import Array, Engine, OpenVinoEngine
from common.networks.formats.image_input import ImageInput

_LOG = logging.getLogger(__name__)
_TOGETHER = 4  # images, where the file leaves it open: as many as tools.annotate hands over at once
_TOLERANCE = 1e-3  # of a value, or of 1
_LONGEST = 1.1  # the time of a run together as a part of the time of runs one by one; a busy machine measures badly


@dataclass(frozen=True, slots=True)
class Batches:
    """How several images go through a file together."""

    engine: Engine
    """Runs them."""
    size: int
    """How many."""

    @classmethod
    def of(
        cls, single: Engine, image: ImageInput, example: Sequence[Array], reopened: Callable[[Sequence[Array]], Engine]
    ) -> Batches | None:
        """Tries it on noise.

        Args:
            single: Runs the file with one image.
            image: The file's image input.
            example: All inputs for one run of `single`, in its order.
            reopened: Opens the file in OpenVINO once more, for inputs like these.

        Returns:
            None when the images have to be run one by one.
        """
        fixed = image.batch > 1
        if not fixed and single.inputs[image.index].shape[:1] != (None,):
            return None
        size = image.batch if fixed else _TOGETHER
        together = [_repeated(array, size) for array in example] if not fixed else list(example)
        noise = np.random.default_rng(1).random(together[image.index].shape, np.float32)
        whole = not np.issubdtype(image.dtype, np.floating)
        together[image.index] = (noise * 255 if whole else noise).astype(image.dtype)
        try:
            engine = reopened(together) if not fixed and isinstance(single, OpenVinoEngine) else single
            answers, seconds = _timed(engine, together)
            alone = [_timed(single, _only(together, i, image, fixed)) for i in range(size)]
        except Exception as error:  # each engine has its own
            _LOG.info("Images are run one by one: the file can't run %d together: %s", size, str(error)[:200])
            return None
        if not all(_alike(answers, one, i, size, fixed) for i, (one, _) in enumerate(alone)):
            _LOG.info("Images are run one by one: the file gives other results for %d together", size)
            return None
        if not fixed and seconds > _LONGEST * sum(taken for _, taken in alone):
            _LOG.info("Images are run one by one: %d together take longer", size)
            return None
        return cls(engine, size)

    def run(self, inputs: Sequence[Sequence[Array]]) -> list[list[Array]]:
        """Runs images together.

        Args:
            inputs: All inputs of the file for each image, each with a batch axis of 1; at most `size` images.

        Returns:
            The file's outputs for each image, each with a batch axis of 1.
        """
        missing = self.size - len(inputs)
        outputs = self.engine.run(
            [np.concatenate([*arrays, *[arrays[-1]] * missing]) for arrays in zip(*inputs, strict=True)]
        )
        return [[output[i : i + 1] for output in outputs] for i in range(len(inputs))]


def _repeated(array: Array, size: int) -> Array:
    if len(array) != 1:
        raise StartupError(f"an input's first axis is {len(array)}, not a batch of 1")
    return np.repeat(array, size, axis=0)


def _only(together: Sequence[Array], i: int, image: ImageInput, fixed: bool) -> list[Array]:
    """The inputs with one of the images; in a batch of fixed size it is the first, and zeros follow."""
    inputs = [array[i : i + 1] if not fixed else array for array in together]
    if fixed:
        batch = np.zeros_like(together[image.index])
        batch[0] = together[image.index][i]
        inputs[image.index] = batch
    return inputs


def _alike(together: Sequence[Array], alone: Sequence[Array], i: int, size: int, fixed: bool) -> bool:
    """Whether the outputs of image i are the same in both runs."""
    for batch, one in zip(together, alone, strict=True):
        if len(batch) != size or len(one) != (size if fixed else 1):
            return False
        expected = np.asarray(one[:1], np.float64)
        if not np.allclose(batch[i : i + 1], expected, rtol=_TOLERANCE, atol=_TOLERANCE):
            return False
    return True


def _timed(engine: Engine, inputs: Sequence[Array]) -> tuple[list[Array], float]:
    """The outputs, and the seconds of the faster of two runs."""
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        outputs = engine.run(inputs)
        seconds.append(time.perf_counter() - begin)
    return outputs, min(seconds)
