"""The sizes of downloads, and downloads with a progress bar."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from tqdm import tqdm

from common.networks import weights
from common.networks.download import ask_size
from common.networks.weights import WeightFile


def fetch_with_bar(directory: Path, variant: str) -> None:
    """Downloads the missing files of a variant, on a terminal with a progress bar for each.

    Args:
        directory: the function's.
        variant: a variant's name.

    Raises:
        StartupError: As `common.networks.weights.fetch`.
    """
    bars: dict[str, tqdm[None]] = {}

    def advance(file: WeightFile, have: int, total: int | None) -> None:
        if file.path not in bars:
            bars[file.path] = tqdm(total=total, desc=file.path, unit="B", unit_scale=True, disable=None, initial=have)
        bar = bars[file.path]
        bar.update(have - bar.n)

    try:
        weights.fetch(directory, variant, say=lambda line: tqdm.write(f"  {line}"), progress=advance)
    finally:
        for bar in bars.values():
            bar.close()


class Sizes:
    """The sizes of files: as weights.yaml has them, or as their servers say, which are asked in the background."""

    def __init__(self, files: Collection[WeightFile]):
        """Starts to ask the servers; not with OFFLINE set.

        Args:
            files: the files to download.
        """
        self.known = {file: file.size for file in files if file.size is not None}
        """The sizes that are known so far, in bytes."""
        self._unknown: queue.SimpleQueue[WeightFile] = queue.SimpleQueue()
        if not weights.is_offline():
            for file in dict.fromkeys(files):
                if file.size is None:
                    self._unknown.put(file)
        # Daemons, so that they do not delay the end of the process.
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(min(self._unknown.qsize(), 8))]
        for thread in self._threads:
            thread.start()

    def wait(self, timeout_s: float) -> None:
        """Waits for the answers.

        Args:
            timeout_s: the longest time to wait.
        """
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def words(self, files: Sequence[WeightFile]) -> str:
        """The size of a download, such as "48.2 MB".

        Args:
            files: some of those given at the start.
        """
        known = [self.known[file] for file in files if file in self.known]
        if not known:
            return "size unknown"
        return f"{sum(known) / 1e6:.1f} MB" + (" and more" if len(known) < len(files) else "")

    def _ask(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                file = self._unknown.get_nowait()
                if file.url and (size := ask_size(file.url)) is not None:
                    self.known[file] = size


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lines of text with aligned columns.

    Args:
        rows: the cells, the head first.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
