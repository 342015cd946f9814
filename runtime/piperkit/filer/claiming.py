"""Claiming messages and beginning them, one after the other; sleeping where there are none; and batches of syncs."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from piperkit.component import Result
from piperkit.errors import QueueError
from piperkit.filer.base import Work
from piperkit.filer.waiting import Waiting
from piperkit.pause import Pause

if TYPE_CHECKING:
    from piperkit.daemon import PiperDaemon

#: Seconds after which what was done is made durable, in `queue_sync` batch; sooner where there is nothing more to do.
FLUSH_AGE = 0.2
#: Seconds between looks at an empty queue, whatever tells of arrivals.
LOOK_INTERVAL = 20.0
#: Seconds in which an instance that was woken, and came too late, leaves what arrives to others.
WAKE_PAUSE = 0.02


class Claiming(Waiting):
    """The part of the filer that takes messages from the queue."""

    def go_on(self, daemon: PiperDaemon) -> bool:
        """Nothing else is due: begin the next message, if there may be one; returns whether there may.

        Called by the daemon's loop before it sleeps, for components that settle their messages some time later.
        """
        if self._next_queued or self._resting or self.paused or daemon.is_done() or self._has_enough():
            return False
        self._schedule_next(daemon)
        return True

    def _begin_next(self, daemon: PiperDaemon) -> None:
        """A message is settled: begin the next one.

        One at a time, so that the outcome of one comes before the next: what a daemon dies of is laid to the charge of
        the message that it was working on, and of no other.
        """
        if self._ready and self.status == self.STATUS_RUNNING and not daemon.is_done():
            daemon.queue.schedule(self.process_event, {"id": self._ready.popleft()})
        elif not self._has_enough():
            self._schedule_next(daemon)

    def cbk_event_message_next(self, daemon: PiperDaemon, args: Any = None) -> Result:
        """Begin the next message. Where none is claimed, claim a batch, of no more than there is room for.

        Events of this name may be scheduled by anybody, at any time.
        """
        # Looking because it is time to, and not because of something known to have come, or to be left.
        unasked = self._resting and not self._woken and not self.queue.busy()
        self._next_queued = self._resting = False
        self._enough = None
        if self._look is not None:
            daemon.queue.cancel(self._look)
            self._look = None
        if self.paused or daemon.is_done():
            return daemon.FLAG_STOP, args
        if not self._ready:
            try:
                self._claim(daemon, unasked)
            except (OSError, QueueError) as error:
                self._pause(daemon, self._reason(error), Pause.of(error), self.queue_in_wait)
        if self._ready:
            self._resume(daemon)
            daemon.queue.schedule(self.process_event, {"id": self._ready.popleft()})
        return daemon.FLAG_CONTINUE, None

    def _claim(self, daemon: PiperDaemon, unasked: bool) -> None:
        if time.monotonic() - self._batch_began > FLUSH_AGE:
            self._end_batch()
        room = self._room()
        if not room:
            self._end_batch()
            if self._room_is_ours:
                self._wait_for_own(daemon)
            else:
                self._pause_for_room(daemon)
            return
        if unasked:
            self.bell.renew()
        silent = unasked and self.bell.silent()
        claims = self.queue.claim(min(self.batch_size, room))
        if silent and any(claim.attempt == 1 for claim in claims):
            self.bell.suspect()  # what is tried again comes back without a sound
        self._resume(daemon)
        self._allowance -= len(claims)
        for claim in claims:
            self._claims[claim.id] = Work(claim)
            self._ready.append(claim.id)
        if claims:
            self._woken = False
            self.inc_statistic(self.STATS_CNT_FETCHED, len(claims))
            self._begin_batch()
        else:
            self._end_batch()
            self._rest(daemon)

    def _wait_for_own(self, daemon: PiperDaemon) -> None:
        """The claims take all the room that is left: claim nothing before half of them are settled.

        Whoever collects messages is told that no more come before that.
        """
        self._enough = len(self._claims) // 2
        daemon.queue.schedule(self.event(self.EVENT_MSG_NO_MORE))
        self._look_in(daemon, LOOK_INTERVAL)

    def _has_enough(self) -> bool:
        return self._enough is not None and len(self._claims) > self._enough

    def cbk_event_message_no_more(self, daemon: PiperDaemon, args: Any) -> Result:
        """For components that collect messages: they have to go on with those that they have."""
        return daemon.FLAG_CONTINUE, args

    def _rest(self, daemon: PiperDaemon) -> None:
        """Nothing to claim: sleep until an arrival, or until it is time to look whatever was told."""
        self._resting = True
        if self.bell.rest():
            daemon.logger.warning(
                "Arrivals do not wake the daemon: messages came into %s and nothing told; it looks every %g s",
                self.queue_in_dir,
                min(LOOK_INTERVAL, self.queue_in_wait),
            )
        if self._woken:
            self._woken = False
            self._sleep_until = time.monotonic() + WAKE_PAUSE
        delay = LOOK_INTERVAL if self.bell.works else min(LOOK_INTERVAL, self.queue_in_wait)
        known = self.queue.next_look()
        self._look_in(daemon, delay if known is None else min(delay, known))

    def _look_in(self, daemon: PiperDaemon, delay: float) -> None:
        """Look in so many seconds, unless that happens sooner anyway."""
        if self._look is not None:
            if self._look[0] <= time.monotonic() + delay:
                return
            daemon.queue.cancel(self._look)
        self._look = daemon.queue.schedule_after(delay, self._next_event)

    def wake(self, daemon: PiperDaemon) -> None:
        """Something may have arrived: look now. Called by the daemon's loop.

        An arrival wakes all instances, and one of them gets it. Those that came too late let a moment pass before they
        can be woken again, or many instances would do little else than to come too late.
        """
        self.bell.rung()
        if not self._resting:
            return
        pause = self._sleep_until - time.monotonic()
        if pause <= 0:
            self._woken = True
            self._schedule_next(daemon)
        else:
            self._look_in(daemon, pause)

    def look_again(self, daemon: PiperDaemon) -> None:
        """The settings have changed: do not wait for a moment that followed from the old ones."""
        if self._check is not None:
            daemon.queue.schedule(self.event(self.EVENT_QUEUE_CHECK))
        self.wake(daemon)

    def idle(self) -> bool:
        """Whether there is nothing to do until an arrival, a timer or somebody else changes that."""
        if self._next_queued:
            return False
        return self.paused or self._has_enough() or (self._resting and not self.queue.busy())

    def _begin_batch(self) -> None:
        """What is done from now on becomes durable together."""
        if self._batch is None:
            self._batch = contextlib.ExitStack()
            self._batch.enter_context(self.queue.batch())
            self._batch_began = time.monotonic()

    def _end_batch(self) -> None:
        """Make durable what the batch did. Raises OSError, and then the next one's end does it again."""
        batch, self._batch = self._batch, None
        if batch is not None:
            try:
                batch.close()
            except OSError:
                self._begin_batch()
                raise

    def _flush(self, daemon: PiperDaemon) -> None:
        try:
            self._end_batch()
        except OSError as error:
            self._pause(daemon, self._reason(error), Pause.of(error), self.queue_in_wait)
        self._begin_batch()
