"""`DirectoryQueue`: the queue interface on a directory, and what this instance has claimed of it."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import logging
import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NoReturn, Self

from piperkit import naming
from piperkit.dirq import circle, deadletters, fs, layout, pausing
from piperkit.dirq.claiming import Claimer
from piperkit.dirq.deferred import Deferred
from piperkit.dirq.held import Held
from piperkit.dirq.incoming import SOON
from piperkit.dirq.instances import Instance
from piperkit.dirq.journal import Journal
from piperkit.dirq.limits import MIB
from piperkit.dirq.litter import LOOKED_AT
from piperkit.dirq.recovery import Recovery
from piperkit.dirq.store import Settings, Store
from piperkit.dirq.survey import Surveyor
from piperkit.dirq.sync import Sync
from piperkit.errors import LeftAlone, NoRoom, NotClaimed, QueueMissing, TargetUnavailable
from piperkit.message import Contents, Failure, encode
from piperkit.operating import HOLDING, Paused
from piperkit.queue import Outlet, Recovered, Survey
from piperkit.record import MessageRecord

if TYPE_CHECKING:
    from piperkit.dirq.watch import Watch


#: Messages that `enqueue_many` publishes together.
GROUP = 200
#: Messages in a row that are left alone since they cannot be read; then it is the disk, and not one of them.
_FAULTS_MAX = 3
#: Parts of `errors` that one call looks at for old messages.
_EXPIRE_PARTS = 20
#: Seconds, the longest delay of a retry: ten years, which every file system has a time stamp for.
_DELAY_MAX = 10 * 366 * 86400.0


class DirectoryQueue:
    """One instance's view of a queue. Not for several threads; any number of processes may share the directory.

    path: the queue's directory; made with its parts where missing, unless `create` is false.
    next_queue: where `commit` moves messages; None: it deletes them. Not made here.
    perms: octal mode of the parts where producers write; message files get it without execution. See `layout`.
    owner: (uid, gid) of what is made, where the process may give it away; None: the process's own.
    sync: what is on the disk when, see `piperkit.dirq.sync`.
    orphan_age: seconds after which a claim that no instance lists is taken back: it is a foreign program's.
    crash_limit: a message that was in work at this many deaths of a daemon is banished.
    message_max: bytes; a larger message is neither written nor read. 0: no limit.
    min_free: bytes that writing messages leaves free on the file system; 0: none;
        None: 64 MiB or 5 % of it, whichever is less.
    seal: copy messages of other accounts into a file of our own when they are claimed, so that nobody can change them.
    daemon: the name to leave in `errors`.
    elsewhere: opens a queue of another engine, by its address, to put messages into. Raises TargetUnavailable.

    Raises QueueMissing where the queue cannot be used. Besides what each method names, any may raise OSError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        next_queue: str | os.PathLike[str] | None = None,
        perms: int = layout.DEFAULT_PERMS,
        owner: tuple[int, int] | None = None,
        sync: Sync = Sync.BATCH,
        orphan_age: float = 10.0,
        crash_limit: int = 3,
        message_max: int = 64 * MIB,
        min_free: int | None = None,
        seal: bool = False,
        daemon: str = "",
        elsewhere: Callable[[str], Outlet] | None = None,
        create: bool = True,
        host: str | None = None,
        pid: int | None = None,
        clock: Callable[[], int] = time.time_ns,
        logger: logging.Logger | None = None,
    ) -> None:
        self.path = os.path.abspath(path)
        self.next_queue = None if next_queue is None else _place(next_queue)
        if create:
            layout.ensure_queue(self.path, perms, owner)
        elif not layout.is_queue(self.path):
            raise QueueMissing(f"{self.path} is not a queue: it lacks one of {', '.join(layout.PROTOCOL)}")
        settings = Settings(perms, owner, sync, message_max, min_free, daemon, elsewhere)
        self._logger = logger or logging.getLogger("piperkit")
        self._store = Store(self.path, settings, naming.Ids(host, pid, clock), self._logger, clock)
        parts = self._store.parts
        self._seal = seal
        self._instance = Instance(lambda: parts.instances, host, self._logger)
        self._store.announce = self._instance.also
        self._store.passes_on = next_queue is not None
        self._deferred = Deferred(parts, clock)
        self._claimer = Claimer(self._store, self._instance, self._deferred)
        self._recovery = Recovery(self._store, self._instance, self.next_queue, orphan_age, crash_limit)
        here = self.next_queue if self.next_queue is not None and self.next_queue.startswith("/") else None
        self._surveyor = Surveyor(self.path, here)
        self._expiring = fs.Walk(lambda: parts.errors)
        self._journal = Journal(lambda: parts.history)
        self._held: dict[str, Held] = {}  #: in the order in which they are worked on
        self._faults = 0  #: messages in a row that could not be read
        self._checked = False  #: that no instance of an earlier version is at work
        _queues.add(self)

    def connect(self) -> None:
        """It is there as long as its directory is."""

    def tell(self, waits_for: str | None) -> None:
        """There are no others."""

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
        path = os.path.abspath(path)
        source = fs.Directory(os.path.dirname(path)).open(os.path.basename(path))
        try:
            size = os.fstat(source).st_size
            self._store.limits.check_size(size)
            self._store.limits.check_room(size)
            return self._store.writer.publish(lambda fd: fs.copy_all(source, fd), name)
        finally:
            os.close(source)

    # -- claiming --------------------------------------------------------------------------------------------

    def claim(self, limit: int = 1) -> list[Held]:
        """Claim up to `limit` messages, oldest first among those that are there.

        What cannot be claimed now, because somebody else is at it, is found at a later look (`next_look`).
        Raises QueueInUse while an instance of an earlier version works on the queue, QueueMissing.
        """
        self._store.parts.refresh_sometimes()
        self._store.delivery.refresh()
        self._check_earlier()
        claimed = self._claimer.take(limit, self._held)
        for held in claimed:
            self._held[held.id] = held
        return [held for held in claimed if self._sealed(held)] if self._seal else claimed

    def paused(self) -> Paused | None:
        """Whether an operator has paused the queue, see `pausing`."""
        return pausing.paused(self.path)

    def note(self, lines: list[bytes]) -> None:
        """Keep lines of JSON about messages, see `journal`."""
        self._journal.append(lines)

    def _sealed(self, held: Held) -> bool:
        try:
            self._store.seal(held)
        except (OSError, NoRoom) as error:
            # A disk without room, say: it is given back, and claimed again when it may be better.
            with contextlib.suppress(NotClaimed):
                self._leave(held, error)
            return False
        return True

    def _check_earlier(self) -> None:
        if not self._checked:
            self._recovery.check_earlier()
            self._checked = True

    def next_look(self) -> float | None:
        """Seconds until `claim` may find something that no arrival announces; None: nothing is known to come."""
        return SOON if self.busy() else self._deferred.seconds()

    def busy(self) -> bool:
        """Whether the last `claim` left something to claim, which somebody else was at, or which was over its limit."""
        return self._claimer.busy()

    def watch(self) -> Watch:
        """Something that is readable when a message may have arrived. Raises OSError where nothing tells."""
        from piperkit.dirq.watch import Watch  # a queue that is not watched needs the standard library only

        with contextlib.suppress(FileNotFoundError):  # it is away now; `claim` will find it again, or say so
            self._check_earlier()
            self._instance.open()  # so that the others leave it its part
        return Watch(f"{self.path}/incoming", self._store.parts.refresh)

    def claimed(self) -> list[str]:
        """The ids that this instance holds."""
        return list(self._held)

    # -- working ---------------------------------------------------------------------------------------------

    def begin(self, id: str) -> None:
        """Work on a claimed message begins: if this instance dies now, it may be of this message.

        Raises NotClaimed, and MessageTooLarge, of which nothing is read.
        """
        held = self._get(id)
        try:
            self._store.limits.check_size(held.size)
        except OSError as error:
            self._unreadable(held, error)
            raise
        if not held.begun:
            self._begin(held)

    def read(self, id: str) -> bytes:
        """The contents of a claimed message. Raises as `begin`, which this is too."""
        held = self._held.get(id) or self._get(id)
        if not held.begun:
            if self._instance.working and held is next(iter(self._held.values())):
                held.begun = True  # as the order of the claims says already
            else:
                self._begin(held)
        try:
            data = self._store.read(held)
        except OSError as error:
            self._unreadable(held, error)
            raise
        self._faults = 0
        return data

    def _begin(self, held: Held) -> None:
        """Write down that work on it begins, where the order of the claims does not say so already."""
        held.begun = True
        try:
            if held is not next(iter(self._held.values())):
                self._instance.out_of_turn(held.name)
            elif not self._instance.working:
                self._instance.in_turn()
        except OSError as error:
            # A broken disk, say: then a message that kills this process is not known for it, but work goes on.
            self._store.notices.say(f"{self.path}/instances", f"what is in work cannot be written down: {error}")

    def _unreadable(self, held: Held, error: OSError) -> None:
        """Leave a claimed file alone that is not a message, or cannot be read. Raises NotClaimed then."""
        if isinstance(error, FileNotFoundError):
            self._lost(held)
        elif error.errno in fs.NO_MESSAGE or (error.errno in fs.OF_ONE_FILE and self._faults < _FAULTS_MAX):
            self._faults += error.errno not in fs.NO_MESSAGE
            self._leave(held, error)

    def _leave(self, held: Held, error: Exception) -> NoReturn:
        """Put a claimed file back that nothing can be done with, and leave it alone. Raises NotClaimed."""
        code = getattr(error, "errno", None)
        why = fs.NO_MESSAGE.get(code or 0)
        said = why or getattr(error, "strerror", None) or str(error)
        self._release(held)
        try:
            self._claimer.leave(held, said, until_changed=why is not None)
        except OSError as again:
            said += f", and it cannot be moved: {again.strerror}"
            self._store.notices.say(held.path, f"left alone, since {said}")
        raise LeftAlone(f"{fs.display(held.id)} is left alone, since {said}") from error

    def _is_stuck(self, held: Held) -> bool:
        """Whether the file can be moved nowhere at all: then that is its fault, and not that of any target."""
        probe = self._store.ids.new()
        try:
            held.where.rename(held.name, held.where, probe)
        except OSError:
            return True
        held.where.rename(probe, held.where, held.name)
        return False

    def update(self, id: str, contents: Contents) -> None:
        """Replace the contents: the old ones stay whole until the new ones are. Keeps arrival and attempts.

        Raises NotClaimed, NoRoom, MessageTooLarge.
        """
        held = self._get(id)
        self._still_there(held)
        self._store.replace(held, encode(contents))

    # -- settling --------------------------------------------------------------------------------------------

    def commit(self, id: str, contents: Contents | None = None) -> None:
        """Finished: move the message to the next queue, with new contents if given; delete it if there is none.

        Raises NotClaimed, TargetUnavailable, NoRoom, MessageTooLarge. After one of the last three the message is
        still claimed, and another call goes on where this one ended.
        """
        held = self._held.get(id) or self._get(id)
        if self.next_queue is None:
            self._settle(held, self._store.drop)
        elif contents is None:
            self._settle(held, self._store.deliver, self.next_queue)
        else:
            self._settle(held, self._deliver_new, self.next_queue, encode(contents), None)

    def dispatch(self, id: str, target: str, contents: Contents | None = None) -> None:
        """Finished: move the message to the queue at the absolute path `target`. Otherwise as `commit`."""
        held = self._held.get(id) or self._get(id)
        if contents is None:
            self._settle(held, self._store.deliver, target)
        else:
            self._settle(held, self._deliver_new, target, encode(contents), target)

    def _deliver_new(self, held: Held, target: str, data: bytes, recorded: str | None) -> None:
        if not held.final:  # in `outgoing`, an earlier call was cut off: its contents are final
            self._begin_move(held, target, data, recorded)
        self._store.deliver(held, target)

    def _begin_move(self, held: Held, target: str, data: bytes, recorded: str | None) -> None:
        """Record where the message goes, if not to the next queue, and then its new contents."""
        if target.startswith("/"):
            self._store.delivery.incoming(target)  # before the new contents are final
        else:
            self._store.delivery.outlet(target)
        self._still_there(held)
        if recorded != held.record.target:
            self._store.take_own_name(held)
            record = dataclasses.replace(held.record, target=recorded)
            self._store.write_record(held, record, held.name, self._store.clock())
            held.record = record
        self._store.begin_move(held, data)

    def duplicate(self, id: str, target: str) -> None:
        """Copy the message, as it is now, to the queue at the path `target`; it stays claimed. Raises as `commit`."""
        held = self._get(id)
        try:
            fd = held.where.open(held.name)
        except OSError as error:
            self._unreadable(held, error)
            raise
        try:
            self._store.delivery.copy(fd, target, held.name, self._store.limits.message_max or None)
        finally:
            os.close(fd)

    def cancel(self, id: str) -> None:
        """Delete the message. Raises NotClaimed."""
        self._settle(self._held.get(id) or self._get(id), self._store.drop)

    def banish(self, id: str, failure: Failure) -> None:
        """Move the message to `errors`; NAME.meta, JSON, says why. Raises NotClaimed."""
        self._settle(self._get(id), lambda held: self._store.banish(held, failure))

    def retry(self, id: str, delay: float, failure: Failure) -> None:
        """Put the message off for `delay` seconds; its attempt and failure are recorded. Raises NotClaimed."""
        held = self._get(id)
        self._put_off(held, delay, held.record.failed(failure, self._store.timestamp()))

    def postpone(self, id: str, delay: float, failure: Failure) -> None:
        """As `retry`, for a cause other than the message: no attempt is counted, but a wait."""
        held = self._get(id)
        self._put_off(held, delay, held.record.waited(failure, self._store.timestamp()))

    def _put_off(self, held: Held, delay: float, record: MessageRecord) -> None:
        if not held.settled:
            self._still_there(held)
        delay = min(delay, _DELAY_MAX)
        name = self._store.own_name(held)

        def step(held: Held) -> None:
            if not held.final:  # in `outgoing`, its contents are final, and recovery delivers them
                due = self._store.clock() + int(delay * 1e9)
                self._store.write_record(held, record, name, due)
                self._deferred.add(self._store.give_back(held, self._store.parts.deferred, name), due)

        self._settle(held, step)
        self._relist()

    def requeue(self, id: str) -> None:
        """Give the message back to `incoming` as it is; no attempt is counted. Raises NotClaimed."""

        def step(held: Held) -> None:
            if not held.final:  # as in `retry`
                self._store.give_back(held, self._store.parts.incoming, held.name)

        self._settle(self._get(id), step)
        self._relist()

    def _relist(self) -> None:
        """List what is still held: nobody recovers another instance's claim of a name that is listed by us."""
        mine = list(self._held.values())
        with contextlib.suppress(OSError):
            self._instance.announce([each.name for each in mine], bool(mine) and mine[0].begun)

    def _settle(self, held: Held, step: Callable[..., object], *args: object) -> None:
        """Do the step that ends a claim, with the claim and `args`, have it synced, and end the claim.

        Where only the sync fails, the claim stays; whatever it is settled with next then syncs and ends it.
        """
        syncer = self._store.syncer
        syncer.depth += 1
        try:
            if not held.settled:
                if held.replaced:
                    self._store.drop_original(held)
                step(held, *args)
                held.settled = True
        except FileNotFoundError:
            self._lost(held)
            raise
        except (OSError, TargetUnavailable) as error:
            code = getattr(_cause(error), "errno", None)
            if code in (errno.EISDIR, errno.ELOOP) or (code in fs.OF_ONE_FILE and self._is_stuck(held)):
                self._leave(held, _cause(error))
            raise
        finally:
            if syncer.depth > 1:
                syncer.depth -= 1  # without a call: what is done most is done in a batch
            else:
                syncer.leave()
        # As `_release`, without a call.
        del self._held[held.id]
        if held.begun and self._instance.begun:
            self._instance.settled(held.name)

    # -- looking after the queue -----------------------------------------------------------------------------

    def recover(self) -> Recovered:
        """Give back the claims of dead instances, finish the moves that they had begun, remove litter.

        Idempotent, and safe side by side: one instance does it at a time. A message that was in work when its
        instance died has that attempt counted, and is banished after `crash_limit` deaths. Raises as `claim`.
        """
        self._store.parts.refresh()
        self._relist()
        return self._recovery.run(frozenset(held.name for held in self._held.values()))

    def expire_errors(self, age: float) -> int:
        """Delete messages that have been in `errors` for `age` seconds, with what is beside them; returns how many.

        A call looks at a bounded part of them, and the next one at the next part.
        """
        before = self._store.clock() / 1e9 - age
        for _ in range(_EXPIRE_PARTS):
            found = self._expiring.some(LOOKED_AT)
            expired = deadletters.expire(self._store.parts.errors, found, before, self._store.notices)
            if expired or self._expiring.ended:
                return expired
        return 0

    def counts(self) -> dict[str, int]:
        """The number of messages in each part; sidecars and whatever is not a message are not counted."""
        return {part: self.count(part) for part in HOLDING}

    def count(self, part: str, most: int | None = None) -> int:
        """The number of messages in one part, counted up to `most`."""
        return layout.count_messages(self.path, part, most)

    def survey(self) -> Survey:
        """How full the queue and the next queue are, at a bounded cost; see `piperkit.dirq.survey`. For any thread."""
        return self._surveyor.survey()

    def room(self, limit: int, target: str | None = None) -> int:
        """How many messages fit into `incoming` of the next queue, or that at `target`, until it holds `limit`; counted
        afresh. Raises TargetUnavailable where that queue is not there.
        """
        target = target or self.next_queue
        if target is None:
            return limit
        if not target.startswith("/"):
            return self._store.delivery.outlet(target).room(limit)
        try:
            return limit - layout.count_messages(target, "incoming", limit)
        except (QueueMissing, OSError, ValueError) as error:
            raise TargetUnavailable(str(error)) from error

    def waits_for_room(self, waits: bool) -> tuple[str, ...]:
        """Tell the daemons of other queues whether this one's waits for room in its next queue; returns the queues that
        wait for one another in a circle, if it is in one.
        """
        if self.next_queue is None or not self.next_queue.startswith("/"):
            return ()
        if not waits:
            circle.unmark(self.path)
            return ()
        circle.mark(self.path, self.next_queue)
        return circle.find(self.path, self.next_queue)

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Operations that become durable together, at the end of the block."""
        with self._store.syncer.batch():
            yield
            if not any(held.begun for held in self._held.values()):
                self._instance.rest()  # the sync takes its time

    def close(self) -> None:
        """Give back every claim and end this instance. Idempotent."""
        for id, held in list(self._held.items()):
            try:
                self.requeue(id)
            except (NotClaimed, OSError) as error:
                self._logger.warning(
                    "%s: not given back, but recovery will: %s", fs.display(id), error, extra={"message_id": id}
                )
                if id in self._held:
                    self._release(held)
        self._instance.close()
        self._expiring.close()
        self._store.delivery.refresh()
        self._store.delivery.close()
        self._store.parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- what is held ----------------------------------------------------------------------------------------

    def _get(self, id: str) -> Held:
        held = self._held.get(id)
        if held is None:
            naming.check_id(id)
            raise NotClaimed(f"{fs.display(id)} is not claimed by this instance")
        return held

    def _still_there(self, held: Held) -> None:
        try:
            there = self._store.holds(held)
        except FileNotFoundError:
            there = False
        if not there:
            self._lost(held)
            raise FileNotFoundError(errno.ENOENT, "another file has its name", held.path)

    def _lost(self, held: Held) -> None:
        """A claimed file that is gone was taken by a program that keeps to no protocol. Raises NotClaimed then."""
        if not held.settled and not held.where.has(held.name):
            self._release(held)
            raise NotClaimed(f"{fs.display(held.path)} was removed by another program while it was claimed") from None

    def _release(self, held: Held) -> None:
        del self._held[held.id]
        if held.begun and self._instance.begun:
            self._instance.settled(held.name)

    def _forget(self) -> None:
        """This is a forked child now: the claims are its parent's."""
        self._held.clear()
        self._instance.let_go()
        self._store.parts.close()


def _place(queue: str | os.PathLike[str]) -> str:
    """The absolute path of a queue, or the address of one that another engine keeps."""
    text = os.fspath(queue)
    return text if "://" in text else os.path.abspath(text)


def _cause(error: Exception) -> Exception:
    """The error of the system behind an error, if there is one."""
    return error.__cause__ if isinstance(error.__cause__, OSError) else error


_queues: weakref.WeakSet[DirectoryQueue] = weakref.WeakSet()


def _forget_in_child() -> None:
    for queue in list(_queues):
        queue._forget()


os.register_at_fork(after_in_child=_forget_in_child)
