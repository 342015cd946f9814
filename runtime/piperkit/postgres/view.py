"""Looking at a queue in a database without taking part in it: nothing here claims, locks or changes anything."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from piperkit.errors import QueueError
from piperkit.naming import check_id
from piperkit.operating import HOLDING, Entry, Instance, Paused
from piperkit.postgres import schema, statements
from piperkit.postgres.address import Address
from piperkit.postgres.connection import Connection

#: Messages that are asked for at once.
_TOGETHER = 1000
_COLUMNS = """
    id, part::text, size, extract(epoch FROM arrived)::float8, attempts,
    CASE WHEN part = 'deferred' THEN extract(epoch FROM due)::float8 END,
    CASE WHEN part = 'errors' THEN record->>'reason' ELSE record->'history'->-1->>'reason' END
"""


class DatabaseView:
    """A queue as its database shows it. Raises QueueMissing where it is not there; any method may raise QueueAway."""

    def __init__(self, address: str, password_file: str | None = None) -> None:
        parsed = Address.parse(address)
        self.path = str(parsed)
        self._connection = Connection(parsed, "piperctl", password_file)
        self._number = schema.number(self._connection, parsed.queue)

    def counts(self, parts: Iterable[str] = HOLDING) -> dict[str, int]:
        """The number of messages in each part."""
        wanted = list(parts)
        query = (
            "SELECT part::text, count(*) FROM piper.message WHERE queue = %s AND part = ANY(%s::piper.part[])"
            " GROUP BY part"
        )
        kept = [part for part in wanted if part != "outgoing"]
        found: dict[str, int] = dict(self._connection.rows(query, (self._number, kept)))
        return {part: found.get(part, 0) for part in wanted}

    def oldest(
        self, part: str, limit: int, check: Callable[[int], None] = lambda number: None
    ) -> tuple[list[Entry], int]:
        """The first of them, and how many more there are."""
        if part == "outgoing":
            return [], 0
        query = f"SELECT {_COLUMNS} FROM piper.message WHERE queue = %s AND part = %s ORDER BY id LIMIT %s"
        shown = self._entries(query, (self._number, part, limit))
        number = statements.count(self._connection, self._number, part)
        check(number)
        return shown, max(0, number - len(shown))

    def each(self, part: str) -> Iterator[Entry]:
        """The messages in a part, as they are when they are come to, in no memory to speak of."""
        last = ""
        query = f"SELECT {_COLUMNS} FROM piper.message WHERE queue = %s AND part = %s AND id > %s ORDER BY id LIMIT %s"
        while part != "outgoing" and (found := self._entries(query, (self._number, part, last, _TOGETHER))):
            yield from found
            last = found[-1].id

    def entry(self, part: str, id: str) -> Entry:
        """The message, if it is in that part. Raises InvalidId, FileNotFoundError."""
        found = self._of(id)
        if found is None or found.part != part:
            raise FileNotFoundError(errno.ENOENT, f"it is not in {part}", id)
        return found

    def find(self, id: str) -> Entry:
        """The message, wherever it is. Raises InvalidId, or QueueError where no part has it."""
        found = self._of(id)
        if found is None:
            raise QueueError(f"no message {id} in the queue {self.path}")
        return found

    def _of(self, id: str) -> Entry | None:
        if not statements.is_text(check_id(id)):
            return None
        found = self._entries(f"SELECT {_COLUMNS} FROM piper.message WHERE queue = %s AND id = %s", (self._number, id))
        return found[0] if found else None

    def _entries(self, query: str, arguments: Sequence[Any]) -> list[Entry]:
        path = f"{self.path}&id="
        return [
            Entry(id, part, size, arrived, attempts, due, reason, path + id)
            for id, part, size, arrived, attempts, due, reason in self._connection.rows(query, arguments)
        ]

    def depths(self) -> dict[str, tuple[int, float | None]]:
        """How many messages each part holds, and when the oldest of them arrived."""
        found = statements.depths(self._connection, Address.parse(self.path).queue)
        return {part: found.get(part, (0, None)) for part in HOLDING}

    def measure(self, part: str) -> tuple[int, int, float | None]:
        """The number of messages in a part, their bytes, and when the one that has waited longest arrived."""
        if part == "outgoing":
            return 0, 0, None
        query = (
            "SELECT count(*), coalesce(sum(size), 0)::bigint, extract(epoch FROM min(arrived))::float8"
            " FROM piper.message WHERE queue = %s AND part = %s"
        )
        number, size, oldest = self._connection.rows(query, (self._number, part))[0]
        return number, size, oldest

    def read(self, entry: Entry) -> bytes:
        """The contents. Raises FileNotFoundError where the message has moved on."""
        query = (
            "SELECT b.contents FROM piper.message AS m JOIN piper.body AS b ON b.number = m.body"
            " WHERE m.queue = %s AND m.id = %s AND m.part = %s"
        )
        found = self._connection.rows(query, (self._number, entry.id, entry.part), binary=True)
        if not found:
            raise FileNotFoundError(errno.ENOENT, "it has moved on", entry.path)
        return bytes(found[0][0])

    def history(self, entry: Entry) -> list[dict[str, Any]]:
        """The message's failed attempts, oldest first: {"time", "reason"}."""
        return list((self._record(entry) or {}).get("history") or ())

    def report(self, entry: Entry) -> dict[str, Any] | None:
        """What is stored beside a dead letter."""
        return self._record(entry) if entry.part == "errors" else None

    def _record(self, entry: Entry) -> dict[str, Any] | None:
        query = "SELECT record FROM piper.message WHERE queue = %s AND id = %s"
        found = self._connection.rows(query, (self._number, entry.id))
        return found[0][0] if found else None

    def banished(self, entry: Entry) -> float:
        """When a dead letter became one. Raises FileNotFoundError where it has moved on."""
        query = (
            "SELECT extract(epoch FROM due)::float8 FROM piper.message WHERE queue = %s AND id = %s AND part = 'errors'"
        )
        found = self._connection.rows(query, (self._number, entry.id))
        if not found:
            raise FileNotFoundError(errno.ENOENT, "it has moved on", entry.path)
        return float(found[0][0] or 0.0)

    def told(self, containing: bytes = b"") -> Iterator[dict[str, Any]]:
        """What is kept of messages' ways, in the lines that have these bytes in them."""
        last = 0
        query = (
            "SELECT number, line FROM piper.history WHERE queue = %s AND number > %s AND position(%s IN line) > 0"
            " ORDER BY number LIMIT %s"
        )
        text = containing.decode(errors="replace")
        while found := self._connection.rows(query, (self._number, last, text, _TOGETHER)):
            for _, line in found:
                yield json.loads(line)
            last = found[-1][0]

    def paused(self) -> Paused | None:
        """Whether an operator has paused the queue."""
        return statements.read_paused(self._connection, self._number)

    def instances(self) -> list[Instance] | None:
        """The living instances, wherever they run: those whose lock is held; and those that have vanished not yet."""
        return statements.instances(self._connection, self._number)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def spool(address: str) -> list[str]:
    """The addresses of all queues of a database, by name. Raises QueueMissing."""
    parsed = Address.parse(address, needs_queue=False)
    connection = Connection(parsed, "piperctl")
    try:
        schema.check_version(connection)
        return [str(parsed.of(name)) for (name,) in connection.rows("SELECT name FROM piper.queue ORDER BY name")]
    finally:
        connection.close()
