"""Messages that wait for their next attempt, and when each is due.

When a message is due is the modification time of its record in `state` (Postfix keeps it the same way in the file's
own); the record's access time is when it was put off. What is known here is a hint, as for `incoming`: another instance
may have claimed a message already, and even have put it off once more, which its record then shows.

`deferred` is looked through a part at a time, and no more than the `_KEPT` messages that are due first are remembered:
each call does bounded work, whatever waits. Waiting is measured on the monotonic clock, so a wall clock that is set
does not stretch it. Where the record says that a message was put off in the future, the clock was wrong then: it
waits for the delay that was meant, from now on, and its record is corrected.
"""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable

from piperkit.dirq.fs import Directory, Walk
from piperkit.dirq.layout import Parts
from piperkit.naming import sort_key

#: Seconds between looks for messages that other instances have put off and did not live to take back.
RESCAN = 60.0
#: Entries that are looked at in one call.
_PART = 1000
#: Messages that are remembered.
_KEPT = 10_000
#: Seconds until what is due, and could not be claimed, is tried again.
AGAIN = 1.0


class Deferred:
    """The messages in `deferred`, by when they are due."""

    def __init__(
        self,
        parts: Parts,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts = parts
        self._clock = clock
        self._monotonic = monotonic
        #: When it is due by the monotonic clock, the name, and when by its record.
        self._due: list[tuple[float, str, int]] = []
        self._known: dict[str, int] = {}  #: the same without the first
        self._horizon = float("inf")  #: those that are due later are not remembered
        self._walk = Walk(lambda: parts.deferred)
        self._rescan = 0.0

    def add(self, name: str, due: int) -> None:
        """A message was put off until `due`, in nanoseconds since the epoch; its record says so too."""
        if self._known.get(name) == due:
            return
        at = self._monotonic() + (due - self._clock()) / 1e9
        if at > self._horizon:
            self._known.pop(name, None)
            return
        self._known[name] = due
        heapq.heappush(self._due, (at, name, due))
        if len(self._due) > 2 * _KEPT:
            self._due = heapq.nsmallest(_KEPT, self._due)  # sorted, and so a heap
            self._known = {name: due for _, name, due in self._due}
            self._horizon = self._due[-1][0]

    def again(self, name: str, due: int) -> None:
        """A message that was due could not be claimed."""
        self._known[name] = due
        heapq.heappush(self._due, (self._monotonic() + AGAIN, name, due))

    def take(self, limit: int) -> list[tuple[str, int]]:
        """Up to `limit` names whose time has come, the oldest messages first, and what their records said then.

        A message that was put off once more is noted instead.
        """
        now = self._monotonic()
        if now >= self._rescan or self._is_looking():
            self._look(now)
        names: list[tuple[str, int]] = []
        while self._due and self._due[0][0] <= now and len(names) < limit:
            _, name, due = heapq.heappop(self._due)
            if self._known.get(name) != due:
                continue  # there is another entry for it
            del self._known[name]
            recorded = self._recorded(name, due)
            if recorded == due:
                names.append((name, due))
            else:
                self.add(name, recorded)
        return sorted(names, key=lambda each: sort_key(each[0]))

    def seconds(self) -> float | None:
        """Seconds until the next one is due, or there is more to look at; None if nothing is known."""
        if self._is_looking():
            return 0.0
        return max(0.0, self._due[0][0] - self._monotonic()) if self._due else None

    def _is_looking(self) -> bool:
        """Whether there is more to look at: a round is not ended, or all that was remembered has been taken."""
        return not self._walk.ended or (self._horizon < float("inf") and not self._due)

    def _look(self, now: float) -> None:
        """Look through a part of `deferred`."""
        if self._walk.ended:
            self._horizon = float("inf")
        for name in self._walk.some(_PART):
            if not name.startswith("."):
                self.add(name, self._recorded(name, self._known.get(name)))
        if self._walk.ended:
            self._rescan = now + RESCAN

    def _recorded(self, name: str, known: int | None) -> int:
        """When a message is due, by its record, which is corrected if it was put off at a time that is yet to come.

        known: when by what is known here; that is measured on the monotonic clock, and need not be corrected.
        """
        state = self._parts.state
        record = state.stat(name)
        if record is None:
            return 0  # put there by hand: due now
        now = self._clock()
        delay = record.st_mtime_ns - record.st_atime_ns
        if record.st_atime_ns > now and delay > 0 and record.st_mtime_ns != known:
            _correct(state, name, (now, now + delay))
            return now + delay
        return record.st_mtime_ns


def _correct(state: Directory, name: str, times: tuple[int, int]) -> None:
    try:
        os.utime(name, ns=times, dir_fd=state.fd, follow_symlinks=False)
    except OSError:
        pass  # it has moved on, or is not ours: then it is due when it says
