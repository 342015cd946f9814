"""What the loop sleeps on: one poll(2) for signals, arrivals and the time of the next event.

A signal that comes between the decision to sleep and the sleep is not lost: its handler calls `wake`, which ends it.
"""

from __future__ import annotations

import math
import os
import select
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Waker:
    """Waits until a descriptor is readable, it is woken, or time is up. Use it as a context.

    failed: told of what a handler raised, or what is wrong with a descriptor, in words.
    """

    def __init__(self, failed: Callable[[str, BaseException | None], None]) -> None:
        self._failed = failed
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._bell = -1  #: an eventfd(2)

    def __enter__(self) -> Self:
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.watch(self._bell, self._drain)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Be woken by nobody. Idempotent."""
        bell, self._bell = self._bell, -1
        if bell >= 0:
            os.close(bell)

    def wake(self) -> None:
        """End the sleep, or the next one. For handlers of signals, and other threads."""
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        """Call `handler` whenever `fd` is readable; it has to read what is there. Raises OSError if it is not open."""
        os.fstat(fd)
        self._poll.register(fd, select.POLLIN)
        self._handlers[fd] = handler

    def unwatch(self, fd: int) -> None:
        """Stop watching `fd`. Idempotent."""
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def wait(self, seconds: float) -> None:
        """Sleep for `seconds` at most, and call the handlers of what has become readable."""
        # Up, or a wait of less than a millisecond would be a busy one.
        for fd, event in self._poll.poll(math.ceil(seconds * 1000)):
            handler = self._handlers.get(fd)
            if handler is None:  # it was unwatched by the handler before it
                continue
            if event & select.POLLNVAL:
                self.unwatch(fd)
                self._failed(f"descriptor {fd} was closed while it was watched; it is not watched any more", None)
                continue
            try:
                handler()
            except Exception as error:
                self._failed(f"the handler of descriptor {fd} failed", error)
            if not event & select.POLLIN and self._handlers.get(fd) is handler:
                # Its other end is gone, and there will be nothing more to read: it would wake us for ever.
                self.unwatch(fd)

    def _drain(self) -> None:
        os.eventfd_read(self._bell)
