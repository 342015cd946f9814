"""`Waiting`: what makes a daemon pause, and what waits for that to pass. Nothing is claimed meanwhile.

It pauses for room in the output queue (`for_room`), for the end of a fault of the disk or the output queue
(`for_fault`), for what its component works with (`for_backend`), and for an operator (`for_operator`). After a fault,
the messages that it befell stay in work, and the events that failed are tried again, each with those that came behind
it for the same message. Each wait is said once, at its beginning and at its end.
"""

from __future__ import annotations

import os
import time
from typing import Any

from piperkit.message import Unavailable
from piperkit.operating import Paused
from piperkit.pause import Pause

#: Seconds until the second look at a full output queue; each wait is twice the one before, up to `queue_out_wait`.
ROOM_WAIT = 0.1
#: Seconds until a component's backend is tried again; each wait is twice the one before, up to the second.
BACKEND_WAIT, BACKEND_WAIT_MAX = 1.0, 60.0
#: Seconds until it is looked at again whether an operator still has the queue paused.
OPERATOR_WAIT = 2.0


class Waiting:
    """Whether nothing is claimed, and why."""

    def __init__(self) -> None:
        self.closed = False  #: nothing is claimed
        self.reason: str | None = None  #: for people; it stays until something has succeeded
        self.pause: Pause | None = None  #: the same, as a class
        self.delay = 0.0  #: seconds until the next look
        self.blocked: dict[str, list[tuple[str, Any]]] = {}  #: by message, events that wait; the first one failed
        self._said: set[str] = set()

    def for_room(self, limit: int, circle: tuple[str, ...], longest: float) -> bool:
        """The output queue is full; `circle`: the queues that wait for one another. Returns whether that is news."""
        why = f"room in the output queue: its limit of {limit} message{'s' * (limit != 1)} is reached"
        if circle:
            why += (
                f"; {' -> '.join(circle)} all wait for one another: raise queue_out_limit for one of them,"
                " or take messages out of its queue"
            )
        return self._close(why, Pause.OUTPUT_FULL, self._doubled(Pause.OUTPUT_FULL, ROOM_WAIT, longest))

    def for_operator(self, paused: Paused) -> bool:
        """An operator has paused the queue."""
        left = OPERATOR_WAIT if paused.until is None else min(OPERATOR_WAIT, max(0.0, paused.until - time.time()))
        return self._close(f"an operator: {paused}", Pause.OPERATOR, left)

    def for_fault(self, error: BaseException, where: str, delay: float) -> bool:
        """The disk or the output queue failed; `where`: the queue, if the error says no path."""
        return self._close(_reason(error, where), Pause.of(error), delay)

    def for_backend(self, error: BaseException) -> bool:
        """A component has raised Unavailable."""
        delay = getattr(error, "delay", None) if isinstance(error, Unavailable) else None
        if delay is None:
            delay = self._doubled(Pause.BACKEND_UNAVAILABLE, BACKEND_WAIT, BACKEND_WAIT_MAX)
        return self._close(str(error), Pause.BACKEND_UNAVAILABLE, delay)

    def _doubled(self, kind: Pause, first: float, longest: float) -> float:
        return min(longest, 2 * self.delay) if self.pause is kind and self.delay else min(longest, first)

    def _close(self, why: str, kind: Pause, delay: float) -> bool:
        news = why not in self._said
        self._said.add(why)
        self.closed, self.reason, self.pause, self.delay = True, why, kind, delay
        return news

    def try_again(self) -> None:
        """Time has passed: claim. The reason stays until that, or what follows from it, has succeeded."""
        self.closed = False

    @property
    def probing(self) -> bool:
        """Whether a single message has to show whether the backend is there again."""
        return self.pause is Pause.BACKEND_UNAVAILABLE

    def passed(self) -> bool:
        """What it waited for has come; returns whether it waited."""
        waited = self.reason is not None
        if waited:
            self._said.clear()
            self.reason = self.pause = None
            self.delay = 0.0
        return waited

    def block(self, id: str, event: str, args: Any) -> None:
        """An event waits for the end of a fault, or behind one of the same message that does."""
        self.blocked.setdefault(id, []).append((event, args))

    def unblock(self) -> list[tuple[str, Any]]:
        """Those that wait, to be handled once more."""
        blocked, self.blocked = self.blocked, {}
        return [each for events in blocked.values() for each in events]


def _reason(error: BaseException, where: str) -> str:
    """Why an operation failed, in the same words each time it fails so: without the name of the message's file."""
    if not isinstance(error, OSError):
        return str(error)
    if isinstance(error.filename, str):
        where = os.path.dirname(error.filename)
    return f"{error.strerror}: {where}"
