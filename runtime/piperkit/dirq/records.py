"""What is known about a message beside its contents.

`state/NAME` is a message's record: a line of JSON with its attempts and its history. Most messages never have one;
it is made when a message fails, is put off, or outlives a crash. It belongs to the message of that name and of
that modification time, which is the message's arrival and which every operation of ours keeps; the record of an
earlier message of the same name is thus never taken for a later one's.

The record's own times are of its message's next attempt: its modification time is when that is due, its access time
when it was put off, see `deferred`.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from piperkit.dirq import fs
from piperkit.dirq.fs import Directory
from piperkit.dirq.reading import Notices, Unreadable, read_json
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
    waits: int = 0  #: times that it was put off for want of something that is no fault of its own

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
        """The record of a message that is put off at `when` for what is no fault of its own."""
        return dataclasses.replace(self, waits=self.waits + 1, history=self._with(failure.reason, when))

    def noted(self, what: str, when: str) -> MessageRecord:
        """The record of a message to which something was done at `when` that is no attempt."""
        return dataclasses.replace(self, history=self._with(what, when))

    def _with(self, reason: str, when: str) -> tuple[dict[str, Any], ...]:
        history = (*self.history, {"time": when, "reason": reason})
        return history if len(history) <= HISTORY_MAX else (history[0], *history[-(HISTORY_MAX - 1) :])


#: What is known of most messages.
NEW = MessageRecord()


def read(state: Directory, name: str, arrived: int) -> MessageRecord:
    """The record of the message of that name that arrived then (nanoseconds); NEW where there is none.

    Raises Unreadable.
    """
    try:
        fields = read_json(state, name)
        return _checked(fields) if fields["arrived"] == arrived else NEW
    except FileNotFoundError:
        return NEW
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error


def load(state: Directory, name: str, arrived: int, notices: Notices, *, patient: bool = False) -> MessageRecord:
    """The same; a record that cannot be read is moved aside, since the message matters more.

    patient: raise OSError if it may be readable later.
    """
    try:
        return read(state, name, arrived)
    except Unreadable as error:
        if patient and isinstance(error.__cause__, OSError) and error.__cause__.errno in fs.OF_ONE_FILE:
            raise error.__cause__ from None
        notices.move_aside(state, name, error)
        return NEW


def _checked(fields: dict[str, Any]) -> MessageRecord:
    """The record that a JSON object is. Raises KeyError, TypeError, ValueError."""
    attempts, crashes = fields["attempts"], fields["crashes"]
    death, target = fields["death"], fields["target"]
    waits = fields.get("waits", 0)  # which 0.4 did not know
    if not (type(attempts) is type(crashes) is int and 0 <= crashes <= attempts <= 1 << 31):
        raise ValueError(f"attempts {attempts!r}, crashes {crashes!r}")
    if not (type(waits) is int and 0 <= waits <= 1 << 31):
        raise ValueError(f"waits {waits!r}")
    if not (death is None or isinstance(death, str)):
        raise TypeError(f"death {type(death).__name__}")
    if target is not None and (not target.startswith("/") or "\0" in target or "/../" in f"{target}/"):
        raise ValueError("target is no absolute path")
    history = tuple({"time": str(each["time"]), "reason": str(each["reason"])} for each in fields["history"])
    return MessageRecord(attempts, crashes, death, target, history, waits)


def dump(record: MessageRecord, arrived: int) -> bytes:
    """The bytes of the record's file of a message that arrived then."""
    return json.dumps({"arrived": arrived, **dataclasses.asdict(record)}).encode() + b"\n"
