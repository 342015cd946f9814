"""Whether what tells of arrivals is to be believed.

What another machine does in a network file system, or what is done below an overlay, is told to nobody. No list of such
file systems is whole, so it is found out by looking: a look now and then finds what should have been told of before.
"""

from __future__ import annotations

import select

from piperkit.queue import Watch

#: Looks that found messages which nothing had told of, after which nothing is expected to tell of others.
MISSED_MAX = 2


class Doorbell:
    """The watch of a queue, if there is one, and how often it was silent although messages had come."""

    def __init__(self, watch: Watch | None = None) -> None:
        self._watch = watch
        self.works = watch is not None  #: whether it tells of arrivals
        self._rung = False  #: since the last rest
        self._suspect = False  #: messages were found that it has not told of yet
        self._missed = 0

    def rung(self) -> None:
        """It has told of something, and that was read."""
        self._rung = True

    def renew(self) -> None:
        """Have it watch the directory that the queue's path leads to now."""
        if self._watch is not None and self._watch.renew():
            self._rung = True  # what came there before is no fault of it

    def silent(self) -> bool:
        """Whether it should have told of what a look finds now, and has not."""
        return self.works and not self._has_rung()

    def suspect(self) -> None:
        """A look has found messages although it was silent; it may still tell of them until the next rest."""
        self._suspect = True

    def rest(self) -> bool:
        """Nothing is left to find; returns whether that is the moment in which it is given up."""
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
