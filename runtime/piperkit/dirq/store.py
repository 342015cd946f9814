"""What can be done with one locked message of a queue; `DirectoryQueue` and `recovery` are made of these steps.

Each step is atomic or undone. None of them looks at who holds what: a `Lease` given here is a file that the caller
has locked.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
import os
import time
from collections.abc import Callable

from piperkit.dirq import deadletters, fs, layout, names, records
from piperkit.dirq.delivery import Delivery, place
from piperkit.dirq.limits import MIB, Limits
from piperkit.dirq.records import NEW
from piperkit.dirq.sync import Sync, Syncer
from piperkit.dirq.writing import Writer
from piperkit.message import Failure

#: Where another message of the same name may be that has a record, in the order in which it moves.
_RECORDED = ("outgoing", "deferred", "incoming")


@dataclasses.dataclass(slots=True)
class Lease:
    """A message's file, open and locked by us."""

    id: str  #: what its claim is known by
    name: str  #: of its file; another one than its id only where that was taken
    fd: int
    part: str  #: which part of the queue it is in
    arrived: int  #: nanoseconds since the epoch: the file's modification time, which every step keeps
    size: int  #: bytes
    stat: os.stat_result  #: of the file as it was claimed or replaced
    record: records.MessageRecord = NEW
    begun: bool = False  #: its contents were given out to be worked on
    replaced: bool = False  #: it is in `outgoing`, and what it replaces may still be in `pending`
    settled: bool = False  #: it has left its place; what may be missing is that the disk knows


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What a queue's user decides; see `DirectoryQueue`."""

    perms: int = 0o775
    owner: tuple[int, int] | None = None
    sync: Sync = Sync.BATCH
    message_max: int = 64 * MIB
    min_free: int | None = None
    daemon: str = ""


