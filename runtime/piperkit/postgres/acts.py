"""What an operator does with messages in a database that nobody works on, beside the daemons that do.

`Operator` is a `piperkit.operating.Operator`. Each act is a transaction of its own, which takes the message's row for
itself first, as it was listed: who comes later finds it elsewhere. The acts of a batch are durable at its end, with
their lines in the history.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from piperkit.errors import QueueError, TargetUnavailable
from piperkit.message import Failure
from piperkit.naming import Ids
from piperkit.operating import RESTING, Copy, Entry, Paused
from piperkit.postgres import schema, statements
from piperkit.postgres.address import Address, is_address
from piperkit.postgres.claims import read_record, write_record
from piperkit.postgres.connection import Connection
from piperkit.postgres.database_queue import PAUSE_CHANGED
from piperkit.queue import Outlet
from piperkit.record import MessageRecord, iso

_AT = "queue = %(queue)s AND id = %(id)s"


class Operator:
    """Acts on the messages of the queue at an address.

    who: whom a message's history names. elsewhere: opens queues of other engines, to move messages there.
    The methods raise FileNotFoundError where the message has moved on, or another one has its id; each act is atomic.
    """

    def __init__(self, address: str, who: str, elsewhere: Callable[[str], Outlet]) -> None:
        self.address = Address.parse(address)
        self.path = str(self.address)
        self._who = who
        self._elsewhere = elsewhere
        self._connection = Connection(self.address, "piperctl", durable=False)
        self._number = schema.number(self._connection, self.address.queue)
        self._ids = Ids()
        self._lines: list[bytes] = []  #: of the history, not yet written
        self._outlets: dict[str, Outlet] = {}
        self._moving: list[tuple[Entry, str]] = []  #: put elsewhere, and not yet deleted here
        self._depth = 0

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Acts that become durable together, at the end of the block; so are their lines in the history."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            self._end()

    def _end(self) -> None:
        if self._depth:
            return
        for outlet in self._outlets.values():
            outlet.sync()
        moving, self._moving = self._moving, []
        for entry, _ in moving:
            self._delete(entry.id)
        lines, self._lines = self._lines, []
        if not lines:
            return
        # One durable commit makes all those before it durable.
        with self._connection.transaction():
            self._connection.run("SET LOCAL synchronous_commit = on")
            statements.write_history(self._connection, self._number, lines)

    def _tell(self, entry: Entry, what: str, **more: str) -> None:
        """Keep in the history what was done."""
        told = {"t": round(time.time(), 6), "id": entry.id, "queue": self.path, "what": what, "by": self._who}
        self._lines.append(json.dumps({**told, **{key: value for key, value in more.items() if value}}).encode())
        self._end()

    @contextlib.contextmanager
    def _taken(self, entry: Entry) -> Iterator[tuple[int, str | None]]:
        """The message is ours in this block, a transaction: its attempts and record. Raises FileNotFoundError."""
        if entry.part not in RESTING:
            raise FileNotFoundError(errno.ENOENT, "it is in work", entry.path)
        with self._connection.transaction():
            query = (
                "SELECT part::text, extract(epoch FROM arrived)::float8, attempts, record::text FROM piper.message"
                f" WHERE {_AT} FOR UPDATE"
            )
            found = self._connection.rows(query, {"queue": self._number, "id": entry.id})
            if not found or found[0][:2] != (entry.part, entry.arrived):
                raise FileNotFoundError(errno.ENOENT, "it has moved on, or another message has its id", entry.path)
            yield found[0][2], found[0][3]

    def _put(self, id: str, part: str, attempts: int, record: str | None) -> None:
        self._connection.run(
            "UPDATE piper.message SET part = %(part)s::text::piper.part, attempts = %(attempts)s, record = %(record)s,"
            f" due = CASE WHEN %(part)s::text = 'errors' THEN clock_timestamp() END WHERE {_AT}",
            {"queue": self._number, "id": id, "part": part, "attempts": attempts, "record": record},
        )
        if part == "incoming":
            self._notify(self._number)

    def _notify(self, queue: int, payload: str = "") -> None:
        self._connection.rows("SELECT pg_notify(%s, %s)", (statements.channel(queue), payload))

    def _said(self, what: str, reason: str = "") -> str:
        return f"{what} by {self._who}{f': {reason}' if reason else ''}"

    def _now(self) -> str:
        return iso(time.time_ns())

    # -- acts ------------------------------------------------------------------------------------------------

    def requeue(self, entry: Entry) -> None:
        """Have a message tried again now; a dead letter as if it were new, but for its history."""
        with self._taken(entry) as (attempts, text):
            if entry.part == "errors":
                report: dict[str, Any] = json.loads(text) if text else {}
                record = MessageRecord.afresh(report, self._said("requeued"), self._now())
                self._put(entry.id, "incoming", 0, write_record(record))
            elif entry.part == "hold":
                self._put(entry.id, "incoming", attempts, self._noted(attempts, text, self._said("released")))
            elif entry.part == "deferred":
                self._put(entry.id, "incoming", attempts, text)
        if entry.part != "incoming":
            self._tell(entry, "released" if entry.part == "hold" else "requeued")

    def _noted(self, attempts: int, text: str | None, what: str) -> str | None:
        record, suspect = read_record(attempts, text)
        return write_record(record.noted(what, self._now()), suspect)

    def hold(self, entry: Entry, reason: str) -> None:
        """Have a message wait in `hold`: one that is in `incoming` or `deferred`. A dead letter waits already."""
        with self._taken(entry) as (attempts, text):
            if entry.part in ("incoming", "deferred"):
                self._put(entry.id, "hold", attempts, self._noted(attempts, text, self._said("held", reason)))
        if entry.part in ("incoming", "deferred"):
            self._tell(entry, "held", reason=reason)

    def banish(self, entry: Entry, reason: str) -> None:
        """Make a message a dead letter, for that reason."""
        if entry.part == "errors":
            return
        with self._taken(entry) as (attempts, text):
            record, _ = read_record(attempts, text)
            facts = record.report(
                Failure(self._said("banished", reason)),
                self._now(),
                id=entry.id,
                name=entry.id,
                arrived=iso(round(entry.arrived * 1e9)),
                host=self._ids.host,
                daemon="",
            )
            self._put(entry.id, "errors", attempts, statements.dump(facts))
        self._tell(entry, "banished", reason=reason)

    def remove(self, entry: Entry) -> None:
        """Delete a message, with what is known of it."""
        with self._taken(entry):
            self._delete(entry.id)
        self._tell(entry, "deleted")

    def _delete(self, id: str) -> None:
        self._connection.run(
            f"WITH gone AS (DELETE FROM piper.message WHERE {_AT} RETURNING body)"
            " DELETE FROM piper.body USING gone WHERE number = gone.body",
            {"queue": self._number, "id": id},
        )

    def move(self, entry: Entry, target: str) -> None:
        """Move a message to another queue, where it is new. Raises TargetUnavailable.

        To another engine, in three steps: it is held back, put there, and deleted here. Cut off in between it is held
        back still, and moving it again does what is left.
        """
        number = self._in_database(target)
        if number is not None:
            with self._taken(entry):
                name = entry.id
                if statements.taken(self._connection, number, [name]):
                    name = self._ids.new()
                self._connection.run(
                    f"UPDATE piper.message SET queue = %(target)s, id = %(name)s, part = 'incoming', attempts = 0,"
                    f" record = NULL, due = NULL WHERE {_AT}",
                    {"queue": self._number, "id": entry.id, "target": number, "name": name},
                )
                self._notify(number)
            self._tell(entry, "moved", to=target)
            return
        outlet = self._outlets.get(target)
        if outlet is None:
            outlet = self._outlets[target] = self._elsewhere(target)
        with self._taken(entry) as (attempts, text):
            if entry.part != "errors":
                self._put(entry.id, "hold", attempts, self._noted(attempts, text, self._said("on its way", target)))
            data = self._connection.rows(
                "SELECT b.contents FROM piper.message AS m JOIN piper.body AS b ON b.number = m.body"
                " WHERE m.queue = %s AND m.id = %s",
                (self._number, entry.id),
                binary=True,
            )[0][0]
        outlet.put(entry.id, entry.arrived, bytes(data))
        self._moving.append((entry, target))
        self._tell(entry, "moved", to=target)

    def _in_database(self, target: str) -> int | None:
        """The number of a queue of this database; None: it is elsewhere. Raises TargetUnavailable."""
        if not is_address(target) or Address.parse(target).database != self.address.database:
            return None
        try:
            return schema.number(self._connection, Address.parse(target).queue)
        except QueueError as error:
            raise TargetUnavailable(str(error)) from error

    def replace(self, entry: Entry, data: bytes) -> None:
        """Give a message that is held, or a dead letter, other contents where it is; its id and arrival stay."""
        if entry.part not in ("hold", "errors"):
            raise FileNotFoundError(errno.ENOENT, "it is neither held nor a dead letter", entry.path)
        with self._taken(entry):
            self._connection.run(
                "WITH there AS (UPDATE piper.message SET size = length(%(data)s::bytea)"
                f" WHERE {_AT} RETURNING body)"
                " UPDATE piper.body SET contents = %(data)s FROM there WHERE number = there.body",
                {"queue": self._number, "id": entry.id, "data": data},
            )
        self._tell(entry, "changed")

    def add(self, message: Copy) -> bool:
        """Add a message that was exported, with its arrival, and its id unless that is taken; returns False where it is
        there already. Raises InvalidId, NoRoom.
        """
        id = statements.checked(message.id)
        with self._connection.transaction():
            there = self._connection.rows(
                f"SELECT extract(epoch FROM arrived)::float8 FROM piper.message WHERE {_AT}",
                {"queue": self._number, "id": id},
            )
            # An archive has the arrival as a number that is good to a microsecond.
            if there and abs(there[0][0] - message.arrived) < 2e-6:
                return False
            if there:
                id = self._ids.new()
            statements.put(self._connection, self._number, [id], [message.data], [message.arrived])
            if message.part != "incoming":
                report = message.report or {}
                attempts = report.get("attempts")
                self._put(
                    id,
                    message.part,
                    attempts if isinstance(attempts, int) else 0,
                    statements.dump({**report, "id": id}) if message.part == "errors" else None,
                )
        return True

    def pause(self, until: float | None, reason: str, *, sources_only: bool = False) -> None:
        """Have nothing claimed, or fetched only, until then if that is said."""
        facts = dataclasses.asdict(Paused(self._who, time.time(), until, reason, sources_only))
        with self._connection.transaction():
            self._connection.run("SET LOCAL synchronous_commit = on")
            query = "UPDATE piper.queue SET paused = %s WHERE number = %s"
            self._connection.run(query, (statements.dump(facts), self._number))
            self._notify(self._number, PAUSE_CHANGED)

    def resume(self) -> bool:
        """End a pause; returns whether there was one."""
        with self._connection.transaction():
            self._connection.run("SET LOCAL synchronous_commit = on")
            was = statements.read_paused(self._connection, self._number) is not None
            self._connection.run("UPDATE piper.queue SET paused = NULL WHERE number = %s", (self._number,))
            self._notify(self._number, PAUSE_CHANGED)
        return was
