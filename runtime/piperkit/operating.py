"""A queue as operators see it, whatever keeps it: what looks at messages, and what acts on them, beside the daemons.

A message rests in a part of the queue where nobody works on it (`RESTING`), or is in work. It is known by its id and
its arrival, so an act on a message that was listed never befalls another one that has its name by now.

`view` and `acts` of each engine do it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

#: Where nobody works on messages.
RESTING = ("incoming", "deferred", "hold", "errors")
#: Where a message can be, in the order it usually passes through them.
HOLDING = ("incoming", "pending", "deferred", "outgoing", "hold", "errors")


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A message as it is found in a queue."""

    id: str
    part: str  #: one of HOLDING
    size: int  #: bytes
    arrived: float  #: seconds since the epoch
    attempts: int  #: that have ended without an outcome
    due: float | None  #: in `deferred`: when it is tried again
    reason: str | None  #: why the last attempt failed
    path: str


@dataclasses.dataclass(frozen=True, slots=True)
class Paused:
    """An operator has said that nothing is to be claimed from a queue for the time being, or that its daemon's sources
    are to fetch nothing, while what waits is worked on.
    """

    by: str  #: who
    at: float | None = None  #: since when, in seconds since the epoch
    until: float | None = None  #: seconds since the epoch; None: until somebody has it go on
    reason: str = ""
    sources_only: bool = False

    def __str__(self) -> str:
        what = "what the queue's daemon fetches" if self.sources_only else "the queue"
        until = "" if self.until is None else f" until {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(self.until))}"
        return f"{self.by} has paused {what}{until}{f': {self.reason}' if self.reason else ''}"


@dataclasses.dataclass(frozen=True, slots=True)
class Instance:
    """A daemon's process that works on a queue."""

    host: str
    pid: int
    since: float  #: seconds since the epoch
    claims: int | None  #: messages that it has claimed; None: it is changing that in this moment
    # What an engine knows that keeps its queues for several machines:
    version: str | None = None  #: of piperkit
    rate: float | None = None  #: messages a second that it settled lately
    waits_for: str | None = None
    seen: float | None = None  #: when it said so last, in seconds since the epoch
    alive: bool = True  #: False: its connection has ended, and nobody has cleared up after it yet


@dataclasses.dataclass(frozen=True, slots=True)
class Copy:
    """A message outside of any queue."""

    id: str
    part: str  #: where it was: incoming, hold or errors
    arrived: float  #: seconds since the epoch
    data: bytes
    report: dict[str, Any] | None = None  #: of a dead letter: what is known of it


class View(Protocol):
    """Looks at a queue: it claims, locks and changes nothing."""

    path: str

    def counts(self, parts: Iterable[str] = HOLDING) -> dict[str, int]:
        """The number of messages in each part."""
        ...

    def oldest(
        self, part: str, limit: int, check: Callable[[int], None] = lambda number: None
    ) -> tuple[list[Entry], int]:
        """The first messages in a part, in the order in which they would be claimed, and how many more there are.

        check: called now and then with how many were looked at; what it raises ends the look.
        """
        ...

    def each(self, part: str) -> Iterator[Entry]:
        """The messages in a part, in no order and in no memory to speak of."""
        ...

    def entry(self, part: str, id: str) -> Entry:
        """The message, if it is in that part. Raises InvalidId, FileNotFoundError."""
        ...

    def find(self, id: str) -> Entry:
        """The message, wherever it is. Raises InvalidId, or QueueError where no part has it."""
        ...

    def read(self, entry: Entry) -> bytes:
        """The contents. Raises FileNotFoundError where the message has moved on."""
        ...

    def history(self, entry: Entry) -> list[dict[str, Any]]:
        """The message's failed attempts, oldest first: {"time", "reason"}."""
        ...

    def report(self, entry: Entry) -> dict[str, Any] | None:
        """What is stored beside a message in `errors`."""
        ...

    def depths(self) -> dict[str, tuple[int, float | None]]:
        """How many messages each part holds, and when the oldest of them was made; as metrics have it, and as cheap.

        Raises QueueError where a part cannot be counted.
        """
        ...

    def measure(self, part: str) -> tuple[int, int, float | None]:
        """The number of messages in a part, their bytes, and when the one that has waited longest arrived."""
        ...

    def banished(self, entry: Entry) -> float:
        """When a message in `errors` was put there, in seconds since the epoch. Raises FileNotFoundError where it has
        moved on.
        """
        ...

    def told(self, containing: bytes = b"") -> Iterator[dict[str, Any]]:
        """What is kept of messages' ways, in the lines that have these bytes in them. Raises OSError."""
        ...

    def paused(self) -> Paused | None:
        """Whether an operator has paused the queue."""
        ...

    def instances(self) -> list[Instance] | None:
        """Who works on the queue, the oldest first; None: that is not for us to see."""
        ...

    def close(self) -> None:
        """Let go of what it holds open; it opens that again where it is asked once more. Idempotent."""
        ...


class Operator(Protocol):
    """Acts on messages that rest. Each act is atomic: killed anywhere, it has happened or it has not.

    All but pause and resume raise FileNotFoundError where the message has moved on, or another one has its name.
    """

    def requeue(self, entry: Entry) -> None:
        """Have a message tried again now; a dead letter as if it were new."""
        ...

    def hold(self, entry: Entry, reason: str) -> None:
        """Have a message wait in `hold` until somebody releases it."""
        ...

    def banish(self, entry: Entry, reason: str) -> None:
        """Make a message a dead letter."""
        ...

    def remove(self, entry: Entry) -> None:
        """Delete a message, with what is known of it."""
        ...

    def move(self, entry: Entry, target: str) -> None:
        """Move a message to another queue, where it is new. Raises TargetUnavailable."""
        ...

    def replace(self, entry: Entry, data: bytes) -> None:
        """Give a message other contents, whole or not at all."""
        ...

    def add(self, message: Copy) -> bool:
        """Add a message that was exported; returns False where it is there already. Raises QueueError, OSError."""
        ...

    def pause(self, until: float | None, reason: str, *, sources_only: bool = False) -> None:
        """Have nothing claimed from the queue, until then (seconds since the epoch) if that is said.

        sources_only: have the sources of its daemon fetch nothing instead.
        """
        ...

    def resume(self) -> bool:
        """End a pause of either kind; returns whether there was one."""
        ...

    def batch(self) -> AbstractContextManager[None]:
        """Acts that become durable together, at the end of the block."""
        ...
