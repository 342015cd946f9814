"""What keeps a filer from working, and how it waits for that to pass, claiming nothing in the meantime.

It waits in the same way for two things: room in the output queue, and the end of a fault (a full disk, a target that is
not there). In the second case the message stays claimed and the event is scheduled again, with whatever events followed
it for the same message. Each such wait is logged once, at its beginning and at its end.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from piperkit.component import Result
from piperkit.errors import QueueError
from piperkit.filer.base import FilerBase
from piperkit.pause import Pause

if TYPE_CHECKING:
    from piperkit.daemon import PiperDaemon

#: The part of the output queue's room that is used before it is counted anew; other instances use it at the same time.
ROOM_PART = 16
#: Seconds until the second look at a full output queue; each wait is twice the one before, up to `queue_out_wait`.
ROOM_WAIT = 0.1
#: What `queue_check` is given where it follows events that are tried again.
_TRIED_AGAIN = "tried again"


class Waiting(FilerBase):
    """The part of the filer that pauses and goes on."""

    @property
    def paused(self) -> bool:
        """Whether nothing is claimed now; `waiting_for` says why."""
        return bool(self.status == self.STATUS_PAUSED)

    def _schedule_next(self, daemon: PiperDaemon) -> None:
        """Have the next message begun, as soon as what is due now is done."""
        if not self._next_queued:
            self._next_queued = True
            daemon.queue.schedule(self._next_event)

    def _room(self) -> int:
        """How many more messages may be claimed: each claim counts as if it went to the output queue."""
        if not (self.queue_out_dir and self.queue_out_limit):
            return self.batch_size
        if self._allowance <= 0:
            free = self.queue.room(self.queue_out_limit)
            room = max(0, free - len(self._claims))
            self._room_is_ours = free > 0
            if room:
                self._room_wait = 0.0
            self._allowance = min(room, max(self.batch_size, room // ROOM_PART))
        return self._allowance

    def _pause_for_room(self, daemon: PiperDaemon) -> None:
        why = f"room in the output queue: its limit of {self.queue_out_limit} messages is reached"
        self._room_wait = 2 * self._room_wait or ROOM_WAIT
        self._pause(daemon, why, Pause.OUTPUT_FULL, self._room_wait)

    def _pause(self, daemon: PiperDaemon, why: str, kind: Pause, delay: float | None = None) -> None:
        """Stop claiming, say why once, and look again later."""
        if why not in self._waits:
            daemon.logger.warning("Component '%s': processing pauses; waiting for: %s", self.cid, why)
        self._waits.add(why)
        self.status = self.STATUS_PAUSED
        self.waiting_for = why
        self.pause = kind
        daemon.tell_status()
        if self._check is None:
            delay = self.queue_out_wait if delay is None else min(delay, self.queue_out_wait)
            self._check = daemon.queue.schedule_after(delay, self.event(self.EVENT_QUEUE_CHECK))

    def _reason(self, error: Exception) -> str:
        """Why an operation failed, in the same words each time it fails so: without the name of the message's file."""
        if not isinstance(error, OSError):
            return str(error)
        where = os.path.dirname(error.filename) if isinstance(error.filename, str) else self.queue_in_dir
        return f"{error.strerror}: {where}"

    def _resume(self, daemon: PiperDaemon) -> None:
        """What processing waited for has come: a claim, or what was tried again, has succeeded."""
        if self._waits:
            daemon.logger.warning("Component '%s': processing goes on", self.cid)
            self._waits.clear()
            self.waiting_for = self.pause = None
            daemon.tell_status()

    def cbk_event_queue_check(self, daemon: PiperDaemon, args: Any) -> Result:
        """Look whether what processing waits for has come, and go on if so."""
        if args == _TRIED_AGAIN and self._blocked:
            return daemon.FLAG_CONTINUE, args  # in vain: the next look is at its time
        if self._check is not None:
            daemon.queue.cancel(self._check)
            self._check = None
        blocked, self._blocked = self._blocked, {}
        if blocked:
            # The failed events once more, each with those that have waited behind it; after them, another check.
            for event, event_args in (item for events in blocked.values() for item in events):
                daemon.queue.schedule(event, event_args)
            daemon.queue.schedule(self.event(self.EVENT_QUEUE_CHECK), _TRIED_AGAIN)
            return daemon.FLAG_CONTINUE, args
        if self.paused:
            try:
                room = self._room()
            except (OSError, QueueError) as error:
                self._pause(daemon, self._reason(error), Pause.of(error))
                return daemon.FLAG_CONTINUE, args
            if not room and not self._room_is_ours:
                self._pause_for_room(daemon)
            else:
                self.status = self.STATUS_RUNNING
                self.bell.renew()
                self._schedule_next(daemon)
        return daemon.FLAG_CONTINUE, args

    def _block(self, daemon: PiperDaemon, id: str, event: str, args: Any, error: Exception) -> Result:
        """An operation failed for a reason that may pass: the message stays claimed, and it is tried again."""
        self._blocked.setdefault(id, []).append((event, args))
        self._pause(daemon, self._reason(error), Pause.of(error), self.queue_in_wait)
        return daemon.FLAG_STOP, None