class Store:
    """A queue's directory."""

    def __init__(
        self,
        path: str,
        settings: Settings,
        ids: names.Ids,
        logger: logging.Logger,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.path = path
        self.settings = settings
        self.ids = ids
        self.clock = clock
        self.logger = logger
        self.syncer = Syncer(settings.sync)
        self.delivery = Delivery(self.syncer, ids.new)
        self.limits = Limits(path, settings.message_max, settings.min_free)
        self.writer = Writer(path, layout.file_mode(settings.perms), settings.owner, self.syncer, ids.new)

    def part(self, part: str) -> str:
        """The path of one of the queue's directories."""
        return f"{self.path}/{part}"

    def at(self, lease: Lease) -> str:
        """The path of a message's file."""
        return f"{self.path}/{lease.part}/{lease.name}"

    def lease(self, name: str, fd: int, part: str) -> Lease:
        """The lease that an open and locked file is; its record is loaded."""
        stat = os.fstat(fd)
        record = self.record(name, stat.st_mtime_ns)
        return Lease(name, name, fd, part, stat.st_mtime_ns, stat.st_size, stat, record)

    def holds(self, lease: Lease) -> bool:
        """Whether the file that was claimed still has its name."""
        return fs.is_at(lease.fd, self.at(lease))

    def record(self, name: str, arrived: int) -> records.MessageRecord:
        """What is known about the message of that name and arrival."""
        return records.load(f"{self.path}/state/{name}", arrived)

    # -- new contents ----------------------------------------------------------------------------------------

    def replace(self, lease: Lease, data: bytes) -> None:
        """Give the message new contents where it is: the old ones stay whole until the new ones are."""
        new, fd = self._successor(lease, data)
        try:
            stat = os.fstat(fd)
            os.rename(self.writer.tmp.at(new), self.at(lease))
        except BaseException:
            os.close(fd)
            self.writer.remove(new)
            raise
        old, lease.fd, lease.size, lease.stat = lease.fd, fd, len(data), stat
        os.close(old)
        self.syncer.changed(target=self.part(lease.part))

    def begin_move(self, lease: Lease, data: bytes) -> None:
        """Give the message its last contents, in `outgoing`; from then on it can only be moved on.

        That one rename is the intent: whoever finds the new contents there drops the original in `pending` and moves
        them to the next queue. So the component never sees its own output, and the output is moved once.
        """
        new, fd = self._successor(lease, data)
        try:
            while True:
                try:
                    fs.rename_exclusive(self.writer.tmp.at(new), f"{self.path}/outgoing/{lease.name}")
                    break
                except FileExistsError:
                    self.take_own_name(lease)  # an earlier message of that name waits there for its target
        except BaseException:
            os.close(fd)
            self.writer.remove(new)
            raise
        old, lease.fd, lease.size = lease.fd, fd, len(data)
        lease.part, lease.replaced = "outgoing", True
        self.syncer.changed(target=self.part("outgoing"))
        try:
            self.drop_original(lease)  # while it is still locked
        finally:
            os.close(old)

    def drop_original(self, lease: Lease) -> None:
        """Delete what the message's last contents replaced, if it is still there.

        Only then: as soon as it is gone, another message of that name may be claimed.
        """
        if lease.replaced:
            fs.unlink_if_there(f"{self.path}/pending/{lease.name}")
            lease.replaced = False
            self.syncer.changed(source=self.part("pending"))

    def _successor(self, lease: Lease, data: bytes) -> tuple[str, int]:
        """A file in `tmp` that is to take the message's name: same owner, mode and arrival; locked."""
        self.limits.check_size(len(data))
        self.limits.check_room(len(data) - lease.size)

        def write(fd: int) -> None:
            fs.write_all(fd, data)
            os.utime(fd, ns=(lease.stat.st_atime_ns, lease.arrived))

        return self.writer.new_file(write, like=lease.stat)

    def write_record(self, lease: Lease, record: records.MessageRecord, name: str, due: int) -> None:
        """Store what is known about a message that is about to be called `name`; due: its next attempt's time."""
        self.writer.write_own(os.path.join(self.path, "state", name), records.dump(record, lease.arrived), due)

    # -- moving ----------------------------------------------------------------------------------------------

    def give_back(self, lease: Lease, part: str, name: str) -> str:
        """Move the message to `incoming` or `deferred`, under another name where that one is taken.

        Raises FileNotFoundError where the file is gone.
        """
        source = self.part(lease.part)
        placed = place(self.at(lease), lease.fd, self.part(part), name, self.ids.new)
        if placed != name:
            self._rename_record(lease, name, placed)
        self.syncer.changed(target=self.part(part), source=source)
        return placed

    def _rename_record(self, lease: Lease, old: str, new: str) -> None:
        """The message has another name now: so has its record, if it has one. The message is still locked."""
        state = self.part("state")
        if self.record(old, lease.arrived) is not NEW:
            os.rename(os.path.join(state, old), os.path.join(state, new))
            self.syncer.changed(target=state)

    def own_name(self, lease: Lease) -> str:
        """A name under which the message can have a record: a new one where another message has that name already.

        While a message is in `pending`, no other of its name can get to `deferred` or `outgoing`; one that is there
        may go to `incoming` meanwhile, so that is looked at last.
        """
        taken = any(os.path.lexists(os.path.join(self.part(part), lease.name)) for part in _RECORDED)
        return self.ids.new() if taken else lease.name

    def take_own_name(self, lease: Lease) -> None:
        """Give a message in `pending` that name."""
        name = self.own_name(lease)
        if name != lease.name:
            pending = self.part("pending")
            placed = place(self.at(lease), lease.fd, pending, name, self.ids.new)
            self._rename_record(lease, lease.name, placed)
            self.syncer.changed(target=pending)
            lease.name = placed

    def drop(self, lease: Lease) -> None:
        """Delete the message. Raises FileNotFoundError where the file is gone."""
        os.unlink(self.at(lease))
        self.syncer.changed(source=self.part(lease.part))
        if lease.record is not NEW:
            self.forget(lease)

    def banish(self, lease: Lease, failure: Failure) -> None:
        """Move the message to `errors`, where a sidecar says why. Raises FileNotFoundError where it is gone."""
        errors = self.part("errors")
        name = lease.name
        while os.path.lexists(os.path.join(errors, name)):
            name = self.ids.new()  # an earlier message of that name is there already
        report = json.dumps(self._report(lease, name, failure), indent=2, sort_keys=True)
        # The reason first, under a name that is no message's: a message in `errors` always has one.
        sidecar = os.path.join(errors, deadletters.hidden_sidecar(name))
        self.writer.write_own(sidecar, report.encode() + b"\n")
        try:
            fs.rename_exclusive(self.at(lease), os.path.join(errors, name))
        except BaseException:
            fs.unlink_if_there(sidecar)
            raise
        deadletters.show_sidecar(errors, name)
        self.syncer.changed(target=errors, source=self.part(lease.part))
        self.forget(lease)

    def _report(self, lease: Lease, name: str, failure: Failure) -> dict[str, object]:
        """The contents of a banished message's sidecar."""
        return {
            "id": name,
            "name": lease.name,
            "reason": failure.reason,
            "exception": failure.exception,
            "traceback": failure.traceback,
            "time": self.timestamp(),
            "arrived": _iso(lease.arrived),
            "host": self.ids.host,
            "pid": os.getpid(),
            "daemon": self.settings.daemon,
            "attempts": lease.record.attempts + lease.begun,
            "crashes": lease.record.crashes,
            "history": lease.record.history,
        }

    def deliver(self, lease: Lease, target: str) -> None:
        """Move the message to the queue at `target`.

        Raises TargetUnavailable or NoRoom with the message where it was; FileNotFoundError where it is gone.
        """
        name = self.delivery.move(self.at(lease), lease.fd, target, lease.name)
        if name != lease.name:
            self.logger.warning(
                "%s: the name was taken in %s, where it is %s now",
                fs.display(lease.name),
                target,
                name,
                extra=self.about(lease),
            )
        self.forget(lease)

    def about(self, lease: Lease) -> dict[str, object]:
        """What a log line about a message carries besides."""
        return {"message_id": lease.id, "queue": self.path, "attempt": lease.record.attempts + 1}

    def forget(self, lease: Lease) -> None:
        """The message has left this queue: so does its record, now or when litter is removed."""
        if lease.record is not NEW:
            try:
                os.unlink(os.path.join(self.path, "state", lease.name))
            except OSError:
                pass  # not there, or no reason to say that the message has not left

    def timestamp(self) -> str:
        """Now, as ISO 8601 in UTC."""
        return _iso(self.clock())


def _iso(nanoseconds: int) -> str:
    return datetime.datetime.fromtimestamp(nanoseconds / 1e9, datetime.UTC).isoformat(timespec="milliseconds")
