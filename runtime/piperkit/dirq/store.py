"""What can be done with one message that is held; `DirectoryQueue` and `recovery` are made of these steps.

Each step is atomic or undone. None of them looks at who holds what.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import stat
import time
from collections.abc import Callable

from piperkit import naming
from piperkit.dirq import deadletters, fs, layout, records
from piperkit.dirq.delivery import Delivery, place
from piperkit.dirq.fs import Directory
from piperkit.dirq.held import Held
from piperkit.dirq.limits import MIB, Limits
from piperkit.dirq.reading import Notices
from piperkit.dirq.sync import Sync, Syncer
from piperkit.dirq.writing import Writer
from piperkit.errors import MessageTooLarge
from piperkit.message import Failure
from piperkit.queue import Outlet
from piperkit.record import NEW, MessageRecord, iso

#: Bytes that are read at once, of a file of which nothing is known; most messages are smaller.
_PIECE = 1 << 16


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What a queue's user decides; see `DirectoryQueue`."""

    perms: int = layout.DEFAULT_PERMS
    owner: tuple[int, int] | None = None
    sync: Sync = Sync.BATCH
    message_max: int = 64 * MIB
    min_free: int | None = None
    daemon: str = ""
    elsewhere: Callable[[str], Outlet] | None = None


class Store:
    """A queue's directory."""

    def __init__(
        self,
        path: str,
        settings: Settings,
        ids: naming.Ids,
        logger: logging.Logger,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.path = path
        self.settings = settings
        self.ids = ids
        self.clock = clock
        self.logger = logger
        self.parts = layout.Parts(path, settings.perms, settings.owner)
        self.notices = Notices(logger)
        self.syncer = Syncer(settings.sync)
        self.delivery = Delivery(self.syncer, ids.new, settings.elsewhere)
        self.limits = Limits(path, settings.message_max, settings.min_free)
        self.passes_on = False  #: whether messages are likely to go on as they came
        #: Told of a claimed message's name and the new one that it is about to get.
        self.announce: Callable[[str, str], None] = lambda name, new: None
        self.writer = Writer(self.parts, layout.file_mode(settings.perms), settings.owner, self.syncer, ids.new)

    def held(self, name: str, where: Directory) -> Held:
        """A message that nobody else holds, with its record. Raises FileNotFoundError, IsADirectoryError."""
        held = Held(name, where)
        # In `outgoing`, it says where the message goes.
        patient = where is self.parts.outgoing
        held.record = records.load(self.parts.state, name, held.stat.st_mtime_ns, self.notices, patient=patient)
        return held

    def holds(self, held: Held) -> bool:
        """Whether the file that was claimed still has its name, as far as is known. Raises FileNotFoundError."""
        if held.stat_then is None:
            held.stat  # noqa: B018  looked at for the first time
            return True
        there = held.where.stat(held.name)
        return there is not None and os.path.samestat(there, held.stat)

    def record(self, name: str, arrived: int) -> MessageRecord:
        """What is known about the message of that name and arrival."""
        return records.load(self.parts.state, name, arrived, self.notices)

    # -- contents --------------------------------------------------------------------------------------------

    def read(self, held: Held) -> bytes:
        """The contents, in as few pieces as can be: no more than there were when it was opened, or than may be.

        Raises MessageTooLarge, and what `Directory.open` does.
        """
        fd = os.open(held.name, fs.OPEN_MESSAGE, dir_fd=held.where.fd)
        try:
            data = os.read(fd, _PIECE)
            if not 0 < len(data) < _PIECE or 0 < self.limits.message_max < len(data):
                data = self._read_large(held, fd)
            held.regular = True  # of others, only a device could have had something in it, and only root makes those
            if self.passes_on and self.syncer.syncs and not held.synced:
                held.synced = self.syncer.is_synced(fd, held.where)  # now that it is open
            return data
        finally:
            os.close(fd)

    def _read_large(self, held: Held, fd: int) -> bytes:
        """A file that is empty, or larger than a piece, in one piece."""
        there = os.fstat(fd)
        if not stat.S_ISREG(there.st_mode):
            raise IsADirectoryError(errno.EISDIR, "not a regular file", held.path)
        held.stat_then = held.stat_then or there
        size, most = there.st_size, self.limits.message_max
        self.limits.check_size(size)
        try:
            data = os.pread(fd, size + 1, 0)
            while len(data) != size:  # it is written to in this moment
                self.limits.check_size(len(data))
                more = os.pread(fd, min(8 * MIB, most + 1 - len(data)) if most else 8 * MIB, len(data))
                if not more:
                    break
                data += more
        except (MemoryError, OverflowError) as error:
            raise MessageTooLarge(f"a message of {size} bytes does not fit into memory") from error
        return data

    def _seen(self, held: Held) -> None:
        """Before a message goes on: it is a regular file, and will be on the disk when its new place is."""
        if not held.regular:
            held.stat  # noqa: B018  raises what it is not
        self.passes_on = True
        if self.syncer.syncs and not held.synced:
            try:
                fd = held.where.open(held.name)
            except PermissionError:
                pass
            else:
                held.synced = self.syncer.is_synced(fd, held.where)
                os.close(fd)
            if not held.synced:
                self.syncer.whole(held.where)
                held.synced = True

    def seal(self, held: Held) -> None:
        """Have the message in a file of our own, if others may still be able to change it.

        One that is too large for the queue is left as it is; it is banished unread. Raises as `Directory.open`, NoRoom.
        """
        ours = held.stat.st_uid == os.geteuid() and not held.stat.st_mode & 0o022
        if ours or self.limits.is_too_large(held.size):
            return
        source = held.where.open(held.name)
        try:
            too_large = False

            def write(fd: int) -> None:
                nonlocal too_large
                too_large = not fs.copy_all(source, fd, self.limits.message_max or None)
                os.utime(fd, ns=(held.stat.st_atime_ns, held.stat.st_mtime_ns))

            self.limits.check_room(held.size)
            # Given back to `incoming`, it can be read there, and not changed.
            new, fd = self.writer.new_file(write, mode=layout.file_mode(self.settings.perms) & ~0o022)
            sealed = os.fstat(fd)
            os.close(fd)
            if too_large:
                self.writer.remove(new)
            else:
                self._put_in_place(held, new, sealed)
        finally:
            os.close(source)

    def replace(self, held: Held, data: bytes) -> None:
        """Give the message new contents where it is: the old ones stay whole until the new ones are."""
        new, written = self._successor(held, data)
        self._put_in_place(held, new, written)

    def exchange(self, held: Held, data: bytes) -> None:
        """The same for a message that others may move in this moment: then it keeps its contents.

        Raises FileNotFoundError where it has moved on, OSError (EINVAL) where the file system cannot do it.
        """
        tmp = self.parts.tmp
        new, _ = self._successor(held, data)
        try:
            tmp.exchange(new, held.where, held.name)
        except OSError:
            tmp.remove(new)
            raise
        # What had the name is in `tmp` now.
        if not os.path.samestat(os.stat(new, dir_fd=tmp.fd, follow_symlinks=False), held.stat):
            try:
                tmp.exchange(new, held.where, held.name)
            except FileNotFoundError:  # what we had put there has moved on, too
                tmp.rename(new, held.where, self.ids.new())
            else:
                tmp.remove(new)
            raise FileNotFoundError(errno.ENOENT, "another message has its name", held.path)
        tmp.remove(new)
        self.syncer.changed(target=held.where)

    def _put_in_place(self, held: Held, new: str, written: os.stat_result) -> None:
        """Give a new file in `tmp` the name of a message of ours, in place of that."""
        tmp = self.parts.tmp
        try:
            tmp.replace(new, held.where, held.name)
        except BaseException:
            tmp.remove(new)
            raise
        held.stat_then, held.regular, held.synced = written, True, True
        self.syncer.changed(target=held.where)

    def begin_move(self, held: Held, data: bytes) -> None:
        """Give the message its last contents, in `outgoing`; from then on it can only be moved on.

        That one rename is the intent: whoever finds the new contents there drops the original in `pending` and moves
        them to the next queue. So the component never sees its own output, and the output is moved once.
        """
        outgoing = self.parts.outgoing
        new, written = self._successor(held, data)
        try:
            while True:
                try:
                    self.parts.tmp.rename(new, outgoing, held.name)
                    break
                except FileExistsError:
                    self.take_own_name(held)  # an earlier message of that name waits there for its target
        except BaseException:
            self.writer.remove(new)
            raise
        held.stat_then, held.regular, held.synced = written, True, True
        held.where, held.final, held.replaced = outgoing, True, True
        if self.syncer.syncs and outgoing not in self.syncer.targets:
            self.syncer.changed(target=outgoing)
        self.drop_original(held)
        self.passes_on = False

    def drop_original(self, held: Held) -> None:
        """Delete what the message's last contents replaced, if it is still there.

        Only then: as soon as it is gone, another message of that name may be claimed.
        """
        if held.replaced:
            pending = self.parts.pending
            try:
                os.unlink(held.name, dir_fd=pending.fd)
            except FileNotFoundError:
                pass
            held.replaced = False
            if self.syncer.syncs and pending not in self.syncer.sources:
                self.syncer.changed(source=pending)

    def _successor(self, held: Held, data: bytes) -> tuple[str, os.stat_result]:
        """A file in `tmp` that is to take the message's name: same owner, mode and arrival."""
        like = held.stat_then or held.stat
        self.limits.check_size(len(data))
        self.limits.check_room(len(data) - like.st_size)

        def write(fd: int) -> None:
            fs.write_all(fd, data)
            os.utime(fd, ns=(like.st_atime_ns, like.st_mtime_ns))

        name, fd = self.writer.new_file(write, like=like)
        written = os.fstat(fd)
        os.close(fd)
        return name, written

    def write_record(self, held: Held, record: MessageRecord, name: str, due: int) -> None:
        """Store what is known about a message that is about to be called `name`; due: its next attempt's time."""
        data = records.dump(record, held.stat.st_mtime_ns)
        self.writer.write_own(self.parts.state, name, data, times=(min(self.clock(), due), due))

    # -- moving ----------------------------------------------------------------------------------------------

    def give_back(self, held: Held, target: Directory, name: str) -> str:
        """Move the message to `incoming` or `deferred`, under another name where that one is taken; returns its name.

        Raises FileNotFoundError where the file is gone.
        """
        self._seen(held)
        source = held.where
        placed = place(source, held.name, held.stat, target, name, self.ids.new)
        if placed != name:
            self._rename_record(held, name, placed)
        self.syncer.changed(target=target, source=source)
        return placed

    def _rename_record(self, held: Held, old: str, new: str) -> None:
        """The message has another name now: so has its record, if it has one."""
        state = self.parts.state
        if self.record(old, held.stat.st_mtime_ns) is not NEW:
            state.replace(old, state, new)
            self.syncer.changed(target=state)

    def own_name(self, held: Held) -> str:
        """A name under which the message can have a record: a new one where another message has that name already.

        While a message is in `pending`, no other of its name can get to `deferred` or `outgoing`; one that is there
        may go to `incoming` or `hold` meanwhile, and between these two, so they are looked at last, and twice.
        """
        parts = self.parts
        name = held.name
        taken = (
            any(part.has(name) for part in (parts.outgoing, parts.deferred, parts.incoming))
            or parts.holds_back(name)
            or parts.incoming.has(name)
        )
        return self.ids.new() if taken else held.name

    def take_own_name(self, held: Held, announce: Callable[[str, str], None] | None = None) -> None:
        """Give a message in `pending` that name, which is announced before: by default, as our claim's."""
        name = self.own_name(held)
        if name != held.name:
            (announce or self.announce)(held.name, name)
            placed = place(held.where, held.name, held.stat, held.where, name, self.ids.new)
            self._rename_record(held, held.name, placed)
            self.syncer.changed(target=held.where)
            held.name = placed

    def drop(self, held: Held) -> None:
        """Delete the message. Raises FileNotFoundError where the file is gone."""
        where = held.where
        os.unlink(held.name, dir_fd=where.fd)
        if self.syncer.syncs and where not in self.syncer.sources:
            self.syncer.changed(source=where)
        if held.record is not NEW:
            self.forget(held)

    def banish(self, held: Held, failure: Failure) -> None:
        """Move the message to `errors`, where a sidecar says why. Raises FileNotFoundError where it is gone."""
        self._seen(held)
        errors = self.parts.errors
        name = held.name
        while errors.has(name):
            name = self.ids.new()  # an earlier message of that name is there already
        facts = held.record.report(
            failure,
            self.timestamp(),
            id=name,
            name=held.name,
            arrived=iso(held.stat.st_mtime_ns),
            host=self.ids.host,
            daemon=self.settings.daemon,
            attempts=held.record.attempts + held.begun,
        )
        report = json.dumps(facts, indent=2, sort_keys=True)
        # The reason first, under a name that is not a message's: a message in `errors` always has one.
        sidecar = deadletters.hidden_sidecar(name)
        self.writer.write_own(errors, sidecar, report.encode() + b"\n")
        try:
            held.where.rename(held.name, errors, name)
        except BaseException:
            errors.remove(sidecar)
            raise
        deadletters.show_sidecar(errors, name)
        self.syncer.changed(target=errors, source=held.where)
        self.forget(held)

    def deliver(self, held: Held, target: str) -> None:
        """Move the message to the queue at `target`.

        Raises TargetUnavailable or NoRoom with the message where it was; FileNotFoundError where it is gone.
        """
        if not held.regular or (self.syncer.syncs and not held.synced):
            self._seen(held)
        most = None if held.final else self.limits.message_max or None
        name = self.delivery.move(held.where, held.name, target, most)
        if name != held.name:
            self.logger.warning(
                "%s: the name was taken in %s, where it is %s now",
                fs.display(held.name),
                fs.display(target),
                name,
                extra=self.about(held),
            )
        if held.record is not NEW:
            self.forget(held)

    def about(self, held: Held) -> dict[str, object]:
        """What a log line about a message carries besides."""
        return {"message_id": held.id, "queue": self.path, "attempt": held.attempt}

    def forget(self, held: Held) -> None:
        """The message has left this queue: so does its record, now or when litter is removed."""
        if held.record is not NEW:
            try:
                self.parts.state.unlink(held.name)
            except OSError:
                pass  # not there, or no reason to say that the message has not left

    def timestamp(self) -> str:
        """Now, as ISO 8601 in UTC."""
        return iso(self.clock())
