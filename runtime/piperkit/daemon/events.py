"""The event queue, as pyzenkit's, on the monotonic clock.

Timed events that are due come first, then the others in their order. Two events of the same moment keep the order in
which they were scheduled, and are never compared. A wall clock that is set changes no waiting time.
"""

from __future__ import annotations

import collections
import heapq
import itertools
import math
import time
from collections.abc import Callable
from typing import Any

from piperkit.zenkit import EventQueueManager, QueueEmptyException

#: Cancelled events that are kept until their time at least; beyond that, no more than half of all are.
_CANCELLED_MIN = 64
#: What `schedule_at` and `schedule_after` return, for `cancel`; first in it is the monotonic time when it is due.
Timer = list[Any]


class EventQueue(EventQueueManager):
    """pyzenkit's interface, and `cancel`."""

    def __init__(self, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.events: collections.deque[tuple[str, Any]] = collections.deque()
        self.events_at: list[Timer] = []
        self._clock = clock
        self._monotonic = monotonic
        self._order = itertools.count()
        self._cancelled = 0  #: of the timed events

    def schedule_at(self, tstamp: float, event: str, args: Any = None) -> Timer:
        """Schedule an event for a moment of the wall clock, in seconds since the epoch, as the clock is set now."""
        return self.schedule_after(tstamp - self._clock(), event, args)

    def schedule_after(self, delay: float, event: str, args: Any = None) -> Timer:
        """Schedule an event in `delay` seconds. Raises TypeError, ValueError for what is not a number of seconds."""
        when = self._monotonic() + delay
        if math.isnan(when):
            raise ValueError(f"an event cannot come in {delay!r} seconds")
        timer = [when, next(self._order), event, args]
        heapq.heappush(self.events_at, timer)
        return timer

    def cancel(self, timer: Timer) -> None:
        """Take back a timed event; one that has been fetched already is past taking back. Idempotent."""
        if timer[2] is not None and timer[1] >= 0:
            timer[2] = timer[3] = None
            self._cancelled += 1
            if self._cancelled > _CANCELLED_MIN and self._cancelled > len(self.events_at) // 2:
                self.events_at[:] = [timer for timer in self.events_at if timer[2] is not None]
                heapq.heapify(self.events_at)
                self._cancelled = 0

    def next(self) -> tuple[str | None, Any]:
        """The next event that is due, with its arguments; (None, None) where there are only later ones.

        Raises QueueEmptyException where there are none at all.
        """
        timers = self.events_at
        if timers:
            if timers[0][2] is None:
                self._drop_cancelled()
            if timers and timers[0][0] <= self._monotonic():
                timer = heapq.heappop(timers)
                timer[1] = -1  # past taking back
                return timer[2], timer[3]
        if self.events:
            return self.events.popleft()
        if not timers:
            raise QueueEmptyException("Event queue is empty")
        return None, None

    def when(self) -> float:
        """When the next event is due, in seconds since the epoch."""
        return self._clock() + self.wait()

    def wait(self) -> float:
        """Seconds until the next event is due; 0 where one is."""
        self._drop_cancelled()
        if self.events:
            return 0.0
        if not self.events_at:
            raise QueueEmptyException("Event queue is empty")
        return max(0.0, float(self.events_at[0][0]) - self._monotonic())

    def count(self) -> int:
        """The number of events, due and later."""
        self._drop_cancelled()
        return len(self.events) + sum(timer[2] is not None for timer in self.events_at)

    def _drop_cancelled(self) -> None:
        while self.events_at and self.events_at[0][2] is None:
            heapq.heappop(self.events_at)
            self._cancelled -= 1
