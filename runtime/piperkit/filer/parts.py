"""What the parts of a filer share: its queue, its settings, and what it holds, waits for and counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Self

from piperkit.filer.claims import Claims
from piperkit.filer.history import History
from piperkit.filer.room import Room, Targets
from piperkit.filer.waiting import Waiting
from piperkit.filer.window import SyncWindow
from piperkit.host import Surroundings
from piperkit.message import Format
from piperkit.queue import Queue
from piperkit.retry import RetryPolicy


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """The part of the configuration that the filer follows; a reload makes a new one."""

    format: Format
    batch: int  #: messages that are claimed at once
    in_dir: str
    in_wait: float  #: seconds
    out_dir: str | None
    out_limit: int  #: messages; 0: no limit
    out_wait: float  #: seconds
    policy: RetryPolicy
    errors_keep: float | None  #: days
    history: str  #: which messages' ways are kept
    history_sample: int  #: messages

    @classmethod
    def of(cls, host: Surroundings) -> Self:
        core = host.cc("filequeue")
        return cls(
            format=Format(host.c("message_format")),
            batch=host.c("queue_in_batch"),
            in_dir=core["dir_queue"],
            in_wait=host.c("queue_in_wait"),
            out_dir=core["dir_next_queue"],
            out_limit=host.c("queue_out_limit"),
            out_wait=host.c("queue_out_wait"),
            policy=RetryPolicy(host.c("retry_min"), host.c("retry_max"), host.c("retry_limit")),
            errors_keep=host.c("errors_keep"),
            history=host.c("history"),
            history_sample=host.c("history_sample"),
        )

    @property
    def is_limited(self) -> bool:
        """Whether the output queue has a limit."""
        return bool(self.out_dir and self.out_limit)


class Parts:
    """All of it, from `setup` on.

    cid: the component's name in the log. event: the name that an event has in this daemon. counts: the statistics.
    """

    def __init__(
        self, host: Surroundings, queue: Queue, cid: str, event: Callable[[str], str], counts: dict[str, int]
    ) -> None:
        self.host = host
        self.queue = queue
        self.cid = cid
        self.event = event
        self.counts = counts
        self.settings = Settings.of(host)
        self.claims = Claims()
        self.waiting = Waiting()
        self.room = Room(queue.room)
        self.targets = Targets(queue.room)
        self.history = History(queue.note, self.settings.in_dir, self.settings.out_dir)
        self.history.follow(self.settings.history, self.settings.history_sample)
        self.window = SyncWindow(queue.batch, self.history.flush)

    def count(self, counter: str, number: int = 1) -> None:
        self.counts[counter] = self.counts.get(counter, 0) + number

    def about(self, id: str) -> dict[str, object]:
        """What a log line about a claimed message carries besides; nothing for what is none."""
        claim = self.claims.held.get(id)
        if claim is None:
            return {}
        return {"message_id": id, "queue": self.settings.in_dir, "attempt": claim.attempt}
