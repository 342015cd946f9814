"""`time_limit`: work that may take for ever on one message costs that message, and not the daemon."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the block when it has taken `seconds`.

        with time_limit(1.0):
            found = pattern.search(message.text)

    It interrupts Python code, regular expressions, and calls that wait; other code in C only when it returns. For the
    main thread, where components work; it uses the timer of setitimer(2) and SIGALRM, and puts back what they were.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, end)
    try:
        earlier = signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, *earlier)
    finally:
        signal.signal(signal.SIGALRM, before)
