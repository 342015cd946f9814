"""Claiming: one statement takes the oldest messages that nobody has, and commits; nothing is open while one works.

The commit does not wait for the disk: should the server crash, the messages are where they were, and the claims are
those of a session that has ended.

The small contents come with it. Rows that another instance is claiming in this moment are passed over. Where vacuum
cannot remove what has moved on (an old transaction is open somewhere), each look would step over all of that; so it
begins where the last one ended, and only now and then at the beginning: what is given back is older.
"""

from __future__ import annotations

import json
import time

from piperkit.postgres.connection import Connection
from piperkit.postgres.statements import dump
from piperkit.record import NEW, MessageRecord

#: Bytes of contents that come with a claim; larger ones are read when they are asked for.
INLINE = 1 << 16
#: Seconds after which a look begins at the beginning.
_FROM_THE_BEGINNING = 2.0

_CLAIM = f"""
WITH due AS MATERIALIZED (
    SELECT ctid FROM piper.message WHERE queue = %(queue)s AND part = 'deferred' AND due <= clock_timestamp()
    ORDER BY due LIMIT %(half)s FOR UPDATE SKIP LOCKED
), ready AS MATERIALIZED (
    SELECT ctid FROM piper.message WHERE queue = %(queue)s AND part = 'incoming' AND id > %(after)s
    ORDER BY id LIMIT %(limit)s - (SELECT count(*) FROM due) FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE piper.message AS m SET part = 'pending', holder = %(holder)s, due = NULL
    FROM (SELECT ctid FROM due UNION ALL SELECT ctid FROM ready) AS c WHERE m.ctid = c.ctid
    RETURNING m.id, m.attempts, m.size, extract(epoch FROM m.arrived)::float8 AS arrived, m.record::text AS record,
        m.body
)
SELECT t.id, t.attempts, t.size, t.arrived, t.record, t.body, b.contents
FROM set_config('synchronous_commit', 'off', true), taken AS t
LEFT JOIN piper.body AS b ON b.number = t.body AND t.size <= {INLINE} ORDER BY t.id
"""


class Held:
    """A message that this instance has claimed: a `piperkit.queue.Claim`."""

    __slots__ = ("arrived", "body", "data", "id", "record", "size", "suspect")

    def __init__(
        self, id: str, attempts: int, size: int, arrived: float, record: str | None, body: int, data: bytes | None
    ) -> None:
        self.id = id
        self.size = size
        self.arrived = arrived  #: seconds since the epoch
        self.body = body  #: the number of its contents
        self.data = data  #: the contents, where they are known
        self.suspect = False  #: an instance died that had it among others: it is worked on alone
        self.record = NEW
        if record is not None or attempts:
            self.record, self.suspect = read_record(attempts, record)

    @property
    def attempt(self) -> int:
        return self.record.attempts + 1

    @property
    def waits(self) -> int:
        return self.record.waits


class Claimer:
    """Takes messages out of a queue."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._after = ""  #: the last id of the last look
        self._begin = 0.0  #: monotonic time of the next look from the beginning
        self._busy = False

    def busy(self) -> bool:
        """Whether the last look left something."""
        return self._busy

    def rewind(self) -> None:
        """Something older may be there: begin at the beginning."""
        self._after = ""

    def take(self, queue: int, holder: int, limit: int) -> list[Held]:
        """Claim up to `limit` messages. Raises as `Connection.errors` says."""
        now = time.monotonic()
        if now >= self._begin:
            self._begin, self._after = now + _FROM_THE_BEGINNING, ""
        found = self._look(queue, holder, limit)
        if len(found) < limit and self._after:
            self._after = ""
            found += self._look(queue, holder, limit - len(found))
        self._busy = len(found) >= limit
        return found

    def _look(self, queue: int, holder: int, limit: int) -> list[Held]:
        after = self._after
        arguments = {"queue": queue, "holder": holder, "after": after, "limit": limit, "half": (limit + 1) // 2}
        found = [Held(*row) for row in self._connection.rows(_CLAIM, arguments, binary=True)]
        # What was put off, and is due, may come from anywhere.
        self._after = max((held.id for held in found if held.record is NEW), default=after)
        return found


def read_record(attempts: int, record: str | None) -> tuple[MessageRecord, bool]:
    """A message's record, from its columns; and whether it is a suspect."""
    facts = json.loads(record) if record else {}
    history = tuple(each for each in facts.get("history", ()) if isinstance(each, dict))
    return (
        MessageRecord(attempts, int(facts.get("crashes", 0)), None, None, history, int(facts.get("waits", 0))),
        bool(facts.get("suspect")),
    )


def write_record(record: MessageRecord, suspect: bool = False) -> str | None:
    """The column of a record but for its attempts."""
    facts = {"crashes": record.crashes, "waits": record.waits, "history": record.history}
    return dump({**facts, "suspect": suspect}) if suspect or any(facts.values()) else None
