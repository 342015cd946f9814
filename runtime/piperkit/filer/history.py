"""`History`: which messages' ways are kept, and in which words; see `piperctl trace`.

The key `history` says it: `off`, `errors` (what failed only), `sample` or `all`. A message is in the sample or not by
its id alone: so all daemons that it passes keep the same ones, and its way is whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import zlib
from collections.abc import Callable
from typing import Any

from piperkit.filer.operations import BANISH, POSTPONE, RETRY, Operation
from piperkit.message import Failure
from piperkit.queue import Claim

#: Lines that are written together at most.
_TOGETHER = 256
_FAILED = {BANISH, RETRY, POSTPONE}
_WORDS = {
    "message_commit": "committed",
    "message_cancel": "canceled",
    "message_dispatch": "dispatched",
    "message_duplicate": "copied",
    "message_banish": "banished",
    "message_retry": "put off",
    "message_postpone": "waits",
}


class History:
    """Collects lines, and writes them with each batch.

    append: the queue's `note`. queue, target: the paths of the queue, and of the next one.
    """

    def __init__(self, append: Callable[[list[bytes]], None], queue: str, target: str | None) -> None:
        self._append = append
        self._queue = queue
        self._target = target
        self._lines: list[bytes] = []
        self._pid = os.getpid()
        #: Told of each message that is kept: its facts, and when it arrived.
        self.also: Callable[[dict[str, Any], float | None], None] | None = None
        self.every = 0  #: keep one in so many of those that succeed; 0: none
        self.failures = False

    def follow(self, setting: str, sample: int) -> None:
        """As it is configured now: the keys `history` and `history_sample`."""
        self.failures = setting != "off"
        self.every = {"all": 1, "sample": sample}.get(setting, 0)

    def done(
        self, operation: Operation, id: str, claim: Claim | None, since: float | None, args: dict[str, Any]
    ) -> None:
        """An operation was done on a message. since: monotonic time when a component was given it."""
        word = _WORDS.get(operation.event)
        if word is None or not (self.failures if operation in _FAILED else self.is_kept(id)):
            return
        facts: dict[str, Any] = {"t": round(time.time(), 6), "id": id, "queue": self._queue, "what": word}
        if since is not None:
            facts["took"] = round(time.monotonic() - since, 6)
        if claim is not None:
            facts["attempt"] = claim.attempt
        target = args.get("queue_tgt") or (self._target if word == "committed" else None)
        if target:
            facts["to"] = target
        failure = args.get("failure")
        if isinstance(failure, Failure):
            facts["reason"] = failure.reason
        if "delay" in args:
            facts["delay"] = round(args["delay"], 3)
        if self.also is not None:
            with contextlib.suppress(Exception):  # no message fails for the sake of what is told of it
                self.also(facts, self._arrived(claim))
        self._lines.append(json.dumps({**facts, "pid": self._pid}).encode() + b"\n")
        if len(self._lines) >= _TOGETHER:
            self.flush()

    def look_up(self, claim: Claim) -> None:
        """A message is begun: look up what is not there any more when it is done."""
        self._arrived(claim)

    def _arrived(self, claim: Claim | None) -> float | None:
        try:
            return None if claim is None else claim.arrived
        except OSError:
            return None  # it was settled unseen

    def is_kept(self, id: str) -> bool:
        """Whether a message that succeeds is kept."""
        return self.every == 1 or (self.every > 1 and not zlib.crc32(os.fsencode(id)) % self.every)

    def forget(self) -> None:
        """This is a forked child now: what was collected is its parent's to write."""
        self._lines.clear()
        self.also = None

    def flush(self) -> None:
        """Write what was collected."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._append(lines)
