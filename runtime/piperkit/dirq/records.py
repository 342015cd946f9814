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
from piperkit.record import NEW, MessageRecord


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
    if target is not None and (
        (not target.startswith("/") and "://" not in target) or "\0" in target or "/../" in f"{target}/"
    ):
        raise ValueError("target is neither an absolute path nor an address")
    history = tuple({"time": str(each["time"]), "reason": str(each["reason"])} for each in fields["history"])
    return MessageRecord(attempts, crashes, death, target, history, waits)


def dump(record: MessageRecord, arrived: int) -> bytes:
    """The bytes of the record's file of a message that arrived then."""
    return json.dumps({"arrived": arrived, **dataclasses.asdict(record)}).encode() + b"\n"
