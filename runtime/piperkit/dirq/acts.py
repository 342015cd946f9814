"""What an operator does with messages that nobody works on, beside the daemons that do.

`Operator` is a `piperkit.operating.Operator`. Each act takes effect by one rename or unlink of the message's file: who
comes later finds it gone, be it a daemon that claims it, or another operator. So killed anywhere an act has happened or
it has not, and no message is lost or there twice. What is left behind then of a dead letter is its sidecar, hidden,
which recovery shows or removes.

A message is known by its name and its arrival: another one that has the name by now is left alone.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import time
from collections.abc import Callable, Iterator

from piperkit import naming
from piperkit.dirq import deadletters, fs, pausing
from piperkit.dirq.delivery import place
from piperkit.dirq.held import Held
from piperkit.dirq.journal import Journal
from piperkit.dirq.store import Settings, Store
from piperkit.errors import TargetUnavailable
from piperkit.message import Failure
from piperkit.operating import HOLDING, RESTING, Copy, Entry, Paused
from piperkit.queue import Outlet
from piperkit.record import MessageRecord


class Operator:
    """Acts on the messages of the queue at `path`, as the account of its daemon.

    who: whom a message's history names. elsewhere: opens queues of other engines, to move messages there.
    The methods raise FileNotFoundError where the message has moved on, or another one has its name, QueueMissing where
    this is another account; each act is atomic.
    """

    def __init__(
        self, path: str | os.PathLike[str], who: str, elsewhere: Callable[[str], Outlet] | None = None
    ) -> None:
        self.path = os.path.abspath(path)
        self._who = who
        self._store = Store(self.path, Settings(elsewhere=elsewhere), naming.Ids(), logging.getLogger("piperkit"))
        self._moving: list[tuple[Held, str]] = []  #: put into a queue of another engine, and not yet deleted here
        self._depth = 0
        self._journal = Journal(lambda: self._store.parts.history)
        self._lines: list[bytes] = []  #: of the history, not yet written

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Acts that become durable together, at the end of the block; so are their lines in the history."""
        self._depth += 1
        try:
            with self._store.syncer.batch():
                yield
        finally:
            self._depth -= 1
            self._end_moves()
            lines, self._lines = self._lines, []
            if lines:
                self._journal.append(lines)

    def _tell(self, entry: Entry, what: str, **more: str) -> None:
        """Keep in the history what was done."""
        told = {"t": round(time.time(), 6), "id": entry.id, "queue": self.path, "what": what, "by": self._who}
        line = json.dumps({**told, **{key: value for key, value in more.items() if value}}).encode() + b"\n"
        self._lines.append(line)

    def requeue(self, entry: Entry) -> None:
        """Have a message tried again now: a dead letter as if it were new, but for its history, which says who did it.

        It keeps its arrival, and its name unless that is taken. What is in `incoming` is left there.
        """
        held = self._take(entry)
        incoming = self._store.parts.incoming
        if entry.part == "errors":
            report = deadletters.report(held.where, held.name) or {}
            with self._without_sidecar(held):
                name = self._own_name(held)
                record = MessageRecord.afresh(report, self._said("requeued"), self._store.timestamp())
                self._store.write_record(held, record, name, self._store.clock())
                self._store.give_back(held, incoming, name)
        elif entry.part != "incoming":
            if entry.part == "hold":
                self._mark(held, "released")
            self._store.give_back(held, incoming, held.name)
        if entry.part != "incoming":
            self._tell(entry, "released" if entry.part == "hold" else "requeued")

    def hold(self, entry: Entry, reason: str) -> None:
        """Have a message wait in `hold`: one that is in `incoming` or `deferred`. A dead letter waits already."""
        held = self._take(entry)
        if entry.part in ("incoming", "deferred"):
            hold = self._store.parts.hold
            held.name = self._store.give_back(held, hold, held.name)
            held.where = hold
            with contextlib.suppress(FileNotFoundError):
                self._mark(held, "held", reason)  # now that nobody else writes its record
            self._tell(entry, "held", reason=reason)

    def banish(self, entry: Entry, reason: str) -> None:
        """Make a message a dead letter, for that reason."""
        held = self._take(entry)
        if entry.part != "errors":
            self._store.banish(held, Failure(self._said("banished", reason)))
            self._tell(entry, "banished", reason=reason)

    def remove(self, entry: Entry) -> None:
        """Delete a message, with what is known of it."""
        held = self._take(entry)
        with self._without_sidecar(held):
            self._store.drop(held)
        self._tell(entry, "deleted")

    def move(self, entry: Entry, target: str) -> None:
        """Move a message to the queue at the absolute path `target`, where it is new. Raises TargetUnavailable, also
        where that is a directory on another file system: a copy could not be made and its original deleted in one step.
        """
        if not target.startswith("/"):
            self._move_elsewhere(entry, target)
            return
        held = self._take(entry)
        incoming = self._store.delivery.incoming(target)
        if os.fstat(incoming.fd).st_dev != held.stat.st_dev:
            raise TargetUnavailable(f"{fs.display(target)} is on another file system than {fs.display(self.path)}")
        with self._without_sidecar(held):
            self._store.deliver(held, target)
        self._tell(entry, "moved", to=target)

    def _move_elsewhere(self, entry: Entry, target: str) -> None:
        """In three steps: it is held back, put there, and deleted here. Cut off in between it is held back still, and
        moving it again does what is left.
        """
        outlet = self._store.delivery.outlet(target)
        held = self._take(entry)
        if entry.part in ("incoming", "deferred"):
            hold = self._store.parts.hold
            held.name = self._store.give_back(held, hold, held.name)
            held.where = hold
            self._mark(held, "on its way", target)
        outlet.put(entry.id, held.stat.st_mtime_ns / 1e9, self._store.read(held))
        self._moving.append((held, target))
        self._tell(entry, "moved", to=target)
        if not self._depth:
            self._end_moves()

    def _end_moves(self) -> None:
        moving, self._moving = self._moving, []
        for target in dict.fromkeys(target for _, target in moving):
            self._store.delivery.outlet(target).sync()
        for held, _ in moving:
            with contextlib.suppress(FileNotFoundError), self._without_sidecar(held):
                self._store.drop(held)

    def replace(self, entry: Entry, data: bytes) -> None:
        """Give a message that is held, or a dead letter, other contents where it is; its id and arrival stay.

        Raises OSError (EINVAL) on a file system that cannot exchange two files.
        """
        if entry.part not in ("hold", "errors"):
            raise FileNotFoundError(errno.ENOENT, "it is neither held nor a dead letter", entry.path)
        self._store.exchange(self._take(entry), data)
        self._tell(entry, "changed")

    def add(self, message: Copy) -> bool:
        """Add a message that was exported, with its arrival, and its id unless that is taken; returns False where it is
        there already. Raises InvalidId, NoRoom, MessageTooLarge.
        """
        id, store = naming.check_id(message.id), self._store
        seconds, part = divmod(message.arrived, 1)
        parts, arrived = store.parts, int(seconds) * 10**9 + round(part * 1e9)
        there = (getattr(parts, part).stat(id) for part in HOLDING)
        # An archive has the arrival as a number that is good to a microsecond.
        if any(stat is not None and abs(stat.st_mtime_ns - arrived) < 1000 for stat in there):
            return False
        store.limits.check_size(len(message.data))
        store.limits.check_room(len(message.data))

        def write(fd: int) -> None:
            fs.write_all(fd, message.data)
            os.utime(fd, ns=(arrived, arrived))

        new, fd = store.writer.new_file(write)
        stat = os.fstat(fd)
        os.close(fd)
        target = getattr(parts, message.part)
        try:
            if message.part == "errors":
                while target.has(id):
                    id = store.ids.new()
                sidecar = deadletters.hidden_sidecar(id)
                report = json.dumps({**(message.report or {}), "id": id}, indent=2, sort_keys=True)
                store.writer.write_own(target, sidecar, report.encode() + b"\n")
                parts.tmp.rename(new, target, id)  # what is left of a failure here is removed by recovery
                deadletters.show_sidecar(target, id)
            else:
                place(parts.tmp, new, stat, target, id, store.ids.new)
        except BaseException:
            parts.tmp.remove(new)
            raise
        store.syncer.changed(target=target)
        return True

    def pause(self, until: float | None, reason: str, *, sources_only: bool = False) -> None:
        """Have nothing claimed, or fetched only, until then if that is said; see `pausing`. Raises OSError."""
        pausing.pause(self.path, Paused(self._who, time.time(), until, reason, sources_only))

    def resume(self) -> bool:
        """End a pause; returns whether there was one. Raises OSError."""
        return pausing.resume(self.path)

    def _take(self, entry: Entry) -> Held:
        if entry.part not in RESTING:
            raise FileNotFoundError(errno.ENOENT, "it is in work", entry.path)
        held = self._store.held(entry.id, getattr(self._store.parts, entry.part))
        if held.stat.st_mtime != entry.arrived:
            raise FileNotFoundError(errno.ENOENT, "another message has its name", entry.path)
        return held

    def _said(self, what: str, reason: str = "") -> str:
        return f"{what} by {self._who}{f': {reason}' if reason else ''}"

    def _mark(self, held: Held, what: str, reason: str = "") -> None:
        """Write into the history of a message in `hold` what was done with it."""
        record = held.record.noted(self._said(what, reason), self._store.timestamp())
        self._store.write_record(held, record, held.name, self._store.clock())
        held.record = record

    def _own_name(self, held: Held) -> str:
        """A name under which the message can have a record; see `Store.own_name`, which is for what is in `pending`."""
        return self._store.ids.new() if self._store.parts.pending.has(held.name) else self._store.own_name(held)

    @contextlib.contextmanager
    def _without_sidecar(self, held: Held) -> Iterator[None]:
        """A message leaves its place in this block. A dead letter's sidecar would be taken for a message then, so it is
        hidden before, and removed after.
        """
        if held.where is not self._store.parts.errors:
            yield
            return
        errors, name = held.where, held.name
        hidden, plain = deadletters.hidden_sidecar(name), deadletters.plain_sidecar(name)
        # A plain one with a hidden one of its own is a message.
        if plain is not None and not errors.has(hidden) and not errors.has(deadletters.hidden_sidecar(plain)):
            with contextlib.suppress(FileNotFoundError):
                errors.rename(plain, errors, hidden)
        there = errors.stat(hidden)
        try:
            yield
        except BaseException:
            if errors.has(name):
                deadletters.show_sidecar(errors, name)
            raise
        # Recovery may have shown it, and another message of that name may have been banished meanwhile.
        for sidecar in (hidden, plain):
            if there is None or sidecar is None:
                continue
            now = errors.stat(sidecar)
            if now is not None and os.path.samestat(there, now):
                with contextlib.suppress(OSError):
                    errors.unlink(sidecar)
