"""The way from one thread to the next: bounded by number and by bytes, closed from either end. Knows no picture."""

import contextlib
import time
from collections import deque
from collections.abc import Callable
from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")

WAITING = 2
"""Frames, or strips of them, a thread may be ahead of the next one, the one in hand included."""
WAITING_BYTES = 512 << 20
"""What those frames may hold together; a larger one goes alone."""


class StoppedError(Exception):
    """The run is over: whoever waits goes home."""


class Lane(Generic[T]):
    """The way from one thread to the next. A frame holds its place from before it is made until it has been used."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._items: deque[T | None] = deque()
        self._places = WAITING
        self._frames = 0
        self._bytes = 0
        self._closed: BaseException | None = None

    def reserve(self, size: int) -> None:
        """Wait for a place for a frame of `size` bytes."""
        with self._changed:
            self._wait(
                lambda: not self._frames or (self._frames < self._places and self._bytes + size <= WAITING_BYTES)
            )
            self._frames += 1
            self._bytes += size

    def widen(self, more: int, size: int) -> int:
        """From now on so many `more` frames of `size` bytes may be kept than there are places for, or as many as leave
        room for those; how many. Who keeps no more of them than that never waits for one that cannot come in.
        """
        with self._changed:
            more = max(0, min(more, WAITING_BYTES // max(1, size) - WAITING))
            self._places = WAITING + more
            self._changed.notify_all()
        return more

    def release(self, size: int) -> None:
        """Give the place back."""
        with self._changed:
            self._frames -= 1
            self._bytes -= size
            self._changed.notify_all()

    def put(self, item: T | None) -> None:
        """Hand on a frame that has its place, the end of a job, or, as None, of all of them."""
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> T | None:
        """Wait for the next item."""
        with self._changed:
            self._wait(lambda: bool(self._items))
            return self._items.popleft()

    def check(self) -> None:
        """Raise what closed it, if anything did."""
        with self._changed:
            self._wait(lambda: True)

    def close(self, cause: BaseException | None = None) -> None:
        """End it for both sides; whoever waits or comes gets `cause`."""
        with self._changed:
            self._closed = self._closed or cause or StoppedError()
            self._items.clear()
            self._changed.notify_all()
        # Ctrl-C may come when the lock is taken and the block not begun that gives it back: others would wait for it.
        with contextlib.suppress(RuntimeError):  # none of it is left
            while True:
                self._changed.release()

    def _wait(self, ready: Callable[[], bool]) -> None:
        self._changed.wait_for(lambda: self._closed is not None or ready())
        if self._closed is not None:
            raise self._closed


class Clock:
    """Seconds at work: stopped while one waits for another thread."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def start(self) -> None:
        self._since = time.perf_counter()

    def stop(self) -> None:
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
            self._since = None
