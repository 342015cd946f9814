"""`Doorbell`: when to look for messages. It rests where there are none, until an arrival rings, or it is time to look.

Whether what tells of arrivals is to be believed is found out by looking. What another machine does in a network file
system, or what is done below an overlay, is told to nobody, and no list of such file systems is whole; a look now and
then finds what should have been told of before.
"""

from __future__ import annotations

import select
import time

from piperkit.queue import Watch

#: Seconds between looks at an empty queue, whatever tells of arrivals.
LOOK_INTERVAL = 20.0
#: Seconds in which an instance that was woken, and came too late, leaves what arrives to others.
WAKE_PAUSE = 0.02
#: Looks that found messages which nothing had told of, after which nothing is expected to tell of others.
MISSED_MAX = 2


class Doorbell:
    """The watch of a queue, if there is one, and how often it was silent although messages had come."""

    def __init__(self, watch: Watch | None = None) -> None:
        self._watch = watch
        self.works = watch is not None  #: whether it tells of arrivals
        self.resting = False  #: nothing was there to claim
        self._woken = False  #: the next look is at an arrival
        self._sleep_until = 0.0  #: monotonic time until which arrivals are left to others
        self._rung = False  #: since the last rest
        self._suspect = False  #: messages were found that it has not told of yet
        self._missed = 0

    # -- resting ---------------------------------------------------------------------------------------------

    def ring(self) -> float | None:
        """It has told of an arrival, which was read; returns the seconds until the look at it, if that is not now.

        An arrival wakes all instances, and one of them gets it. Those that came too late let a moment pass before they
        can be woken again, or many instances would do little else than to come too late.
        """
        self._rung = True
        if not self.resting:
            return None
        pause = self._sleep_until - time.monotonic()
        if pause > 0:
            return pause
        self.resting = False
        self._woken = True
        return None

    def rise(self) -> None:
        """Look now, whatever was told."""
        self.resting = False

    def look(self, there_was_more: bool) -> bool:
        """The look begins. Returns whether it is one that nothing has asked for.

        there_was_more: the last one left something to claim.
        """
        return not (self._woken or there_was_more)

    def found(self, first_attempts: bool, silent: bool) -> None:
        """The look has found messages; `silent`: nothing had told of them when it began."""
        self._woken = False
        if silent and first_attempts:  # what is tried again comes back without a sound
            self._suspect = True

    def rest(self, wait: float, known: float | None) -> float:
        """Nothing is left to find; returns the seconds until the next look.

        wait: the time between looks where nothing tells of arrivals. known: when there may be something, as far as is
        known.
        """
        self.resting = True
        if self._woken:
            self._woken = False
            self._sleep_until = time.monotonic() + WAKE_PAUSE
        delay = LOOK_INTERVAL if self.works else min(LOOK_INTERVAL, wait)
        return delay if known is None else min(delay, known)

    # -- believing it ----------------------------------------------------------------------------------------

    def renew(self) -> None:
        """Have it watch the directory that the queue's path leads to now."""
        if self._watch is not None and self._watch.renew():
            self._rung = True  # what came there before is no fault of it

    def silent(self) -> bool:
        """Whether it should have told of what a look finds now, and has not."""
        return self.works and not self._has_rung()

    def gives_up(self) -> bool:
        """Nothing is left to find: whether this is the moment in which it is not believed any more."""
        if self._suspect and not self._has_rung():
            self._missed += 1
        self._rung = self._suspect = False
        given_up = self.works and self._missed >= MISSED_MAX
        if given_up:
            self.works = False
        return given_up

    def _has_rung(self) -> bool:
        if self._watch is None or self._rung:
            return self._rung
        poll = select.poll()
        poll.register(self._watch.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Stop watching. Idempotent."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()
