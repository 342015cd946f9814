"""Ctrl-C at the right moment: between two messages, so that what is told to have been put is what was put."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any, Self


class Interrupts:
    """While this is entered, Ctrl-C raises KeyboardInterrupt only in `check` and within `allowed`.

    A second Ctrl-C is taken at once, for a file system that hangs. Where the caller ignores SIGINT, or handles it
    otherwise, that stays so.
    """

    def __init__(self) -> None:
        self._noted = False
        self._allowed = False
        self._ours = False

    def __enter__(self) -> Self:
        self._ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._ours:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def check(self) -> None:
        """Raises KeyboardInterrupt if there was one."""
        if self._noted:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Within this block, which only waits or reads, Ctrl-C is taken at once."""
        self._allowed = True
        try:
            self.check()
            yield
        finally:
            self._allowed = False

    def _note(self, *signal_and_frame: Any) -> None:
        again, self._noted = self._noted, True
        if self._allowed or again:
            raise KeyboardInterrupt
