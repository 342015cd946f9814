"""`SyncWindow`: what is done to messages within a moment becomes durable together; see `queue_sync`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from piperkit.errors import QueueError

#: Seconds after which what was done is made durable; sooner where there is nothing more to do.
AGE = 0.2


class SyncWindow:
    """Opens and closes batches of the queue.

    batch: the queue's `batch`. closed: called at the end of each.
    """

    def __init__(self, batch: Callable[[], AbstractContextManager[None]], closed: Callable[[], None]) -> None:
        self._batch = batch
        self._closed = closed
        self._stack: contextlib.ExitStack | None = None
        self.is_open = False
        self.ends = float("inf")  #: monotonic time at which it is to be closed

    def open(self) -> None:
        """What is done from now on becomes durable together. Idempotent."""
        if self._stack is None:
            self._stack = contextlib.ExitStack()
            self._stack.enter_context(self._batch())
            self.is_open = True
            self.ends = time.monotonic() + AGE

    def close(self) -> None:
        """Make durable what was done. Idempotent. Raises OSError, QueueError, and then the next one does it again."""
        stack, self._stack, self.is_open = self._stack, None, False
        self.ends = float("inf")
        if stack is not None:
            try:
                stack.close()
            except (OSError, QueueError):
                self.open()
                raise
            self._closed()
