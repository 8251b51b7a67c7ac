"""Bytes under keys in the Redis-compatible store that CVAT runs, for what workers of several containers share.

Answers are correct and in time without it: every call has a deadline of its own, however slowly the store answers, and
after a failure it is not asked again for a while. CVAT tells functions where it is in CVAT_FUNCTIONS_REDIS_HOST and
CVAT_FUNCTIONS_REDIS_PORT.
"""

from __future__ import annotations

import importlib.util
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from common.errors import StartupError

DEFAULT_PORT = 6666  # of CVAT's own
_CONNECT_TIMEOUT = 0.25  # seconds
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0  # seconds in which a store that failed is not asked again
_LATER_DEADLINE = 5.0  # seconds for a write in the background
_LATER_WAITING = 8  # such writes that may wait; one more is dropped
_LOG = logging.getLogger(__name__)
T = TypeVar("T")


class StoreDown(Exception):
    """The store did not answer in time, or failed a moment ago and is not asked again yet."""


class Store:
    """A client of the store. It connects with the first call, so a store that is down keeps no function from starting.

    Args:
        host: The store's address.
        port: Its port.
        password: None or empty for none.
    """

    def __init__(self, host: str, port: int = DEFAULT_PORT, password: str | None = None):
        # Imported here, not with the first call: the import takes longer than a call may.
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._where = f"{host}:{port}"
        self._redis = redis.Redis(
            host=host,
            port=port,
            password=password or None,
            socket_connect_timeout=_CONNECT_TIMEOUT,
            socket_timeout=_LATER_DEADLINE,
            retry=Retry(NoBackoff(), 0),
            protocol=2,  # the one that all stores speak, CVAT's Kvrocks too
        )
        self._refusal = redis.ResponseError
        self._reading, self._writing = _Pause(), _Pause()
        self._lock = threading.Lock()
        self._later: queue.Queue[tuple[Mapping[str, bytes], float]] | None = None

    @classmethod
    def at(cls, host: str | None, port: int, password: str | None) -> Store | None:
        """The store at an address, if there is one.

        Args:
            host: Its address; None or empty for none.
            port: Its port.
            password: None or empty for none.

        Returns:
            A client, or None without an address or without the package redis.

        Raises:
            StartupError: There is no such port.
        """
        if not host or importlib.util.find_spec("redis") is None:
            return None
        StartupError.check(0 < port < 65536, "CVAT_FUNCTIONS_REDIS_PORT", "a port from 1 to 65535", port)
        return cls(host, port, password)

    def get(self, keys: Sequence[str], *, expiry: float, deadline: float) -> list[bytes | None]:
        """The values under keys.

        Args:
            keys: The keys.
            expiry: Seconds that what is there stays from now on.
            deadline: Seconds to wait for the answer.

        Returns:
            For each key its value, or None.

        Raises:
            StoreDown: There is no answer.
        """

        def ask() -> list[bytes | None]:
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.mget(keys)
                for key in keys:
                    pipeline.expire(key, int(expiry))
                # Without raise_on_error, which puts the command with its data into the error's message.
                values, *_ = pipeline.execute(raise_on_error=False)
            if isinstance(values, Exception):
                raise values
            return list(values)  # also from a copy that is only read, where no expiry can be set

        return self._within(deadline, ask, self._reading) if keys else []

    def put(self, values: Mapping[str, bytes], *, expiry: float, deadline: float) -> None:
        """Keeps values.

        Args:
            values: Key -> value.
            expiry: Seconds that they stay.
            deadline: Seconds to wait for the answer.

        Raises:
            StoreDown: It is not certain that they are kept.
        """

        def ask() -> None:
            with self._redis.pipeline(transaction=False) as pipeline:
                for key, value in values.items():
                    pipeline.set(key, value, ex=int(expiry))
                for result in pipeline.execute(raise_on_error=False):
                    if isinstance(result, Exception):
                        raise result

        if values:
            self._within(deadline, ask, self._writing)

    def put_later(self, values: Mapping[str, bytes], *, expiry: float) -> None:
        """Keeps values in the background if that succeeds; returns at once.

        Args:
            values: Key -> value.
            expiry: Seconds that they stay.
        """
        with self._lock:
            if self._later is None:
                self._later = queue.Queue(_LATER_WAITING)
                threading.Thread(target=self._write_waiting, name="store", daemon=True).start()
        with suppress(queue.Full):
            self._later.put_nowait((values, expiry))

    def drain(self, timeout: float) -> bool:
        """Waits until `put_later` has nothing left to write.

        Args:
            timeout: Seconds to wait.

        Returns:
            Whether it came to that in time.
        """
        end = time.monotonic() + timeout
        while self._later is not None and self._later.unfinished_tasks:
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
        return True

    def _write_waiting(self) -> None:
        assert self._later is not None  # made before this thread
        while True:
            values, expiry = self._later.get()
            try:
                self.put(values, expiry=expiry, deadline=_LATER_DEADLINE)
            except StoreDown:
                pass
            finally:
                self._later.task_done()

    def _within(self, deadline: float, ask: Callable[[], T], pause: _Pause) -> T:
        """What `ask` returns, asked in a thread of its own, unless `pause` lasts.

        A timeout of the client's counts for each packet, and a name that does not resolve has none at all; so only a
        thread that can be left behind keeps a deadline for the whole.
        """
        if pause.lasts():
            raise StoreDown(f"the store at {self._where} is not asked at the moment, after: {pause.reason}")
        answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def run() -> None:
            try:
                answers.put((ask(), None))
            except BaseException as error:  # handed to the caller, who waits
                answers.put((None, error))

        threading.Thread(target=run, name="store-call", daemon=True).start()
        try:
            value, error = answers.get(timeout=deadline)
        except queue.Empty:
            value, error = None, TimeoutError(f"no answer in {deadline:g} s")
        if error is not None:
            # What the store refuses, to write when it is full, says nothing about what it does otherwise.
            for each in (pause,) if isinstance(error, self._refusal) else (self._reading, self._writing):
                each.begin(str(error))
            _LOG.warning("The store at %s can't be used, and is not asked again for a while: %s", self._where, error)
            raise StoreDown(f"the store at {self._where} can't be used: {error}") from error
        pause.end()
        return value  # type: ignore[return-value]


class _Pause:
    """How long a store that failed is not asked again: longer each time, until it answers."""

    def __init__(self) -> None:
        self.reason = ""
        self._next, self._until = _FIRST_PAUSE, 0.0

    def lasts(self) -> bool:
        return time.monotonic() < self._until

    def begin(self, reason: str) -> None:
        self.reason = reason
        if not self.lasts():  # calls that fail together count as one
            self._until = time.monotonic() + self._next
            self._next = min(self._next * 2, _LONGEST_PAUSE)

    def end(self) -> None:
        self._next, self._until = _FIRST_PAUSE, 0.0
