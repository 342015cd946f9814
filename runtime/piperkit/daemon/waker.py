"""What the loop sleeps on: one poll(2) for signals, arrivals and the time of the next event.

A signal that comes between the decision to sleep and the sleep is not lost: Python writes it into a pipe that the
poll is watching.
"""

from __future__ import annotations

import math
import os
import select
import signal
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Waker:
    """Waits until a descriptor is readable, a signal comes, or time is up. Use it as a context."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._pipe: tuple[int, ...] = ()  #: its ends, to read and to write
        self._previous = -1

    def __enter__(self) -> Self:
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch(self._pipe[0], self._drain)
        self._previous = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(self._previous)

    def close(self, wakeup_fd: int = -1) -> None:
        """Let signals be told to `wakeup_fd`, or to none, and close the pipe. Idempotent."""
        signal.set_wakeup_fd(wakeup_fd)
        for fd in self._pipe:
            os.close(fd)
        self._pipe = ()

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        """Call `handler` whenever `fd` is readable; it has to read what is there."""
        self._poll.register(fd, select.POLLIN)
        self._handlers[fd] = handler

    def unwatch(self, fd: int) -> None:
        """Do not watch `fd` any more."""
        self._poll.unregister(fd)
        del self._handlers[fd]

    def wait(self, seconds: float) -> None:
        """Sleep for `seconds` at most, and call the handlers of what has become readable."""
        # Up, or a wait of less than a millisecond would be a busy one.
        for fd, _ in self._poll.poll(math.ceil(seconds * 1000)):
            if fd in self._handlers:  # it may be unwatched by the handler before it
                self._handlers[fd]()

    def _drain(self) -> None:
        try:
            while os.read(self._pipe[0], 4096):
                pass
        except BlockingIOError:
            pass
