"""What can be done with one locked message of a queue; `DirectoryQueue` and `recovery` are made of these steps.

Each step is atomic or undone. None of them looks at who holds what: a `Lease` given here is a file that the caller
has locked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence

from piperkit.dirq import deadletters, fs, layout, names, records
from piperkit.dirq.delivery import Delivery, place
from piperkit.dirq.records import NEW
from piperkit.dirq.sync import Sync, Syncer
from piperkit.errors import MessageTooLarge, NoRoom
from piperkit.message import Failure

MIB = 1 << 20
#: Seconds for which room that was found is taken for granted, and bytes of it that others may have used meanwhile.
_ROOM_FRESH, _ROOM_SPARE = 0.01, 64 * MIB
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
        self.pending = fs.Directory(self.part("pending"))  #: open while messages are claimed
        self.settings = settings
        self.ids = ids
        self.clock = clock
        self.logger = logger
        self.syncer = Syncer(settings.sync)
        self.delivery = Delivery(self.syncer, ids.new)
        self._tmp = fs.Directory(self.part("tmp"))
        self._incoming = fs.Directory(self.part("incoming"))
        self._outgoing = fs.Directory(self.part("outgoing"))
        self._worked_in = (self.pending, self._tmp, self._outgoing)
        self._mode = layout.file_mode(settings.perms)
        self._root = os.geteuid() == 0
        self._owner = settings.owner if self._root else None
        self._asked, self._spare = float("-inf"), 0  #: when how much room was found, in bytes
        self._born: tuple[int, int] | None = None  #: the owner of a new file to whom nobody gives another one

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
        if lease.part != "pending":
            return fs.is_at(lease.fd, self.at(lease))
        there = self.pending.stat(lease.name)
        return there is not None and (there.st_ino, there.st_dev) == (lease.stat.st_ino, lease.stat.st_dev)

    def refresh(self) -> None:
        """Open the directories that are worked in, where their paths lead now. Raises OSError."""
        for directory in self._worked_in:
            directory.open()

    def close(self) -> None:
        """Let go of them. Idempotent; they are opened again where need be."""
        for directory in self._worked_in:
            directory.close()

    def record(self, name: str, arrived: int) -> records.MessageRecord:
        """What is known about the message of that name and arrival."""
        return records.load(f"{self.path}/state/{name}", arrived)

    # -- writing ---------------------------------------------------------------------------------------------

    def new_file(
        self, write: Callable[[int], None], *, like: os.stat_result | None = None, sync: bool = True
    ) -> tuple[str, int]:
        """A complete file in `tmp`, synced: its name, a new id, and descriptor. Nothing is left where that fails.

        like: a file whose owner and mode it is to have, where the process may give them; by default the queue's.
        """
        name, fd = fs.create(self._tmp, self.ids.new)
        try:
            fs.try_lock(fd)  # a writer that is still busy is not litter
            owner, mode = self._owner, self._mode
            if like is not None:
                owner = (like.st_uid, like.st_gid) if self._root else None
                mode = like.st_mode & 0o666
            if owner is not None:
                self._give(fd, owner)
            os.fchmod(fd, mode)
            write(fd)
            if sync:
                self.syncer.file(fd)
        except BaseException as error:
            os.close(fd)
            self._remove_new(name)
            if isinstance(error, OSError) and error.errno in fs.NO_ROOM:
                raise NoRoom(f"no room in the queue {self.path}: {error.strerror}") from error
            raise
        return name, fd

    def _give(self, fd: int, owner: tuple[int, int]) -> None:
        """Give a new file to its owner, unless it is that already."""
        if self._born is None:
            stat = os.fstat(fd)
            self._born = stat.st_uid, stat.st_gid
        if owner != self._born:
            os.fchown(fd, *owner)

    def _remove_new(self, name: str) -> None:
        fs.unlink_if_there(self._tmp.at(name))

    def publish(self, write: Callable[[int], None], name: str | None) -> str:
        """A new message in `incoming`; returns its name."""
        if name is not None:
            names.check_id(name)
        return self._publish([self.new_file(write)], name)[0]

    def publish_group(self, group: Sequence[bytes]) -> list[str]:
        """New messages in `incoming`, all or none; returns their names, in order.

        All are written before the first is synced, so that the file system can bring them to the disk together.
        """
        written: list[tuple[str, int]] = []
        with self._tmp.opened(), self._incoming.opened():
            try:
                for data in group:
                    name, fd = self.new_file(functools.partial(fs.write_all, data=data), sync=False)
                    written.append((name, fd))
                    if self.syncer.syncs:
                        self.syncer.file_soon(fd)
                if self.syncer.syncs:
                    for _, fd in written:
                        self.syncer.file(fd)
            except BaseException:
                for name, fd in written:
                    os.close(fd)
                    self._remove_new(name)
                raise
            return self._publish(written)

    def _publish(self, written: list[tuple[str, int]], wanted: str | None = None) -> list[str]:
        """Move new files from `tmp` to `incoming`, and close them; returns the names they got, if they can their own.

        wanted: the name to give to the only one.
        """
        tmp, incoming = self._tmp, self._incoming
        placed: list[str] = []
        try:
            for new, fd in written:
                name = wanted or new
                try:
                    tmp.rename(new, incoming, name)
                except FileExistsError:
                    name = place(tmp.at(new), fd, incoming.path, name, self.ids.new)
                placed.append(name)
                fs.unlock(fd)
            self.syncer.changed(target=incoming.path)
        except BaseException:
            # Taken back, unless an instance has claimed it by now: whoever is told that it failed will try again.
            names_now = [*placed, *(wanted or new for new, _ in written[len(placed) :])]
            for (new, fd), name in zip(written, names_now, strict=True):
                for path in (tmp.at(new), incoming.at(name)):
                    if fs.is_at(fd, path) and fs.try_lock(fd):
                        fs.unlink_if_there(path)
            raise
        finally:
            for _, fd in written:
                os.close(fd)
        return placed

    def replace(self, lease: Lease, data: bytes) -> None:
        """Give the message new contents where it is: the old ones stay whole until the new ones are."""
        new, fd = self._successor(lease, data)
        try:
            os.rename(self._tmp.at(new), self.at(lease))
        except BaseException:
            os.close(fd)
            self._remove_new(new)
            raise
        old, lease.fd, lease.size, lease.stat = lease.fd, fd, len(data), os.fstat(fd)
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
                    self._tmp.rename(new, self._outgoing, lease.name)
                    break
                except FileExistsError:
                    self.take_own_name(lease)  # an earlier message of that name waits there for its target
        except BaseException:
            os.close(fd)
            self._remove_new(new)
            raise
        old, lease.fd, lease.size = lease.fd, fd, len(data)
        lease.part, lease.replaced = "outgoing", True
        if self.syncer.syncs:
            self.syncer.changed(target=self._outgoing.path)
        try:
            self.drop_original(lease)  # while it is still locked
        finally:
            os.close(old)

    def drop_original(self, lease: Lease) -> None:
        """Delete what the message's last contents replaced, if it is still there.

        Only then: as soon as it is gone, another message of that name may be claimed.
        """
        if lease.replaced:
            with contextlib.suppress(FileNotFoundError):
                self.pending.unlink(lease.name)
            lease.replaced = False
            if self.syncer.syncs:
                self.syncer.changed(source=self.pending.path)

    def _successor(self, lease: Lease, data: bytes) -> tuple[str, int]:
        """A file in `tmp` that is to take the message's name: same owner, mode and arrival; locked."""
        self.check_size(len(data))
        self.check_room(len(data) - lease.size)

        def write(fd: int) -> None:
            fs.write_all(fd, data)
            os.utime(fd, ns=(lease.stat.st_atime_ns, lease.arrived))

        return self.new_file(write, like=lease.stat)

    def write_own(self, path: str, data: bytes, mtime: int | None = None) -> None:
        """Write a file of our own (a record, a sidecar), replacing an older one atomically."""

        def write(fd: int) -> None:
            fs.write_all(fd, data)
            if mtime is not None:
                os.utime(fd, ns=(mtime, mtime))

        new, fd = self.new_file(write)
        os.close(fd)
        try:
            os.rename(self._tmp.at(new), path)
        except BaseException:
            self._remove_new(new)
            raise
        self.syncer.changed(target=os.path.dirname(path))

    def write_record(self, lease: Lease, record: records.MessageRecord, name: str, due: int) -> None:
        """Store what is known about a message that is about to be called `name`; due: its next attempt's time."""
        self.write_own(os.path.join(self.path, "state", name), records.dump(record, lease.arrived), due)

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
        if lease.part == "pending":
            self.pending.unlink(lease.name)
        else:
            os.unlink(self.at(lease))
        if self.syncer.syncs:
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
        self.write_own(sidecar, report.encode() + b"\n")
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

    # -- limits ----------------------------------------------------------------------------------------------

    def check_size(self, size: int) -> None:
        """Raises MessageTooLarge for a message of `size` bytes if that is over the limit."""
        limit = self.settings.message_max
        if limit and size > limit:
            raise MessageTooLarge(f"a message of {size} bytes is larger than message_max, {limit} bytes")

    def check_room(self, growth: int) -> None:
        """Raises NoRoom where too little would stay free after `growth` more bytes are written."""
        if growth <= 0 or self.settings.min_free == 0:
            return
        now = time.monotonic()
        if growth > self._spare or now > self._asked + _ROOM_FRESH:
            free, keep = room(self.path, self.settings.min_free)
            if free - growth < keep:
                raise NoRoom(
                    f"no room in the queue {self.path}: less than queue_min_free, {keep} bytes, would stay free"
                )
            self._asked, self._spare = now, free - keep - _ROOM_SPARE
        self._spare -= growth

    def timestamp(self) -> str:
        """Now, as ISO 8601 in UTC."""
        return _iso(self.clock())


def room(path: str, min_free: int | None) -> tuple[int, int]:
    """The bytes that are free on the file system of a queue, and those that writing messages leaves free."""
    found = os.statvfs(path)
    if not found.f_blocks:
        return sys.maxsize, 0  # it does not say
    keep = min(64 * MIB, found.f_blocks * found.f_frsize // 20) if min_free is None else min_free
    return found.f_bavail * found.f_frsize, keep


def _iso(nanoseconds: int) -> str:
    return datetime.datetime.fromtimestamp(nanoseconds / 1e9, datetime.UTC).isoformat(timespec="milliseconds")
