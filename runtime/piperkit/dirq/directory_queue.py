"""`DirectoryQueue`: the queue interface on a directory, and what this instance has claimed of it."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Self

from piperkit.dirq import deadletters, fs, layout, names
from piperkit.dirq.claiming import Claimer
from piperkit.dirq.deferred import Deferred
from piperkit.dirq.incoming import SOON
from piperkit.dirq.instances import InstanceRecord
from piperkit.dirq.limits import MIB
from piperkit.dirq.recovery import Recovery
from piperkit.dirq.store import Lease, Settings, Store
from piperkit.dirq.survey import Surveyor
from piperkit.dirq.sync import Sync
from piperkit.errors import NotClaimed, QueueMissing, TargetUnavailable
from piperkit.message import Contents, Failure, encode
from piperkit.queue import Claim, Recovered, Survey

if TYPE_CHECKING:
    from piperkit.dirq.watch import Watch


#: Messages that `enqueue_many` publishes together.
GROUP = 200
#: Seconds, the longest delay of a retry: ten years, which every file system has a time stamp for.
_DELAY_MAX = 10 * 366 * 86400.0


class DirectoryQueue:
    """One instance's view of a queue. Not for several threads; any number of processes may share the directory.

    path: the queue's directory; made with its parts where missing, unless `create` is false.
    next_queue: where `commit` moves messages; None: it deletes them. Not made here.
    perms: octal mode of directories made; message files get the same without execution.
    owner: (uid, gid) of what is made, where the process may give it away; None: the process's own.
    sync: what is on the disk when, see `piperkit.dirq.sync`.
    orphan_age: seconds after which a claim without a lock is taken back.
    crash_limit: a message that was in work at this many deaths of a daemon is banished.
    message_max: bytes; a larger message is neither written nor read. 0: no limit.
    min_free: bytes that writing messages leaves free on the file system; 0: none;
        None: 64 MiB or 5 % of it, whichever is less.
    daemon: the name to leave in `errors`.

    Raises QueueMissing where the queue cannot be used. Besides what each method names, any may raise OSError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        next_queue: str | os.PathLike[str] | None = None,
        perms: int = 0o775,
        owner: tuple[int, int] | None = None,
        sync: Sync = Sync.BATCH,
        orphan_age: float = 10.0,
        crash_limit: int = 3,
        message_max: int = 64 * MIB,
        min_free: int | None = None,
        daemon: str = "",
        create: bool = True,
        host: str | None = None,
        pid: int | None = None,
        clock: Callable[[], int] = time.time_ns,
        logger: logging.Logger | None = None,
    ) -> None:
        self.path = os.path.abspath(path)
        self.next_queue = os.path.abspath(next_queue) if next_queue is not None else None
        if create:
            layout.ensure_queue(self.path, perms, owner)
        elif not layout.is_queue(self.path):
            raise QueueMissing(f"{self.path} is not a queue: it lacks one of {', '.join(layout.PROTOCOL)}")
        settings = Settings(perms, owner, sync, message_max, min_free, daemon)
        self._logger = logger or logging.getLogger("piperkit")
        self._store = Store(self.path, settings, names.Ids(host, pid, clock), self._logger, clock)
        self._instance = InstanceRecord(self._store.part("state"), self._store.ids.new)
        self._claimer = Claimer(self._store, self._logger, self._instance.share)
        self._deferred = Deferred(self.path, clock)
        self._recovery = Recovery(self._store, self.next_queue, orphan_age, crash_limit)
        self._surveyor = Surveyor(self.path, self.next_queue)
        self._leases: dict[str, Lease] = {}
        self._in_work: dict[str, str] = {}  #: the ids that are being worked on, with their files' names

    # -- producing -------------------------------------------------------------------------------------------

    def enqueue(self, contents: Contents, name: str | None = None) -> str:
        """Publish a message and return its id. Atomic; on the disk when this returns (outside of a batch).

        name: the id it is to have, if that is free; by default a new one that sorts after all before it.
        Raises InvalidId, NoRoom, MessageTooLarge.
        """
        data = encode(contents)
        self._store.limits.check_size(len(data))
        self._store.limits.check_room(len(data))
        return self._store.writer.publish(lambda fd: fs.write_all(fd, data), name)

    def enqueue_many(self, contents: Iterable[Contents]) -> list[str]:
        """Publish messages together, and return their ids, in order: several times as fast as one by one.

        They are published in groups of `GROUP`, each all or none; on the disk when this returns (outside of a batch).
        Raises as `enqueue`; the groups before the one that failed are there then. It holds a group in memory, and as
        many open files.
        """
        found: list[str] = []
        encoded = map(encode, contents)
        while group := list(itertools.islice(encoded, GROUP)):
            for data in group:
                self._store.limits.check_size(len(data))
            self._store.limits.check_room(sum(map(len, group)))
            found += self._store.writer.publish_group(group)
        return found

    def enqueue_file(self, path: str | os.PathLike[str], name: str | None = None) -> str:
        """Publish a copy of an existing regular file; otherwise as `enqueue`."""
        source = fs.open_message(os.fspath(path))
        try:
            size = os.fstat(source).st_size
            self._store.limits.check_size(size)
            self._store.limits.check_room(size)
            return self._store.writer.publish(lambda fd: fs.copy_all(source, fd), name)
        finally:
            os.close(source)

    # -- claiming --------------------------------------------------------------------------------------------

    def claim(self, limit: int = 1) -> list[Claim]:
        """Claim up to `limit` messages, oldest first among those that are there.

        What cannot be claimed now, because somebody else is at it, is found at a later look (`next_look`).
        """
        self._deferred.return_due(self._store)
        claims = []
        for lease in self._claimer.take(limit, self._leases):
            self._leases[lease.id] = lease
            claims.append(Claim(lease.id, lease.record.attempts + 1, lease.arrived / 1e9, lease.size))
        return claims

    def next_look(self) -> float | None:
        """Seconds until `claim` may find something that no arrival announces; None: nothing is known to come."""
        return SOON if self.busy() else self._deferred.seconds()

    def busy(self) -> bool:
        """Whether the last `claim` left something to claim, which somebody else was at, or which was over its limit."""
        return self._claimer.busy()

    def watch(self) -> Watch:
        """Something that is readable when a message may have arrived. Raises OSError where nothing tells."""
        from piperkit.dirq.watch import Watch  # a queue that is not watched needs the standard library only

        self._instance.join()
        return Watch(self._store.part("incoming"))

    def claimed(self) -> list[str]:
        """The ids that this instance holds."""
        return list(self._leases)

    # -- working ---------------------------------------------------------------------------------------------

    def begin(self, id: str) -> None:
        """Work on a claimed message begins: if this instance dies now, it may be of this message.

        Raises NotClaimed, and MessageTooLarge, of which nothing is read.
        """
        lease = self._lease(id)
        self._store.limits.check_size(lease.size)
        if not lease.begun:
            lease.begun = True
            self._in_work[id] = lease.name
            self._write_in_work()

    def read(self, id: str) -> bytes:
        """The contents of a claimed message. Raises as `begin`, which this is too."""
        self.begin(id)
        lease = self._leases[id]
        return fs.read_all(lease.fd, lease.size)

    def update(self, id: str, contents: Contents) -> None:
        """Replace the contents: the old ones stay whole until the new ones are. Keeps arrival and attempts.

        Raises NotClaimed, NoRoom, MessageTooLarge.
        """
        lease = self._lease(id)
        self._still_there(lease)
        self._store.replace(lease, encode(contents))

    # -- settling --------------------------------------------------------------------------------------------

    def commit(self, id: str, contents: Contents | None = None) -> None:
        """Finished: move the message to the next queue, with new contents if given; delete it if there is none.

        Raises NotClaimed, TargetUnavailable, NoRoom, MessageTooLarge. After one of the last three the message is
        still claimed, and another call goes on where this one ended.
        """
        if self.next_queue is None:
            self.cancel(id)
        else:
            self._move(self._lease(id), self.next_queue, contents, None)

    def dispatch(self, id: str, target: str, contents: Contents | None = None) -> None:
        """Finished: move the message to the queue at the absolute path `target`. Otherwise as `commit`."""
        self._move(self._lease(id), target, contents, target)

    def _move(self, lease: Lease, target: str, contents: Contents | None, recorded: str | None) -> None:
        data = None if contents is None else encode(contents)

        def step(lease: Lease) -> None:
            # In `outgoing`, an earlier call was cut off: its contents are final.
            if data is not None and lease.part == "pending":
                self._begin_move(lease, target, data, recorded)
            self._store.deliver(lease, target)

        self._settle(lease, step)

    def _begin_move(self, lease: Lease, target: str, data: bytes, recorded: str | None) -> None:
        """Record where the message goes, if not to the next queue, and then its new contents."""
        self._store.delivery.check(target)  # before the new contents are final
        self._still_there(lease)
        if recorded != lease.record.target:
            self._store.take_own_name(lease)
            record = dataclasses.replace(lease.record, target=recorded)
            self._store.write_record(lease, record, lease.name, self._store.clock())
            lease.record = record
        self._store.begin_move(lease, data)

    def duplicate(self, id: str, target: str) -> None:
        """Copy the message, as it is now, to the queue at the path `target`; it stays claimed. Raises as `commit`."""
        lease = self._lease(id)
        self._store.delivery.copy(lease.fd, target, lease.name)

    def cancel(self, id: str) -> None:
        """Delete the message. Raises NotClaimed."""
        lease = self._lease(id)
        self._settle(lease, self._store.drop)

    def banish(self, id: str, failure: Failure) -> None:
        """Move the message to `errors`; NAME.meta, JSON, says why. Raises NotClaimed."""
        lease = self._lease(id)
        self._settle(lease, lambda lease: self._store.banish(lease, failure))

    def retry(self, id: str, delay: float, failure: Failure) -> None:
        """Put the message off for `delay` seconds; its attempt and failure are recorded. Raises NotClaimed."""
        lease = self._lease(id)
        delay = min(delay, _DELAY_MAX)
        name = self._store.own_name(lease)
        record = lease.record.failed(failure, self._store.timestamp())

        def step(lease: Lease) -> None:
            if lease.part == "pending":  # in `outgoing`, its contents are final, and recovery delivers them
                due = self._store.clock() + int(delay * 1e9)
                self._store.write_record(lease, record, name, due)
                self._deferred.add(self._store.give_back(lease, "deferred", name), due)

        self._settle(lease, step)
        if lease.begun:
            self._write_in_work()

    def requeue(self, id: str) -> None:
        """Give the message back to `incoming` as it is; no attempt is counted. Raises NotClaimed."""
        lease = self._lease(id)

        def step(lease: Lease) -> None:
            if lease.part == "pending":  # as in `retry`
                self._store.give_back(lease, "incoming", lease.name)

        self._settle(lease, step)
        if lease.begun:
            self._write_in_work()

    def _settle(self, lease: Lease, step: Callable[[Lease], None]) -> None:
        """Do the step that ends a claim, have it synced, and end the claim.

        Where only the sync fails, the claim stays; whatever it is settled with next then syncs and ends it.
        """
        syncer = self._store.syncer
        syncs = syncer.enter()
        try:
            if not lease.settled:
                if lease.replaced:
                    self._store.drop_original(lease)
                step(lease)
                lease.settled = True
                if syncs:
                    fs.unlock(lease.fd)  # its next owner may claim it; the sync takes its time
        except FileNotFoundError:
            self._lost(lease)
            raise
        finally:
            syncer.leave()
        self._release(lease)

    # -- looking after the queue -----------------------------------------------------------------------------

    def recover(self) -> Recovered:
        """Give back the claims of dead instances, finish the moves that they had begun, remove litter.

        Idempotent, and safe side by side: each step is done under the lock of what it concerns. A message that was
        in work when its instance died has that attempt counted, and is banished after `crash_limit` deaths.
        """
        return self._recovery.run(frozenset(lease.name for lease in self._leases.values()))

    def expire_errors(self, age: float) -> int:
        """Delete messages that have been in `errors` for `age` seconds, with what is beside them; returns how many."""
        return deadletters.expire(self._store.part("errors"), self._store.clock() / 1e9 - age)

    def counts(self) -> dict[str, int]:
        """The number of messages in each part; sidecars and whatever is no message are not counted."""
        return {part: self.count(part) for part in layout.HOLDING}

    def count(self, part: str) -> int:
        """The number of messages in one part."""
        return layout.count_messages(self.path, part)

    def survey(self) -> Survey:
        """How full the queue and the next queue are, at a bounded cost; see `piperkit.dirq.survey`. For any thread."""
        return self._surveyor.survey()

    def room(self, limit: int) -> int:
        """How many messages fit into the next queue's `incoming` until it holds `limit`; counted afresh.

        Raises TargetUnavailable where the next queue is not there.
        """
        if self.next_queue is None:
            return limit
        try:
            return limit - layout.count_messages(self.next_queue, "incoming", limit)
        except (QueueMissing, PermissionError) as error:
            raise TargetUnavailable(str(error)) from error

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Operations that become durable together, at the end of the block."""
        with self._store.syncer.batch():
            yield

    def close(self) -> None:
        """Give back every claim and end this instance. Idempotent."""
        for id, lease in list(self._leases.items()):
            try:
                self.requeue(id)
            except (NotClaimed, OSError) as error:
                self._logger.warning(
                    "%s: not given back, but recovery will: %s", fs.display(id), error, extra=self._store.about(lease)
                )
                if id in self._leases:
                    self._release(lease)
        self._instance.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- leases ----------------------------------------------------------------------------------------------

    def _lease(self, id: str) -> Lease:
        lease = self._leases.get(id)
        if lease is None:
            names.check_id(id)
            raise NotClaimed(f"{fs.display(id)} is not claimed by this instance")
        return lease

    def _still_there(self, lease: Lease) -> None:
        if not self._store.holds(lease):
            self._lost(lease)
            raise FileNotFoundError(errno.ENOENT, "another file has its name", self._store.at(lease))

    def _lost(self, lease: Lease) -> None:
        """A claimed file that is gone was taken by a program that keeps to no protocol. Raises NotClaimed then."""
        path = self._store.at(lease)
        if not os.path.lexists(path):
            self._release(lease)
            raise NotClaimed(f"{fs.display(path)} was removed by another program while it was claimed") from None

    def _release(self, lease: Lease) -> None:
        del self._leases[lease.id]
        self._in_work.pop(lease.id, None)
        os.close(lease.fd)

    def _write_in_work(self) -> None:
        try:
            self._instance.write(self._in_work.values())
        except OSError as error:
            # A full disk, say: then a message that kills this process is not known for it, but work goes on.
            self._logger.warning("what is in work cannot be written down in %s/state: %s", self.path, error)
