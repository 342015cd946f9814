"""What is known about a message beside its contents, and what each instance is working on.

`state/NAME` is a message's record: a line of JSON with its attempts and its history. Most messages never have one;
it is made when a message fails, is put off, or outlives a crash. It belongs to the message of that name and of
that modification time, which is the message's arrival and which every operation of ours keeps; the record of an
earlier message of the same name is thus never taken for a later one's. The record's own modification time is when
the message is due again.

`state/.HOST.PID.N` is an instance's record: locked while the instance lives, it holds the names of the messages
that it is working on (not of those it has merely claimed), so that after its death only these are suspected of
having killed it. It is rewritten in place by a single write(2): it has to outlive a process, not a power cut.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from piperkit.dirq import fs
from piperkit.message import Failure

#: How many failures a message's history keeps: the first one, and the newest.
HISTORY_MAX = 10


@dataclasses.dataclass(frozen=True, slots=True)
class MessageRecord:
    """A message's past attempts."""

    arrived: int  #: nanoseconds since the epoch; with the name, what identifies the message
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


def load(path: str, arrived: int) -> MessageRecord:
    """The record of the message that arrived then; an empty one where there is none, or it is not to be read."""
    try:
        fd = fs.open_message(path)
    except OSError as error:
        if error.errno == errno.ENOENT or error.errno in fs.NO_MESSAGE:
            return MessageRecord(arrived)
        raise
    try:
        fields = json.loads(fs.read_all(fd, os.fstat(fd).st_size))
        record = MessageRecord(**{**fields, "history": tuple(fields["history"])})
    except (ValueError, TypeError, KeyError):
        return MessageRecord(arrived)  # torn by a power cut without sync, or not ours: the message matters more
    finally:
        os.close(fd)
    return record if record.arrived == arrived else MessageRecord(arrived)


def dump(record: MessageRecord) -> bytes:
    """The bytes of a record's file."""
    return json.dumps(dataclasses.asdict(record)).encode() + b"\n"


class InstanceRecord:
    """This instance's file in `state`, made and locked at the first use and removed by `close`."""

    def __init__(self, directory: str, name: Callable[[], str]) -> None:
        self._directory = directory
        self._name = name
        self._fd = -1
        self._path = ""

    def write(self, names: Iterable[str]) -> None:
        """Replace the names of the messages in work."""
        if self._fd < 0:
            self._path = os.path.join(self._directory, f".{self._name()}")
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                fs.try_lock(self._fd)
            except BaseException:
                self.close()
                raise
        # "//" ends the list, so that a shorter one needs no truncation, which would be a second step.
        os.pwrite(self._fd, b"/".join(os.fsencode(name) for name in names) + b"//", 0)

    def close(self) -> None:
        """Remove the record. Idempotent."""
        if self._fd >= 0:
            fs.unlink_if_there(self._path)
            os.close(self._fd)
            self._fd = -1


def is_instance(name: str) -> bool:
    """Whether a file in `state` is an instance's record."""
    return name.startswith(".")


def names_in_work(fd: int) -> set[str]:
    """The names in an instance's record."""
    data = fs.read_all(fd, os.fstat(fd).st_size)
    return {os.fsdecode(name) for name in data.partition(b"//")[0].split(b"/") if name}
