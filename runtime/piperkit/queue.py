"""The queue as daemons see it, whatever keeps it: the interface of every engine.

A message is enqueued, claimed, and then settled by one of commit, cancel, dispatch, banish, retry or requeue.
Ids are text, contents are bytes. A claim belongs to the instance that made it until it settles it or dies; an
operation on a message that is not claimed raises `NotClaimed`. An operation that raises anything else has changed
nothing, or has recorded what it will finish when it is called again; the message stays claimed.

`piperkit.dirq.DirectoryQueue` is the engine that needs no broker.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from piperkit.message import Contents, Failure
from piperkit.operating import Paused


class Claim(Protocol):
    """A message that this instance has claimed. What has to be looked up is looked up when it is asked for."""

    @property
    def id(self) -> str: ...

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        ...

    @property
    def waits(self) -> int:
        """How often it was put off for what is not its own fault."""
        ...

    @property
    def arrived(self) -> float:
        """When it arrived, in seconds since the epoch. Raises OSError."""
        ...

    @property
    def size(self) -> int:
        """Bytes. Raises OSError."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Recovered:
    """What `recover` found."""

    returned: tuple[str, ...] = ()  #: claims of dead instances, given back
    finished: tuple[str, ...] = ()  #: changed messages whose move was begun and is now done
    banished: tuple[str, ...] = ()  #: messages that killed too many daemons
    litter: int = 0  #: files of no use that were removed
    again: float | None = None  #: seconds after which another look may find more

    def __bool__(self) -> bool:
        return bool(self.returned or self.finished or self.banished or self.litter)


@dataclasses.dataclass(frozen=True, slots=True)
class Depth:
    """How full one part of a queue is."""

    queue: str  #: "input", or "output" for the next queue
    part: str  #: such as "incoming"
    messages: int | None  #: None: it cannot be counted now
    oldest: float | None  #: when the oldest message was written first, in seconds since the epoch; None: none is there


@dataclasses.dataclass(frozen=True, slots=True)
class Space:
    """The file system that a queue is on."""

    queue: str  #: as in `Depth`
    available: int  #: bytes
    size: int  #: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Survey:
    """What whoever watches a queue wants to know of it."""

    depths: tuple[Depth, ...]
    spaces: tuple[Space, ...] = ()  #: of an engine that keeps its messages on a file system of this machine
    #: Of an engine for several machines: how many work on the queue, and how many have vanished.
    instances: tuple[int, int] | None = None


class Watch(Protocol):
    """What a loop can sleep on."""

    def fileno(self) -> int: ...

    def drain(self) -> None:
        """Read what made it readable."""
        ...

    def renew(self) -> bool:
        """See that it still watches the right place; returns whether it had to be changed: then look, too."""
        ...

    def close(self) -> None: ...


class Outlet(Protocol):
    """A queue of another engine that messages are moved to."""

    def put(self, id: str, arrived: float, data: bytes) -> None:
        """Put a message that arrived then (seconds since the epoch) there, under another id where that is taken.

        The same message put once more, as after a move that was cut off, is there once, as far as the engine can tell.
        Raises TargetUnavailable, NoRoom, MessageTooLarge.
        """
        ...

    def sync(self) -> None:
        """What was put is there for good when this returns. Raises as `put`; then it is to be put again."""
        ...

    def room(self, limit: int) -> int:
        """How many messages it can take until it holds `limit` that nobody has claimed. Raises TargetUnavailable."""
        ...

    def close(self) -> None: ...


