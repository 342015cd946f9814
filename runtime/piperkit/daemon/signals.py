"""Signals become events, so that none raises in the middle of a component; a stop is bounded, see `guard`."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from piperkit.daemon.events import EventQueue
from piperkit.daemon.guard import STOP_SIGNALS_MAX, STOPS, Guard

#: The event that each signal becomes.
EVENTS = {signal.SIGHUP: "signal_hup", signal.SIGUSR1: "signal_usr1", signal.SIGUSR2: "signal_usr2"}


class Signals:
    """The handlers of the process. They only schedule: they run between any two steps of the program, so they must not
    log, or touch what the step had in hand. Appending to a deque is one step.

    wake: ends the sleep of the loop. stopping: told of the first stop signal, when it comes.
    """

    def __init__(self, queue: EventQueue, wake: Callable[[], None], stopping: Callable[[], None]) -> None:
        self._queue = queue
        self._wake = wake
        self._stopping = stopping
        self._stops = 0
        self._guard: Guard | None = None
        self._previous: dict[int, Any] = {}
        #: Ends the process; once there is no loop any more that could.
        self.end: Callable[[], None] | None = None

    def take_early(self) -> None:
        """Before the start is over, stop signals do what they do by default; the others wait, or end nothing."""
        for number in (*EVENTS, signal.SIGALRM):
            self._take(number)

    def take(self, guard: Guard) -> None:
        """From now on all of them become events."""
        self._guard = guard
        for number in (*EVENTS, *STOPS, signal.SIGALRM):  # that of an alarm of a component that forgot it ends nothing
            self._take(number)

    def _take(self, number: int) -> None:
        previous = signal.signal(number, self._handle)
        self._previous.setdefault(number, previous)

    def keep(self) -> bool:
        """Take back what a component has changed; returns whether it had."""
        changed = [number for number in (*EVENTS, *STOPS) if signal.getsignal(number) != self._handle]
        for number in changed:
            self._take(number)
        if self._guard is not None:
            self._guard.keep()
        return bool(changed)

    def release(self) -> None:
        """Give all of them back to whoever had them. Idempotent."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def forget(self) -> None:
        """This is a forked child: they do what they do by default, and nobody is told of them."""
        for number in self._previous:
            signal.signal(number, signal.SIG_DFL)
        self._previous.clear()
        signal.set_wakeup_fd(-1)
        if self._guard is not None:
            self._guard.forget()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._guard is not None:
            self._guard.keep(number)
        if number in EVENTS:
            self._queue.schedule_next(EVENTS[signal.Signals(number)])
        elif number in STOPS:
            self._stops += 1
            if self._stops == 1:
                self._queue.schedule_next("stop")
                self._stopping()
            elif self._stops >= STOP_SIGNALS_MAX and self.end is not None:
                self.end()
            elif self._stops >= STOP_SIGNALS_MAX:
                self._queue.schedule_next("terminate")
        self._wake()
