"""`DirectoryQueue`: the queue interface on a directory, and what this instance has claimed of it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self

from piperkit.dirq import deadletters, fs, layout, names, records
from piperkit.dirq.deferred import Deferred
from piperkit.dirq.incoming import SOON, Incoming
from piperkit.dirq.recovery import Recovery
from piperkit.dirq.store import MIB, Lease, Settings, Store
from piperkit.dirq.survey import Surveyor
from piperkit.dirq.sync import Sync
from piperkit.errors import NotClaimed, QueueMissing, TargetUnavailable
from piperkit.message import Contents, Failure, encode
from piperkit.queue import Claim, Recovered, Survey

if TYPE_CHECKING:
    from piperkit.dirq.watch import Watch


#: Seconds between looks at a message that somebody has just moved to `incoming`, and is about to let go of.
_MOVED_PAUSES = (0.0005, 0.001, 0.002, 0.004, 0.008)
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
        self._incoming = Incoming(self._store.part("incoming"), self._logger)
        self._deferred = Deferred(self.path, clock)
        self._instance = records.InstanceRecord(self._store.part("state"), self._store.ids.new)
        self._recovery = Recovery(self._store, self.next_queue, orphan_age, crash_limit)
        self._surveyor = Surveyor(self.path, self.next_queue)
        self._leases: dict[str, Lease] = {}
        self._look_soon = False

    # -- producing -------------------------------------------------------------------------------------------

    def enqueue(self, contents: Contents, name: str | None = None) -> str:
        """Publish a message and return its id. Atomic; on the disk when this returns (outside of a batch).

        name: the id it is to have, if that is free; by default a new one that sorts after all before it.
        Raises InvalidId, NoRoom, MessageTooLarge.
        """
        data = encode(contents)
        self._store.check_size(len(data))
        self._store.check_room(len(data))
        return self._store.publish(lambda fd: fs.write_all(fd, data), name)

    def enqueue_file(self, path: str | os.PathLike[str], name: str | None = None) -> str:
        """Publish a copy of an existing regular file; otherwise as `enqueue`."""
        source = fs.open_message(os.fspath(path))
        try:
            size = os.fstat(source).st_size
            self._store.check_size(size)
            self._store.check_room(size)
            return self._store.publish(lambda fd: fs.copy_all(source, fd), name)
        finally:
            os.close(source)

    # -- claiming --------------------------------------------------------------------------------------------

    def claim(self, limit: int = 1) -> list[Claim]:
        """Claim up to `limit` messages, oldest first among those that are there.

        What cannot be claimed now, because somebody else is at it, is found at a later look (`next_look`).
        """
        self._return_due()
        self._look_soon = False
        claims: list[Claim] = []
        scanned = False
        while len(claims) < limit:
            if not self._incoming:
                if scanned:
                    break
                self._incoming.scan()
                scanned = True
                continue
            try:
                lease = self._take(self._incoming.pop())
            except OSError:
                if not claims:
                    raise
                self._look_soon = True  # too many open files, say: first work with those that we have
                break
            if lease is not None:
                self._leases[lease.name] = lease
                claims.append(lease.claim())
        return claims

    def _take(self, name: str) -> Lease | None:
        """Lock a message and move it to `pending`; None where that cannot be done now."""
        try:
            fd = fs.open_message(os.path.join(self._incoming.path, name))
        except FileNotFoundError:
            self._met_another()
            return None
        except OSError as error:
            if error.errno not in fs.NO_MESSAGE:
                raise
            self._incoming.report(name, fs.NO_MESSAGE[error.errno])
            return None
        lease = None
        try:
            lease = self._claim_locked(name, fd)
        except FileNotFoundError:
            pass
        except (FileExistsError, BlockingIOError):
            # A message of that name is in work, and this one waits for its turn; or it is locked for long, by a
            # process that was stopped just after it had moved it here.
            self._look_soon = True
            return None
        finally:
            if lease is None or lease.fd != fd:
                os.close(fd)
        if lease is None:
            self._met_another()
        else:
            self._incoming.alone()
        return lease

    def _claim_locked(self, name: str, fd: int) -> Lease | None:
        source = os.path.join(self._incoming.path, name)
        pending = os.path.join(self._store.part("pending"), name)
        # Locked before it moves, so nobody ever sees our claim without its lock.
        for pause in _MOVED_PAUSES:
            if fs.try_lock(fd):
                break
            if not fs.is_at(fd, source):
                return None  # another instance has claimed it
            # Whoever moved it here is about to let go of it. To pass it over would be to change the order.
            time.sleep(pause)
        else:
            raise BlockingIOError
        if name in self._leases:
            raise FileExistsError  # it is on its way out of `outgoing`
        lease = self._store.lease(name, fd, "pending")
        fs.rename_exclusive(source, pending)
        if fs.is_at(fd, pending):
            return lease
        # RACE: the file that we locked was moved away before our rename, and another one of that name stood there.
        # That one is claimed now, and without a lock for this moment, which is far below orphan_age.
        other = fs.lock_message(pending)
        return None if other is None else self._store.lease(name, other, "pending")

    def _met_another(self) -> None:
        """Somebody else is at this message: there is more to find at the next look."""
        self._incoming.met()
        self._look_soon = True

    def _return_due(self) -> None:
        """Move messages whose next attempt is due back to `incoming`."""
        due = self._deferred.pop_due()
        for position, name in enumerate(due):
            try:
                self._return_one(name)
            except OSError:
                for left in due[position:]:
                    self._deferred.add(left, 1.0)
                raise

    def _return_one(self, name: str) -> None:
        fd = fs.lock_message(os.path.join(self._store.part("deferred"), name))
        if fd is None:
            return  # another instance was here first
        try:
            self._store.give_back(self._store.lease(name, fd, "deferred"), "incoming", name)
        except FileNotFoundError:
            pass
        finally:
            os.close(fd)

    def next_look(self) -> float | None:
        """Seconds until `claim` may find something that no arrival announces; None: nothing is known to come."""
        return SOON if self.busy() else self._deferred.seconds()

    def busy(self) -> bool:
        """Whether the last `claim` left something to claim, which somebody else was at, or which was over its limit."""
        return self._look_soon or bool(self._incoming)

    def watch(self) -> Watch:
        """Something that is readable when a message may have arrived. Raises OSError where nothing tells."""
        from piperkit.dirq.watch import Watch  # a queue that is not watched needs the standard library only

        return Watch(self._incoming.path)

    def claimed(self) -> list[str]:
        """The ids that this instance holds."""
        return list(self._leases)

    # -- working ---------------------------------------------------------------------------------------------

    def read(self, id: str) -> bytes:
        """The contents of a claimed message; it counts as in work from now on.

        Raises NotClaimed, and MessageTooLarge without reading it.
        """
        lease = self._lease(id)
        self._store.check_size(os.fstat(lease.fd).st_size)
        if not lease.begun:
            lease.begun = True
            self._write_instance()
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

        def step() -> None:
            # In `outgoing`, an earlier call was cut off: its contents are final.
            if data is not None and lease.part == "pending":
                self._begin_move(lease, target, data, recorded)
            self._store.deliver(lease, target)

        self._settle(lease, step)

    def _begin_move(self, lease: Lease, target: str, data: bytes, recorded: str | None) -> None:
        """Record where the message goes, if not to the next queue, and then its new contents."""
        if not os.path.isdir(os.path.join(target, "incoming")):  # before the new contents are final
            raise TargetUnavailable(f"{target} is not a queue: it has no directory 'incoming'")
        self._still_there(lease)
        if recorded != lease.record.target:
            self._store.take_own_name(lease)
            record = dataclasses.replace(lease.record, target=recorded)
            self._store.write_record(record, lease.name, self._store.clock())
            lease.record = record
        self._store.begin_move(lease, data)

    def duplicate(self, id: str, target: str) -> None:
        """Copy the message, as it is now, to the queue at the path `target`; it stays claimed. Raises as `commit`."""
        lease = self._lease(id)
        self._store.delivery.copy(lease.fd, target, lease.name)

    def cancel(self, id: str) -> None:
        """Delete the message. Raises NotClaimed."""
        lease = self._lease(id)
        self._settle(lease, lambda: self._store.drop(lease))

    def banish(self, id: str, failure: Failure) -> None:
        """Move the message to `errors`; NAME.meta, JSON, says why. Raises NotClaimed."""
        lease = self._lease(id)
        self._settle(lease, lambda: self._store.banish(lease, failure))

    def retry(self, id: str, delay: float, failure: Failure) -> None:
        """Put the message off for `delay` seconds; its attempt and failure are recorded. Raises NotClaimed."""
        lease = self._lease(id)
        delay = min(delay, _DELAY_MAX)
        name = self._store.own_name(lease)
        record = lease.record.failed(failure, self._store.timestamp())

        def step() -> None:
            if lease.part == "pending":  # in `outgoing`, its contents are final, and recovery delivers them
                self._store.write_record(record, name, self._store.clock() + int(delay * 1e9))
                self._deferred.add(self._store.give_back(lease, "deferred", name), delay)

        self._settle(lease, step)
        if lease.begun:
            self._write_instance()

    def requeue(self, id: str) -> None:
        """Give the message back to `incoming` as it is; no attempt is counted. Raises NotClaimed."""
        lease = self._lease(id)

        def step() -> None:
            if lease.part == "pending":  # as in `retry`
                self._store.give_back(lease, "incoming", lease.name)

        self._settle(lease, step)
        if lease.begun:
            self._write_instance()

    def _settle(self, lease: Lease, step: Callable[[], None]) -> None:
        """Do the step that ends a claim, have it synced, and end the claim.

        Where only the sync fails, the claim stays; whatever it is settled with next then syncs and ends it.
        """
        with self._store.syncer.operation(), self._gone_is_lost(lease):
            if not lease.settled:
                self._store.drop_original(lease)
                step()
                lease.settled = True
                fs.unlock(lease.fd)  # its next owner may claim it; the sync takes its time
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
        return {part: len(layout.message_names(self.path, part)) for part in layout.HOLDING}

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
            return max(0, limit - len(layout.message_names(self.next_queue, "incoming")))
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
        names.check_id(id)
        try:
            return self._leases[id]
        except KeyError:
            raise NotClaimed(f"{fs.display(id)} is not claimed by this instance") from None

    def _still_there(self, lease: Lease) -> None:
        with self._gone_is_lost(lease):
            if not fs.is_at(lease.fd, self._store.at(lease)):
                raise FileNotFoundError

    @contextlib.contextmanager
    def _gone_is_lost(self, lease: Lease) -> Iterator[None]:
        """A claimed file that is gone was removed by a program that does not keep to the protocol."""
        try:
            yield
        except FileNotFoundError:
            path = self._store.at(lease)
            if os.path.lexists(path):
                raise
            self._release(lease)
            raise NotClaimed(f"{fs.display(path)} was removed by another program while it was claimed") from None

    def _release(self, lease: Lease) -> None:
        del self._leases[lease.id]
        os.close(lease.fd)

    def _write_instance(self) -> None:
        try:
            self._instance.write(lease.name for lease in self._leases.values() if lease.begun)
        except OSError as error:
            # A full disk, say: then a message that kills this process is not known for it, but work goes on.
            self._logger.warning("what is in work cannot be written down in %s/state: %s", self.path, error)
