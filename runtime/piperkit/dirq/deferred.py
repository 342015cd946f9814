"""Messages that wait for their next attempt, and when each is due.

When a message is due is the modification time of its record in `state` (Postfix keeps it the same way in the file's
own). What is known here is a hint, as for `incoming`: another instance may have taken a message back already, and even
have put it off once more, which its record then shows.
Waiting is measured on the monotonic clock, so a wall clock that is set does not stretch it; only a restart has to
believe the wall clock.
"""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable

from piperkit.dirq import fs
from piperkit.dirq.layout import message_names
from piperkit.dirq.store import Store

#: Seconds between looks for messages that other instances have put off and did not live to take back.
RESCAN = 60.0
#: Seconds until what is due, and could not be taken back, is tried again.
_AGAIN = 1.0


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
        #: When it is due by the monotonic clock, the name, and when by its record.
        self._due: list[tuple[float, str, int]] = []
        self._rescan = 0.0

    def add(self, name: str, due: int) -> None:
        """A message was put off until `due`, in nanoseconds since the epoch; its record says so too."""
        heapq.heappush(self._due, (self._monotonic() + (due - self._clock()) / 1e9, name, due))

    def return_due(self, store: Store) -> None:
        """Move messages whose next attempt is due back to `incoming`. Raises OSError; what is left stays due."""
        due = self._pop_due()
        for position, (name, recorded) in enumerate(due):
            try:
                self._return_one(store, name, recorded)
            except OSError:
                for left in due[position:]:
                    heapq.heappush(self._due, (self._monotonic() + _AGAIN, *left))
                raise

    def _return_one(self, store: Store, name: str, recorded: int) -> None:
        fd = fs.lock_message(os.path.join(self._queue, "deferred", name))
        if fd is None:
            return  # another instance was here first
        try:
            if self._still_due(name, recorded):
                store.give_back(store.lease(name, fd, "deferred"), "incoming", name)
        except FileNotFoundError:
            pass
        finally:
            os.close(fd)

    def _pop_due(self) -> list[tuple[str, int]]:
        """The names whose time has come, in the order in which it came, each with what its record said then."""
        now = self._monotonic()
        if now >= self._rescan:
            self._scan(now)
        due = []
        while self._due and self._due[0][0] <= now:
            due.append(heapq.heappop(self._due)[1:])
        return due

    def _still_due(self, name: str, due: int) -> bool:
        """Whether the record says the same as then; else the message was put off once more, and that is noted."""
        found = self._recorded(name)
        if found != due:
            self.add(name, found)
        return found == due

    def seconds(self) -> float | None:
        """Seconds until the next one is due; None if none is known."""
        return max(0.0, self._due[0][0] - self._monotonic()) if self._due else None

    def _recorded(self, name: str) -> int:
        try:
            return os.stat(os.path.join(self._queue, "state", name)).st_mtime_ns
        except FileNotFoundError:
            return 0  # put there by hand: due now

    def _scan(self, now: float) -> None:
        known = {(name, due) for _, name, due in self._due}
        listed = message_names(self._queue, "deferred")
        self._due = [item for item in self._due if item[1] in listed]
        heapq.heapify(self._due)
        for name in listed:
            due = self._recorded(name)
            if (name, due) not in known:
                self.add(name, due)
        self._rescan = now + RESCAN
