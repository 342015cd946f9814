"""Back-pressure: how many more messages a queue may be given until it holds `queue_out_limit` that nobody has claimed.

Counting a queue takes long where it is long, so it is done now and then, and a part of the room is used in between:
other daemons use it at the same time. So the queue may come to hold more than its limit: for each of them a batch, or
that part of the limit.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from piperkit.errors import TargetUnavailable

#: The part of the room that is used before it is counted anew.
ROOM_PART = 16
#: Queues named by messages of which the room is known.
_TARGETS_MAX = 100


class TargetFull(TargetUnavailable):
    """The queue that a message names holds as many messages as it may."""


class Room:
    """The room in the output queue.

    count: the queue's `room`, given the limit.
    """

    def __init__(self, count: Callable[[int], int]) -> None:
        self._count = count
        self._left = 0
        self.is_ours = False  #: there would be room but for what is claimed already

    def left(self, limit: int, claimed: int, batch: int) -> int:
        """How many more messages may be claimed: each claim counts as if it went there. Raises as `Queue.room`.

        batch: messages that are claimed at once.
        """
        if self._left <= 0:
            free = self._count(limit)
            room = max(0, free - claimed)
            self.is_ours = free > 0
            self._left = min(room, max(batch, room // ROOM_PART))
        return self._left

    def take(self, messages: int) -> None:
        """So many are on their way there."""
        self._left -= messages


class Targets:
    """The room in queues that messages name.

    count: the queue's `room`, given the limit and the queue's path.
    """

    def __init__(self, count: Callable[[int, str], int]) -> None:
        self._count = count
        self._left: dict[str, int] = {}
        self._real: dict[str, str] = {}  #: where paths lead to

    def is_same(self, one: str, other: str) -> bool:
        """Whether two paths of queues lead to one."""
        return one == other or self._leads_to(one) == self._leads_to(other)

    def _leads_to(self, path: str) -> str:
        found = self._real.get(path)
        if found is None:
            if len(self._real) >= _TARGETS_MAX:
                self._real.clear()
            found = self._real[path] = os.path.realpath(path)
        return found

    def take(self, target: str, limit: int, batch: int) -> None:
        """A message is about to go there. Raises TargetFull, and as `Queue.room`."""
        left = self._left.get(target, 0)
        if left <= 0:
            room = self._count(limit, target)
            if room <= 0:
                raise TargetFull(f"the queue {target} is full: its limit of {limit} messages is reached")
            left = min(room, max(batch, room // ROOM_PART))
            if len(self._left) >= _TARGETS_MAX:
                self._left.clear()
        self._left[target] = left - 1

    def forget(self) -> None:
        """Look anew: time has passed."""
        self._left.clear()
        self._real.clear()
