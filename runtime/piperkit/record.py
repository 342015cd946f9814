"""What is known about a message beside its contents: its attempts and its history. Most messages have none of it."""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Mapping
from typing import Any, Self

from piperkit.message import Failure

#: How many failures a message's history keeps: the first one, and the newest.
HISTORY_MAX = 10


@dataclasses.dataclass(frozen=True, slots=True)
class MessageRecord:
    """A message's past attempts; the default is that of a new message."""

    attempts: int = 0  #: attempts that have ended without an outcome
    crashes: int = 0  #: those of them that ended with the death of the daemon
    death: str | None = None  #: the last death that was counted, as the name of the dead instance's record
    target: str | None = None  #: where a message in `outgoing` goes, unless to the output queue
    history: tuple[dict[str, Any], ...] = ()  #: {"time", "reason"} of past failures, oldest first
    waits: int = 0  #: times that it was put off for a cause other than itself

    def failed(self, failure: Failure, when: str, *, death: str | None = None) -> MessageRecord:
        """The record after one more attempt that failed at `when` (ISO 8601), by that death of an instance if any.

        A death that has been counted is not counted again: the recovery that did it was itself cut off.
        """
        if death is not None and death == self.death:
            return self
        return dataclasses.replace(
            self,
            attempts=self.attempts + 1,
            crashes=self.crashes + (death is not None),
            death=death or self.death,
            history=self._with(failure.reason, when),
        )

    def waited(self, failure: Failure, when: str) -> MessageRecord:
        """The record of a message that is put off at `when` for what is not its own fault."""
        return dataclasses.replace(self, waits=self.waits + 1, history=self._with(failure.reason, when))

    def noted(self, what: str, when: str) -> MessageRecord:
        """The record of a message to which something was done at `when` that is not an attempt."""
        return dataclasses.replace(self, history=self._with(what, when))

    def report(self, failure: Failure, when: str, **more: object) -> dict[str, object]:
        """What is kept beside a message that is banished at `when`; `more`: what its queue knows of it."""
        return {
            "reason": failure.reason,
            "exception": failure.exception,
            "traceback": failure.traceback,
            "time": when,
            "pid": os.getpid(),
            "attempts": self.attempts,
            "crashes": self.crashes,
            "history": self.history,
            **more,
        }

    @classmethod
    def afresh(cls, report: Mapping[str, Any], what: str, when: str) -> Self:
        """The record of a dead letter, of which that is told, that begins anew at `when`, since somebody did `what`."""
        told = report.get("history")
        # Another program may have written it, in its own way.
        known = [each for each in told if isinstance(each, dict)] if isinstance(told, list) else []
        history = [{"time": str(each.get("time")), "reason": str(each.get("reason"))} for each in known]
        history.append({"time": str(report.get("time")), "reason": str(report.get("reason"))})
        history.append({"time": when, "reason": what})
        return cls(history=tuple(history[-HISTORY_MAX:]))

    def _with(self, reason: str, when: str) -> tuple[dict[str, Any], ...]:
        history = (*self.history, {"time": when, "reason": reason})
        return history if len(history) <= HISTORY_MAX else (history[0], *history[-(HISTORY_MAX - 1) :])


#: What is known of most messages.
NEW = MessageRecord()


def iso(nanoseconds: int) -> str:
    """A moment as ISO 8601 in UTC; one that no calendar has as the number of its seconds since the epoch."""
    try:
        return datetime.datetime.fromtimestamp(nanoseconds / 1e9, datetime.UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return str(nanoseconds / 1e9)