class Queue(Protocol):
    """What an engine has to do. None of it waits for a message or for room."""

    def enqueue(self, contents: Contents, name: str | None = None) -> str:
        """Publish a complete message; returns its id. Atomic: nobody sees a part of it, or nobody sees it."""
        ...

    def enqueue_many(self, contents: Iterable[Contents]) -> list[str]:
        """Publish complete messages, several times as fast as one by one; returns their ids, in order."""
        ...

    def connect(self) -> None:
        """See that the queue is there. Raises QueueAway while the server that keeps it is not, QueueMissing."""
        ...

    def paused(self) -> Paused | None:
        """Whether an operator has paused the queue, or its sources. Asked for each batch; `claim` takes no notice."""
        ...

    def claim(self, limit: int = 1) -> Sequence[Claim]:
        """Take sole ownership of up to `limit` messages, oldest first; none where there are none."""
        ...

    def begin(self, id: str) -> None:
        """Work on a claimed message begins: from here on a death of this instance counts against it, see `recover`."""
        ...

    def read(self, id: str) -> bytes:
        """The contents of a claimed message, on which work begins, if it has not yet."""
        ...

    def update(self, id: str, contents: Contents) -> None:
        """Replace the contents of a claimed message: whole or not at all. It keeps its id and arrival."""
        ...

    def commit(self, id: str, contents: Contents | None = None) -> None:
        """Move a claimed message to the next queue, with new contents if given; delete it if there is none."""
        ...

    def cancel(self, id: str) -> None:
        """Delete a claimed message."""
        ...

    def banish(self, id: str, failure: Failure) -> None:
        """Move a claimed message to the dead letters, its failure stored beside it."""
        ...

    def retry(self, id: str, delay: float, failure: Failure) -> None:
        """Give a claimed message back for a later attempt, in `delay` seconds; the failed one is counted."""
        ...

    def postpone(self, id: str, delay: float, failure: Failure) -> None:
        """As `retry`, for a cause other than the message: no attempt is counted, but a wait."""
        ...

    def requeue(self, id: str) -> None:
        """Give a claimed message back unprocessed; no attempt is counted."""
        ...

    def dispatch(self, id: str, target: str, contents: Contents | None = None) -> None:
        """Move a claimed message to the queue `target`, with new contents if given."""
        ...

    def duplicate(self, id: str, target: str) -> None:
        """Copy a claimed message to the queue `target`; it stays claimed."""
        ...

    def claimed(self) -> list[str]:
        """The ids that this instance holds."""
        ...

    def note(self, lines: list[bytes]) -> None:
        """Keep lines of JSON about messages in the queue's history. Raises nothing: what cannot be kept is not."""
        ...

    def counts(self) -> dict[str, int]:
        """Messages in each part of the queue."""
        ...

    def count(self, part: str, most: int | None = None) -> int:
        """Messages in one part of the queue, counted up to `most`."""
        ...

    def survey(self) -> Survey:
        """How full the queue and the next queue are. It may be called by any thread; raises nothing for their sake."""
        ...

    def room(self, limit: int, target: str | None = None) -> int:
        """How many messages the next queue, or the queue `target`, can take until it holds `limit` that nobody has
        claimed. Raises TargetUnavailable.
        """
        ...

    def waits_for_room(self, waits: bool) -> tuple[str, ...]:
        """Say whether this instance waits for room in the next queue; returns the queues whose daemons wait for one
        another in a circle, if it is in one, beginning and ending with its own.
        """
        ...

    def tell(self, waits_for: str | None) -> None:
        """What this instance waits for, for whoever looks from another machine. Raises nothing."""
        ...

    def recover(self) -> Recovered:
        """Give back what dead instances had claimed, and finish what they had begun. Safe side by side.

        A call does a bounded part of it; `Recovered.again` is 0 where there is more.
        """
        ...

    def expire_errors(self, age: float) -> int:
        """Delete dead letters that are `age` seconds old; returns how many.

        A call looks at a bounded part of them, and the next one at the next part.
        """
        ...

    def next_look(self) -> float | None:
        """Seconds until `claim` may find something without a new arrival; None: not before one."""
        ...

    def busy(self) -> bool:
        """Whether the last `claim` left something to claim, which somebody else was at, or which it had no room for."""
        ...

    def watch(self) -> Watch:
        """Something that becomes readable when a message may have arrived. Raises OSError where nothing tells."""
        ...

    def batch(self) -> AbstractContextManager[None]:
        """A group of operations that become durable together, at its end."""
        ...

    def close(self) -> None:
        """Give all claims back and end this instance. Idempotent."""
        ...
