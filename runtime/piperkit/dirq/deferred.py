"""Messages that wait for their next attempt, and when each is due.

When a message is due is the modification time of its record in `state` (Postfix keeps it the same way in the file's
own). What is known here is a hint, as for `incoming`: another instance may have taken a message back already.
Waiting is measured on the monotonic clock, so a wall clock that is set does not stretch it; only a restart has to
believe the wall clock.
"""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable

from piperkit.dirq.layout import message_names

#: Seconds between looks for messages that other instances have put off and did not live to take back.
RESCAN = 60.0


class Deferred:
    def __init__(
        self,
        queue: str,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._monotonic = monotonic
        self._due: list[tuple[float, str]] = []
        self._rescan = 0.0

    def add(self, name: str, delay: float) -> None:
        heapq.heappush(self._due, (self._monotonic() + delay, name))

    def pop_due(self) -> list[str]:
        """The names whose time has come, in the order in which it came."""
        now = self._monotonic()
        if now >= self._rescan:
            self._scan(now)
        due = []
        while self._due and self._due[0][0] <= now:
            due.append(heapq.heappop(self._due)[1])
        return due

    def seconds(self) -> float | None:
        """Seconds until the next one is due; None if none is known."""
        return max(0.0, self._due[0][0] - self._monotonic()) if self._due else None

    def _scan(self, now: float) -> None:
        known = {name: due for due, name in self._due}
        found: list[tuple[float, str]] = []
        for name in message_names(self._queue, "deferred"):
            due = known.get(name)
            if due is None:
                try:
                    wall = os.stat(os.path.join(self._queue, "state", name)).st_mtime_ns
                except FileNotFoundError:
                    wall = 0  # put there by hand: due now
                due = now + (wall - self._clock()) / 1e9
            heapq.heappush(found, (due, name))
        self._due, self._rescan = found, now + RESCAN
