"""`Intake`: claims messages, a batch at a time, of no more than there is room for; rests where there are none."""

from __future__ import annotations

import time

from piperkit.errors import QueueError
from piperkit.filer import names
from piperkit.filer.desk import Desk
from piperkit.filer.doorbell import LOOK_INTERVAL, Doorbell
from piperkit.filer.parts import Parts
from piperkit.host import Timer


class Intake:
    """Where messages come in."""

    def __init__(self, parts: Parts, desk: Desk) -> None:
        self._parts = parts
        self._desk = desk
        self.bell = Doorbell()
        self._look: Timer | None = None  #: of the next look
        self._looked = False  #: it rested since the last claim, so that the next look is a new one
        self._enough: int | None = None  #: claims down to which nothing is claimed, since they take all the room

    @property
    def is_full(self) -> bool:
        """Whether the claims take all the room of the output queue, so that some have to be settled first."""
        return self._enough is not None and len(self._parts.claims.held) > self._enough

    def claim(self) -> bool:
        """Claim a batch; returns whether there was something. If not, the next look is scheduled, or it pauses."""
        try:
            return self._claim()
        except (OSError, QueueError) as error:
            self._desk.pause_for_fault(error)
        except Exception as error:
            self._parts.host.logger.exception("Component '%s': claiming failed: %s", self._parts.cid, error)
            self._desk.pause_for_fault(error)
        return False

    def _claim(self) -> bool:
        parts = self._parts
        unasked = self._looked and self.bell.look(parts.queue.busy())
        self._looked = False
        self._enough = None
        if self._look is not None:
            parts.host.queue.cancel(self._look)
            self._look = None
        if time.monotonic() >= parts.window.ends:
            parts.window.close()
        most = self._most()
        if most <= 0:
            return False
        if unasked:
            self.bell.renew()
        silent = unasked and self.bell.silent()
        claims = parts.queue.claim(most)
        if parts.waiting.reason is not None and not parts.waiting.probing:
            self._desk.resume()
        if not claims:
            parts.window.close()
            self._rest()
            return False
        self.bell.found(silent and any(claim.attempt == 1 and not claim.waits for claim in claims), silent)
        parts.room.take(len(claims))
        parts.claims.add(claims)
        parts.count(names.FETCHED, len(claims))
        parts.window.open()
        return True

    def _most(self) -> int:
        """How many messages may be claimed now; if none, why is seen to."""
        parts, settings = self._parts, self._parts.settings
        paused = parts.queue.paused()
        if paused is not None and not paused.sources_only:
            parts.window.close()
            self._desk.pause(parts.waiting.for_operator(paused))
            return 0
        if parts.waiting.probing:
            return 1
        if not settings.is_limited:
            return settings.batch
        room = parts.room.left(settings.out_limit, len(parts.claims.held), settings.batch)
        if room > 0:
            return min(settings.batch, room)
        parts.window.close()
        if parts.room.is_ours:
            # Claim nothing before half of the claims are settled. Whoever collects messages is told that no more come.
            self._enough = len(parts.claims.held) // 2
            parts.host.queue.schedule(parts.event(names.MESSAGE_NO_MORE))
            self.look_in(LOOK_INTERVAL)
        else:
            circle = parts.queue.waits_for_room(True)
            self._desk.pause(parts.waiting.for_room(settings.out_limit, circle, settings.out_wait))
        return 0

    def _rest(self) -> None:
        """Nothing to claim: sleep until an arrival, or until it is time to look whatever was told."""
        parts, wait = self._parts, self._parts.settings.in_wait
        self._looked = True
        if self.bell.gives_up():
            parts.host.logger.warning(
                "Arrivals do not wake the daemon: messages came into %s and nothing told; it looks every %g s",
                parts.settings.in_dir,
                min(LOOK_INTERVAL, wait),
            )
        self.look_in(self.bell.rest(wait, parts.queue.next_look()))

    def look_in(self, delay: float) -> None:
        """Look in so many seconds, unless that happens sooner anyway."""
        queue = self._parts.host.queue
        if self._look is not None:
            if self._look[0] <= time.monotonic() + delay:
                return
            queue.cancel(self._look)
        self._look = queue.schedule_after(delay, self._parts.event(names.MESSAGE_NEXT))

    def wake(self) -> None:
        """Something may have arrived: look now, or in a moment."""
        pause = self.bell.ring()
        if pause is not None:
            self.look_in(pause)
