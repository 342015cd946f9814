"""The event loop: events in their order, and messages when no event is due.

An event's handlers are called in order; what one raises ends the event, never the daemon. What recurs is scheduled
again before its handlers are called, so that it comes again whatever they do.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from piperkit.daemon.events import EventQueue, Timer
from piperkit.daemon.waker import Waker
from piperkit.host import Result
from piperkit.zenkit import ZenDaemonStopException

#: Events in a row after which messages have their turn, however many events there are.
EVENTS_MAX = 2
_CONTINUE = 1

Handler = Callable[[Any, Any], Result]


class Worker(Protocol):
    """Whose turn it is when no event is due: the filer."""

    def work(self) -> bool:
        """Begin messages, until an event is due; returns whether there was one to begin."""
        ...

    def idle(self) -> bool:
        """Whether there is nothing to do until an arrival, a timer or somebody else changes that."""
        ...


class EventLoop:
    """Handles the events of `queue` by `handlers`, each given `daemon`.

    failed: told of an event, its arguments, the handler that raised, and what it raised.
    unhandled: told of an event that nobody handles.
    """

    def __init__(
        self,
        daemon: object,
        queue: EventQueue,
        handlers: Mapping[str, Sequence[Handler]],
        waker: Waker,
        failed: Callable[[str, Any, Handler, BaseException], None],
        unhandled: Callable[[str], None],
    ) -> None:
        self._daemon = daemon
        self._queue = queue
        self._handlers = handlers
        self._waker = waker
        self._failed = failed
        self._unhandled = unhandled
        self._recurring: dict[str, tuple[Callable[[], float], Timer]] = {}
        self.args: Any = None  #: those of the event that is being handled
        self.busy = True  #: code of a component may be running, for any time
        self.forked = False  #: this is a child of the daemon's process

    def run(self, worker: Worker, is_done: Callable[[], bool], sleep: Callable[[float], None]) -> None:
        """Handle events until a stop was asked for and nothing is left to be done now, or until `terminate`.

        sleep: called with the seconds until the next event, where there is nothing to do.
        """
        handled = 0
        while not self.forked:
            self.busy = True
            event, args = self._queue.next()
            if event is not None:
                self.handle(event, args)
                if event == "terminate":
                    return
                handled += 1
                if handled < EVENTS_MAX:
                    continue
            elif is_done():
                return
            handled = 0
            worked = worker.work()
            self.busy = False
            if worked:
                self._waker.wait(0)
            elif event is None:
                sleep(self._queue.wait())

    def handle(self, event: str, args: Any) -> None:
        """Call the handlers of an event; what one raises ends the event, never the daemon."""
        if event in self._recurring:
            self.every(event, self._recurring[event][0])
        handlers = self._handlers.get(event)
        if not handlers:
            self._unhandled(event)
            return
        self.args = args
        try:
            for handler in handlers:
                given = args
                try:
                    flag, args = handler(self._daemon, args)
                except ZenDaemonStopException:
                    raise
                except BaseException as error:
                    if self.forked:
                        raise
                    self._failed(event, given, handler, error)
                    return
                if flag != _CONTINUE:
                    return
        finally:
            self.args = None

    def every(self, event: str, seconds: Callable[[], float]) -> None:
        """Have an event come again and again, `seconds()` after each time."""
        self._schedule(event, seconds, seconds())

    def again(self, event: str, delay: float) -> None:
        """Have such an event come next in `delay` seconds."""
        self._schedule(event, self._recurring[event][0], delay)

    def restart(self) -> None:
        """The intervals may have changed: each counts from now."""
        for event, (seconds, _) in list(self._recurring.items()):
            self.every(event, seconds)

    def _schedule(self, event: str, seconds: Callable[[], float], delay: float) -> None:
        if event in self._recurring:
            self._queue.cancel(self._recurring[event][1])
        self._recurring[event] = seconds, self._queue.schedule_after(delay, event)


def described(event: str, handler: Handler, error: BaseException) -> str:
    """What went wrong in a handler, in one line; an exception whose text raises has none."""
    where = getattr(handler, "__qualname__", repr(handler))
    text = traceback.format_exception_only(error)[-1].strip()
    return f"{where} failed on the event '{event}': {text}"
