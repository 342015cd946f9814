"""What a component sees of the daemon that it is in: `Host`, and `Messages`, the filer behind it.

Components are written against these, and so are the parts of the runtime that stand on pyzenkit: a daemon knows its
components, and they know a host.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from piperkit.message import Contents, Outcome
from piperkit.queue import Queue

#: What an event's handler returns: whether the next handler is called (FLAG_CONTINUE, FLAG_STOP), and with what.
Result = tuple[int, Any]
#: A timed event, to be cancelled; first in it is the monotonic time when it is due.
Timer = list[Any]


class Events(Protocol):
    """Where events are scheduled. Events of one moment keep their order; waiting times follow no clock that is set."""

    @property
    def events(self) -> deque[tuple[str, Any]]:
        """Those that are to be handled now."""
        ...

    @property
    def events_at(self) -> list[Timer]:
        """Those that are to be handled later, the next one first."""
        ...

    def schedule(self, event: str, args: Any = None) -> None:
        """After those that are to be handled now."""
        ...

    def schedule_next(self, event: str, args: Any = None) -> None:
        """Before them."""
        ...

    def schedule_after(self, delay: float, event: str, args: Any = None) -> Timer:
        """In `delay` seconds."""
        ...

    def schedule_at(self, tstamp: float, event: str, args: Any = None) -> Timer:
        """At a moment of the wall clock, in seconds since the epoch, as the clock is set now."""
        ...

    def cancel(self, timer: Timer) -> None:
        """Take back a timed event; one that was handled already is past taking back."""
        ...


class Messages(Protocol):
    """The filer, as components see it."""

    queue: Queue  #: the input queue, from `setup` on

    @property
    def paused(self) -> bool:
        """Whether no message is claimed for the time being."""
        ...

    def event(self, name: str) -> str:
        """The name that an event has in this daemon; see `event_map`."""
        ...

    def settle(self, id: str, outcome: Outcome) -> None:
        """Do to a message in work what a component says. Raises nothing for the message's sake."""
        ...

    def give_back(self, id: str) -> None:
        """Requeue a message in work: it was not processed, and no attempt is counted."""
        ...

    def failed(self, id: str, error: BaseException) -> None:
        """A component raised `error` for this message: it is tried again later, or banished."""
        ...

    def enqueue_all(self, contents: deque[Contents]) -> None:
        """Enqueue messages into the input queue, taken off the front of `contents`; they are on the disk then."""
        ...


class Host(Protocol):
    """A daemon, as its components see it."""

    FLAG_CONTINUE: int
    FLAG_STOP: int
    name: str
    logger: logging.Logger
    is_trial: bool  #: messages are only tried: nothing outside of the daemon may be changed

    @property
    def queue(self) -> Events: ...

    @property
    def filer(self) -> Messages: ...

    def c(self, key: str, default: Any = None) -> Any:
        """The value of a configuration key."""
        ...

    def is_done(self) -> bool:
        """Whether the daemon is about to end: what is in work is finished, and nothing else is begun."""
        ...

    def progress(self) -> None:
        """Say that a long piece of work goes on, so that the service manager leaves the daemon alone."""
        ...

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        """Call `handler` from the loop whenever `fd` is readable: it has to read what is there, or `unwatch(fd)`."""
        ...

    def unwatch(self, fd: int) -> None:
        """Stop watching `fd`."""
        ...

    def every(self, event: str, seconds: Callable[[], float]) -> None:
        """Have an event come again and again, `seconds()` after each time, whatever its handlers do."""
        ...

    def again(self, event: str, delay: float) -> None:
        """Have such an event come next in `delay` seconds."""
        ...


class Surroundings(Host, Protocol):
    """What the filer needs of the daemon besides."""

    def open_queue(self) -> Queue:
        """The input queue, as configured. Raises QueueMissing."""
        ...

    def queue_path(self, queue: str) -> str:
        """The directory of a queue: a bare name is one under var/spool. Raises ConfigError where nothing is named."""
        ...

    def cc(self, key: str, default: Any = None) -> Any:
        """Settings that were computed from the configuration."""
        ...

    def log_once(self, key: str, text: str) -> None:
        """Log a warning, but not again for the same key."""
        ...

    def tell_status(self, *more: str) -> None:
        """Something about the daemon has changed that people want to know."""
        ...

    def listeners(self, event: str) -> Sequence[Callable[..., Result]]:
        """The handlers of an event, in order."""
        ...

    def sign_of_life(self) -> Callable[[], None] | None:
        """What to call between two messages; None where nobody waits for it."""
        ...
