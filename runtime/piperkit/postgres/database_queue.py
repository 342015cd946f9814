"""`DatabaseQueue`: the queue interface in a database, and what this instance has claimed of it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Self

from piperkit.errors import (
    ConfigError,
    LeftAlone,
    MessageTooLarge,
    NotClaimed,
    PiperError,
    QueueError,
    TargetUnavailable,
)
from piperkit.message import Contents, Failure, encode
from piperkit.naming import Ids, check_id
from piperkit.operating import HOLDING, Paused
from piperkit.postgres import schema, statements
from piperkit.postgres.address import Address, is_address
from piperkit.postgres.changes import Change, Changes, Kind
from piperkit.postgres.claims import INLINE, Claimer, Held, write_record
from piperkit.postgres.connection import Connection
from piperkit.postgres.lease import Lease
from piperkit.postgres.outlets import Outlets
from piperkit.postgres.recovery import Recovery
from piperkit.postgres.survey import Surveyor
from piperkit.postgres.watch import Watch
from piperkit.queue import Outlet, Recovered, Survey
from piperkit.record import MessageRecord, iso

MIB = 1 << 20
#: Seconds for which it is believed that the queue is not paused, unless the server tells otherwise.
_PAUSED_LOOK = 2.0
#: Seconds for which the numbers of other queues are believed.
_TARGETS_AGE = 60.0
#: Dead letters that one call deletes.
_EXPIRE = 1000
#: Seconds, the longest delay of a retry: ten years, as in a directory.
_DELAY_MAX = 10 * 366 * 86400.0
#: Queues in a circle, at the most.
_CIRCLE_MAX = 32
#: What is notified besides arrivals: an operator has paused the queue, or has it go on.
PAUSE_CHANGED = "pause"


class DatabaseQueue:
    """One instance's view of a queue. Not for several threads; any number of processes on any machine may share it.

    address: the queue's. Nothing is made; it has to be there.
    next_queue: where `commit` moves messages, an address or, with `elsewhere`, a queue of another engine; None: it
        deletes them.
    durable: whether what is done is on the server's disk when a batch ends.
    at_once: each operation is done by itself, and not with its batch.
    crash_limit, message_max, daemon: as for `DirectoryQueue`.
    password_file: see `Connection`.
    elsewhere: opens a queue of another engine, to put messages into. Raises TargetUnavailable.

    Nothing is asked of the server yet. Besides what each method names, any may raise QueueAway and QueueMissing.
    """

    def __init__(
        self,
        address: str,
        *,
        next_queue: str | None = None,
        durable: bool = True,
        at_once: bool = False,
        crash_limit: int = 3,
        message_max: int = 64 * MIB,
        daemon: str = "",
        password_file: str | None = None,
        elsewhere: Callable[[str], Outlet] | None = None,
        host: str | None = None,
        pid: int | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        self.address = Address.parse(address)
        self.path = str(self.address)
        self.next_queue = next_queue
        self._logger = logger or logging.getLogger("piperkit")
        self._daemon = daemon
        self._at_once = at_once
        self._message_max = message_max
        self._ids = Ids(host, pid)
        self._connection = Connection(self.address, daemon, password_file, durable=durable)
        self._connection.opened.append(self._opened)
        self._connection.notified = self._notified
        self._lease = Lease(self._connection, host, daemon)
        self._claimer = Claimer(self._connection)
        self._changes = Changes(self._connection, self._ids.new)
        self._recovery = Recovery(self._connection, crash_limit, daemon, self._ids.host, self._logger)
        self._surveyor = Surveyor(self.address, next_queue, password_file)
        self._number = 0  #: of the queue
        self._watch: Watch | None = None
        self._listens = False
        self._paused: Paused | None = None
        self._paused_look = 0.0
        self._targets: dict[str, tuple[float, int]] = {}
        self._held: dict[str, Held] = {}
        self._begun: dict[str, None] = {}  #: of those, in the order in which work on them began
        self._lost: set[str] = set()  #: those that were, and are others' since the connection was lost
        self._finished: set[str] = set()  #: those of which it was not known that they were settled
        self._depth = 0  #: of batches
        self._settled = 0  #: messages, in all
        self._waits_for: str | None = None
        self._outlets = Outlets(elsewhere)

    # -- the connection --------------------------------------------------------------------------------------

    def _opened(self) -> None:
        """There is a new session: have again what was lost with the old one."""
        self._number = schema.number(self._connection, self.address.queue)
        still = self._lease.again(self._number)
        self._listens = False
        if self._watch is not None:
            self._listen()
        self._paused_look = 0.0
        self._targets.clear()
        self._claimer.rewind()
        if still is None:
            return
        settled = self._changes.settled()
        done = self._changes.settle_doubt(still)
        lost = self._held.keys() - still
        for id in lost:
            self._end(self._held[id])
            (self._finished if done and id in settled else self._lost).add(id)
        if not done:
            lost |= settled - still
        elif settled:
            lost -= settled
        if lost:
            self._logger.warning(
                "%d messages that were claimed have been given to others, since the connection was lost", len(lost)
            )

    def connect(self) -> None:
        """Ask the server whether the queue is there. Raises QueueAway, QueueMissing."""
        self._connection.session()

    def _notified(self, of: str, payload: str) -> None:
        if payload == PAUSE_CHANGED:
            self._paused_look = 0.0
        else:
            self._claimer.rewind()
        if self._watch is not None:
            self._watch.ring()

    # -- producing -------------------------------------------------------------------------------------------

    def enqueue(self, contents: Contents, name: str | None = None) -> str:
        """Publish a message and return its id. Atomic, and committed when this returns.

        Raises InvalidId, NoRoom, MessageTooLarge.
        """
        data = encode(contents)
        self._check_size(len(data))
        self._connection.session()
        id = statements.checked(name or self._ids.new())
        while True:
            try:
                statements.put(self._connection, self._number, [id], [data])
                return id
            except QueueError as error:
                if not statements.is_taken(error):
                    raise
                id = self._ids.new()

    def enqueue_many(self, contents: Iterable[Contents]) -> list[str]:
        """Publish messages in groups, each all or none, and return their ids. Raises as `enqueue`: the groups before
        the one that failed are there then.
        """
        found: list[str] = []
        self._connection.session()
        for group in statements.grouped(map(encode, contents)):
            for data in group:
                self._check_size(len(data))
            ids = [self._ids.new() for _ in group]
            statements.put(self._connection, self._number, ids, group)
            found += ids
        return found

    def _check_size(self, size: int) -> None:
        if 0 < self._message_max < size:
            raise MessageTooLarge(f"the message has {size} bytes, more than message_max, {self._message_max}")

    # -- claiming --------------------------------------------------------------------------------------------

    def paused(self) -> Paused | None:
        """Whether an operator has paused the queue; the server is asked now and then, and when it has told of that."""
        now = time.monotonic()
        if now >= self._paused_look:
            try:
                self._connection.session()
                self._paused = statements.read_paused(self._connection, self._number)
            except QueueError:
                return self._paused  # `claim` will say it
            self._paused_look = now + _PAUSED_LOOK
        if self._paused is not None and self._paused.until is not None and self._paused.until <= time.time():
            self._paused = None
        return self._paused

    def claim(self, limit: int = 1) -> list[Held]:
        """Claim up to `limit` messages, oldest first."""
        self._connection.session()
        if self._watch is not None:
            self._watch.clear()
        found = self._claimer.take(self._number, self._lease.take(self._number), limit)
        for held in found:
            self._held[held.id] = held
            self._lost.discard(held.id)
            self._finished.discard(held.id)
        return found

    def next_look(self) -> float | None:
        """Seconds until something is due, as the server's clock has it."""
        if self.busy():
            return 0.0
        try:
            self._connection.session()
            query = (
                "SELECT extract(epoch FROM min(due) - clock_timestamp())::float8 FROM piper.message"
                " WHERE queue = %s AND part = 'deferred'"
            )
            seconds = self._connection.rows(query, (self._number,))[0][0]
        except QueueError:
            return None
        return None if seconds is None else max(0.0, seconds)

    def busy(self) -> bool:
        """Whether the last `claim` left something to claim."""
        return self._claimer.busy()

    def watch(self) -> Watch:
        """Something that is readable when the server tells of an arrival, or of a pause."""
        self._watch = Watch(self._connection, self._listen)
        return self._watch

    def _listen(self) -> None:
        self._connection.session()
        self._lease.take(self._number)  # so that others see us
        if not self._listens:
            self._connection.run(f"LISTEN {statements.channel(self._number)}")
            self._listens = True

    def claimed(self) -> list[str]:
        """The ids that this instance holds."""
        return list(self._held)

    # -- working ---------------------------------------------------------------------------------------------

    def begin(self, id: str) -> None:
        """Work on a claimed message begins. Raises NotClaimed, MessageTooLarge."""
        held = self._get(id)
        if id in self._begun:
            return
        self._check_size(held.size)
        self._lease.works_on(id, held.suspect or not (self._begun or self._changes))
        self._begun[id] = None

    def read(self, id: str) -> bytes:
        """The contents of a claimed message. Raises as `begin`, which this is too."""
        self.begin(id)
        held = self._held[id]
        if held.data is None:
            found = self._connection.rows(
                "SELECT contents FROM piper.body WHERE number = %s", (held.body,), binary=True
            )
            if not found:
                self._end(held)
                raise NotClaimed(f"{id} was removed by somebody else while it was claimed")
            data = bytes(found[0][0])
            if held.size > INLINE:
                return data
            held.data = data
        return held.data

    def update(self, id: str, contents: Contents) -> None:
        """Replace the contents. Raises NotClaimed, MessageTooLarge."""
        held, data = self._get(id), encode(contents)
        self._check_size(len(data))
        self._do(Change(Kind.UPDATE, held, data=data))
        held.data, held.size = data, len(data)

    # -- settling --------------------------------------------------------------------------------------------

    def commit(self, id: str, contents: Contents | None = None) -> None:
        """Finished: move the message to the next queue, with new contents if given; delete it if there is none.

        Raises NotClaimed, TargetUnavailable, NoRoom, MessageTooLarge; then the message is still claimed.
        """
        if self.next_queue is None:
            self._do(Change(Kind.DELETE, self._get(id)))
        else:
            self._move(self._get(id), self.next_queue, contents)

    def dispatch(self, id: str, target: str, contents: Contents | None = None) -> None:
        """Finished: move the message to the queue `target`. Otherwise as `commit`."""
        self._move(self._get(id), target, contents)

    def _move(self, held: Held, target: str, contents: Contents | None) -> None:
        data = None if contents is None else encode(contents)
        if data is not None:
            self._check_size(len(data))
        number = self._target(target)
        if number is None:
            self._outlets.put(target, held.id, held.arrived, self._contents(held) if data is None else data)
            self._do(Change(Kind.DELETE, held))
        else:
            changed = [] if data is None else [Change(Kind.UPDATE, held, data=data)]
            self._do(*changed, Change(Kind.MOVE, held, number))

    def duplicate(self, id: str, target: str) -> None:
        """Copy the message, as it is now, to the queue `target`; it stays claimed. Raises as `commit`."""
        held = self._get(id)
        number = self._target(target)
        if number is None:
            self._outlets.put(target, held.id, held.arrived, self._contents(held))
            if not self._depth or self._at_once:
                self._outlets.sync()
        else:
            self._do(Change(Kind.COPY, held, number))

    def _contents(self, held: Held) -> bytes:
        return held.data if held.data is not None else self.read(held.id)

    def cancel(self, id: str) -> None:
        """Delete the message. Raises NotClaimed."""
        self._do(Change(Kind.DELETE, self._get(id)))

    def banish(self, id: str, failure: Failure) -> None:
        """Make the message a dead letter; the report about it is beside it. Raises NotClaimed."""
        held = self._get(id)
        attempts = held.record.attempts + (id in self._begun)
        report = held.record.report(
            failure,
            iso(time.time_ns()),
            id=id,
            name=id,
            arrived=iso(round(held.arrived * 1e9)),
            host=self._ids.host,
            daemon=self._daemon,
            attempts=attempts,
        )
        self._do(Change(Kind.BANISH, held, record=statements.dump(report), attempts=attempts))

    def retry(self, id: str, delay: float, failure: Failure) -> None:
        """Put the message off for `delay` seconds; its attempt and failure are recorded. Raises NotClaimed."""
        held = self._get(id)
        self._put_off(held, delay, held.record.failed(failure, iso(time.time_ns())))

    def postpone(self, id: str, delay: float, failure: Failure) -> None:
        """As `retry`, for a cause other than the message: no attempt is counted, but a wait."""
        held = self._get(id)
        self._put_off(held, delay, held.record.waited(failure, iso(time.time_ns())))

    def _put_off(self, held: Held, delay: float, record: MessageRecord) -> None:
        text = write_record(record, held.suspect)
        seconds = float(min(delay, _DELAY_MAX))  # psycopg takes no array of several types
        self._do(Change(Kind.PUT_OFF, held, record=text, attempts=record.attempts, delay=seconds))

    def requeue(self, id: str) -> None:
        """Give the message back as it is; no attempt is counted. Raises NotClaimed."""
        self._do(Change(Kind.GIVE_BACK, self._get(id)))

    def _do(self, *changes: Change) -> None:
        """Have changes of one message done, now or at the end of the batch."""
        held = changes[0].held
        if self._depth and not self._at_once:
            for change in changes:
                self._changes.add(change)
            if changes[-1].settles:
                self._end(held)
            if self._changes.full:
                with contextlib.suppress(QueueError):  # the end of the batch says it
                    self.flush()
            return
        self._connection.session()  # with a new one it is known what became of an attempt that was cut off
        if held.id in self._finished:
            self._finished.discard(held.id)
            return
        self._get(held.id)
        self._changes.forget(held.id)
        for change in changes:
            self._changes.add(change)
        try:
            self._outlets.sync()
            gone = self._changes.flush(self._number, self._lease.holder, sure=True)
        except BaseException:
            if not self._changes.in_doubt:
                self._changes.clear()
            raise
        if changes[-1].settles or gone:
            self._end(held)
        if gone:
            raise NotClaimed(f"{held.id} was taken by somebody else while it was claimed")

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Operations that are one transaction, at the end of the block. Where that fails, the next end does them."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self.flush()

    def flush(self) -> None:
        """Do what was collected."""
        self._outlets.sync()  # what another engine has for good is deleted here then
        gone = self._changes.flush(self._number, self._lease.holder)
        if gone:
            self._logger.warning("%d messages were taken by somebody else while they were claimed", gone)

    # -- looking after the queue -----------------------------------------------------------------------------

    def recover(self) -> Recovered:
        """Give back the claims of dead instances. Idempotent, and safe side by side."""
        self._connection.session()
        holder = self._lease.take(self._number)
        self._lease.tell(self._settled, self._waits_for)
        return self._recovery.run(self._number, holder)

    def tell(self, waits_for: str | None) -> None:
        """What this instance waits for, for people on other machines."""
        self._waits_for = waits_for
        if self._lease.holder and self._connection.is_open:
            with contextlib.suppress(QueueError):
                self._lease.tell(self._settled, waits_for)

    def expire_errors(self, age: float) -> int:
        """Delete dead letters that are `age` seconds old; returns how many. A call deletes a bounded number."""
        self._connection.session()
        statement = f"""
            WITH old AS (
                SELECT ctid FROM piper.message WHERE queue = %s AND part = 'errors'
                    AND due < clock_timestamp() - %s * interval '1 s' LIMIT {_EXPIRE} FOR UPDATE SKIP LOCKED
            ), gone AS (DELETE FROM piper.message AS m USING old WHERE m.ctid = old.ctid RETURNING m.body),
            contents AS (DELETE FROM piper.body AS b USING gone WHERE b.number = gone.body)
            SELECT count(*) FROM gone"""
        return int(self._connection.rows(statement, (self._number, age))[0][0])

    def counts(self) -> dict[str, int]:
        """The number of messages in each part."""
        self._connection.session()
        query = "SELECT part::text, count(*) FROM piper.message WHERE queue = %s GROUP BY part"
        found: dict[str, int] = dict(self._connection.rows(query, (self._number,)))
        return {part: found.get(part, 0) for part in HOLDING}

    def count(self, part: str, most: int | None = None) -> int:
        """The number of messages in one part, counted up to `most`."""
        self._connection.session()
        return statements.count(self._connection, self._number, part, most)

    def survey(self) -> Survey:
        """How full the queue and the next queue are, at a bounded cost. For any thread."""
        return self._surveyor.survey()

    def room(self, limit: int, target: str | None = None) -> int:
        """How many messages the next queue, or that at `target`, can take until it holds `limit`; counted afresh.

        Raises TargetUnavailable.
        """
        target = target or self.next_queue
        if target is None:
            return limit
        self.flush()  # what is on its way there takes room, too
        number = self._target(target)
        if number is None:
            return self._outlets.room(target, limit)
        return limit - statements.count(self._connection, number, "incoming", limit)

    def waits_for_room(self, waits: bool) -> tuple[str, ...]:
        """See `piperkit.queue.Queue`: the circle is looked for in this database only."""
        if self.next_queue is None or not is_address(self.next_queue):
            return ()
        self._connection.session()
        following = Address.parse(self.next_queue)
        self._connection.run(
            "UPDATE piper.instance SET full_queue = %s WHERE holder = %s",
            (following.queue if waits else None, self._lease.holder),
        )
        if not waits or following.database != self.address.database:
            return ()
        query = (
            "SELECT q.name, i.full_queue FROM piper.instance AS i JOIN piper.queue AS q ON q.number = i.queue"
            " WHERE i.full_queue IS NOT NULL AND i.seen > clock_timestamp() - interval '5 min'"
        )
        onwards: dict[str, str] = dict(self._connection.rows(query))
        path = [self.address.queue]
        while len(path) < _CIRCLE_MAX and path[-1] in onwards:
            path.append(onwards[path[-1]])
            if path[-1] == path[0]:
                return tuple(path)
        return ()

    def note(self, lines: list[bytes]) -> None:
        """Keep lines of JSON in the queue's history. Raises nothing for their sake."""
        if self._connection.is_open:
            with contextlib.suppress(QueueError):
                statements.write_history(self._connection, self._number, lines)

    def close(self) -> None:
        """Give back every claim and end this instance. Idempotent."""
        for id in list(self._held):
            self._changes.add(Change(Kind.GIVE_BACK, self._held[id]))
        try:
            if self._connection.is_open or self._changes:
                self.flush()
                self._lease.end()
        except PiperError as error:
            self._logger.warning("what was claimed is not given back, but recovery will: %s", error)
        self._held.clear()
        self._begun.clear()
        self._changes.clear()
        self._outlets.close()
        self._surveyor.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- what is held ----------------------------------------------------------------------------------------

    def _get(self, id: str) -> Held:
        held = self._held.get(id)
        if held is None:
            check_id(id)
            if id in self._lost:
                self._lost.discard(id)
                raise LeftAlone(f"{id} has been given to somebody else, since the connection was lost")
            raise NotClaimed(f"{id} is not claimed by this instance")
        return held

    def _end(self, held: Held) -> None:
        """Its claim has ended."""
        self._held.pop(held.id, None)
        self._begun.pop(held.id, None)
        self._settled += 1

    def _target(self, target: str) -> int | None:
        """The number of a queue in this database; None: it is elsewhere. Raises TargetUnavailable."""
        if not is_address(target):
            return None
        known = self._targets.get(target)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        try:
            address = Address.parse(target)
        except ConfigError as error:
            raise TargetUnavailable(str(error)) from None
        if address.database != self.address.database:
            return None
        found = self._connection.rows("SELECT number FROM piper.queue WHERE name = %s", (address.queue,))
        if not found:
            raise TargetUnavailable(f"there is no queue {address}: piperctl queue create {address.quoted}")
        self._targets[target] = (time.monotonic() + _TARGETS_AGE, int(found[0][0]))
        return int(found[0][0])
