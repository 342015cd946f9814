"""What is known about a message beside its contents.

`state/NAME` is a message's record: a line of JSON with its attempts and its history. Most messages never have one;
it is made when a message fails, is put off, or outlives a crash. It belongs to the message of that name and of
that modification time, which is the message's arrival and which every operation of ours keeps; the record of an
earlier message of the same name is thus never taken for a later one's. The record's own modification time is when
the message is due again.

Whether there are any is known for a whole batch of claims at the cost of one stat(2) of `state`, or of a listing where
that has changed, see `RecordNames`.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import time
from typing import Any

from piperkit.dirq import fs
from piperkit.dirq.instances import is_instance
from piperkit.message import Failure

#: How many failures a message's history keeps: the first one, and the newest.
HISTORY_MAX = 10
#: Nanoseconds; longer than the kernel's clock for time stamps takes from one tick to the next.
_TICK = 100_000_000
#: In nanoseconds: some file systems keep whole seconds only.
_SECOND = 10**9
#: Records that are listed as often as there is something new; more of them only after a pause, in seconds.
_FEW, _LIST_PAUSE = 100, 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class MessageRecord:
    """A message's past attempts; the default is that of a new message."""

    attempts: int = 0  #: attempts that have ended without an outcome
    crashes: int = 0  #: those of them that ended with the death of the daemon
    death: str | None = None  #: the last death that was counted, as the name of the dead instance's record
    target: str | None = None  #: where a message in `outgoing` goes, unless to the output queue
    history: tuple[dict[str, Any], ...] = ()  #: {"time", "reason"} of past failures, oldest first

    def failed(self, failure: Failure, when: str, *, death: str | None = None) -> MessageRecord:
        """The record after one more attempt that failed at `when` (ISO 8601), by that death of an instance if any.

        A death that has been counted is not counted again: the recovery that did it was itself cut off.
        """
        if death is not None and death == self.death:
            return self
        history = (*self.history, {"time": when, "reason": failure.reason})
        if len(history) > HISTORY_MAX:
            history = (history[0], *history[-(HISTORY_MAX - 1) :])
        return dataclasses.replace(
            self,
            attempts=self.attempts + 1,
            crashes=self.crashes + (death is not None),
            death=death or self.death,
            history=history,
        )


#: What is known of most messages.
NEW = MessageRecord()


def load(path: str, arrived: int) -> MessageRecord:
    """The record of the message that arrived then (nanoseconds); NEW where there is none, or it is not to be read."""
    try:
        fd = fs.open_message(path)
    except OSError as error:
        if error.errno == errno.ENOENT or error.errno in fs.NO_MESSAGE:
            return NEW
        raise
    try:
        fields = json.loads(fs.read_all(fd, os.fstat(fd).st_size))
        if fields.pop("arrived") != arrived:
            return NEW
        return MessageRecord(**{**fields, "history": tuple(fields["history"])})
    except (ValueError, TypeError, KeyError, AttributeError):
        return NEW  # torn by a power cut without sync, or not ours: the message matters more
    finally:
        os.close(fd)


def dump(record: MessageRecord, arrived: int) -> bytes:
    """The bytes of the record's file of a message that arrived then."""
    return json.dumps({"arrived": arrived, **dataclasses.asdict(record)}).encode() + b"\n"


class RecordNames:
    """Which names may have a record.

    A directory's modification time tells whether a name was added since it was listed, as long as that time is not so
    close to the listing that a change in the same tick of the clock could be missed; then it is listed again the next
    time. Where that would be many names, and on file systems of other machines, whose times may be old ones, every
    name may have a record.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._remote: bool | None = None
        self._names: frozenset[str] | None = None
        self._changed = -1
        self._listed = float("-inf")

    def look(self) -> None:
        """See whether there is anything new. Call it with the messages locked that are asked for."""
        try:
            self._look()
        except OSError:
            self._names, self._changed = None, -1  # too many open files, say

    def _look(self) -> None:
        if self._remote is None:
            self._remote = fs.is_remote(self._directory)
        if self._remote:
            return
        changed = os.stat(self._directory).st_mtime_ns
        if changed == self._changed:
            return
        self._changed = -1
        if self._names is None or len(self._names) > _FEW:
            self._names = None
            if time.monotonic() - self._listed < _LIST_PAUSE:
                return
        # Asked before the listing: what is added meanwhile is later.
        settled = time.time_ns() - changed > (_TICK if changed % _SECOND else 2 * _SECOND)
        self._listed = time.monotonic()
        self._names = frozenset(name for name in os.listdir(self._directory) if not is_instance(name))
        if settled:
            self._changed = changed

    def none(self) -> bool:
        """Whether no message has a record; asked after `look`."""
        return self._names is not None and not self._names

    def may_have(self, name: str) -> bool:
        """Whether the message may have a record; asked after `look`."""
        return self._names is None or name in self._names
