"""Statements that several need."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator

import psycopg

from piperkit.errors import InvalidId, QueueError
from piperkit.naming import check_id
from piperkit.operating import Instance, Paused
from piperkit.postgres.connection import Connection

#: Bytes of messages that are published together, and how many.
_GROUP_BYTES, _GROUP = 8 << 20, 1000


#: The first key of the advisory lock that an instance holds; the second is its number.
LEASES = 0x706B
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def channel(queue: int) -> str:
    """What is notified of arrivals in a queue."""
    return f"piper_{queue}"


def checked(id: str) -> str:
    """An id that can be kept in a database. Raises InvalidId."""
    try:
        check_id(id).encode()
    except UnicodeEncodeError:
        raise InvalidId(f"{id!r} cannot be a message's id in a database: it is not UTF-8") from None
    return id


def grouped(contents: Iterable[bytes]) -> Iterator[list[bytes]]:
    """What is published together."""
    group: list[bytes] = []
    size = 0
    for data in contents:
        if group and (size + len(data) > _GROUP_BYTES or len(group) >= _GROUP):
            yield group
            group, size = [], 0
        group.append(data)
        size += len(data)
    if group:
        yield group


_PUT = """
WITH new AS (
    SELECT v.id, v.data, v.arrived, nextval('piper.bodies') AS number
    FROM unnest(%(ids)s::text[], %(data)s::bytea[], %(arrived)s::float8[]) AS v (id, data, arrived)
), contents AS (INSERT INTO piper.body SELECT number, data FROM new), put AS (
    INSERT INTO piper.message (queue, id, size, arrived, body)
    SELECT %(queue)s, id, length(data), coalesce(to_timestamp(arrived), clock_timestamp()), number FROM new
) SELECT pg_notify(%(channel)s, '')
"""


def put(
    connection: Connection, queue: int, ids: list[str], contents: list[bytes], arrived: list[float] | None = None
) -> None:
    """Put messages into a queue, all or none; arrived: when they were written, by default now.

    Raises as `Connection.errors` says: of an id that is taken, an error that `is_taken` knows.
    """
    arguments = {"ids": ids, "data": contents, "queue": queue, "arrived": arrived, "channel": channel(queue)}
    connection.rows(_PUT, arguments)


def is_taken(error: QueueError) -> bool:
    """Whether an id was taken."""
    return isinstance(error.__cause__, psycopg.errors.UniqueViolation)


def taken(connection: Connection, queue: int, ids: Iterable[str]) -> set[str]:
    """Those of the ids that the queue has."""
    valid = [id for id in ids if is_text(id)]
    query = "SELECT id FROM piper.message WHERE queue = %s AND id = ANY(%s)"
    return {row[0] for row in connection.rows(query, (queue, valid))}


def is_text(id: str) -> bool:
    """Whether a database can keep it."""
    try:
        id.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in id


def count(connection: Connection, queue: int, part: str, most: int | None = None) -> int:
    """The number of messages in a part, counted up to `most`."""
    query = "SELECT count(*) FROM (SELECT 1 FROM piper.message WHERE queue = %s AND part = %s LIMIT %s) AS found"
    return int(connection.rows(query, (queue, part, most))[0][0])


def depths(connection: Connection, queue: str) -> dict[str, tuple[int, float | None]]:
    """How many messages each part holds, and when the oldest arrived, in seconds since the epoch."""
    query = (
        "SELECT m.part::text, count(*), extract(epoch FROM min(m.arrived))::float8 FROM piper.message AS m"
        " JOIN piper.queue AS q ON q.number = m.queue WHERE q.name = %s GROUP BY m.part"
    )
    return {part: (number, oldest) for part, number, oldest in connection.rows(query, (queue,))}


def instances(connection: Connection, queue: int) -> list[Instance]:
    """Who works on a queue, the oldest first: alive is whose lock is held."""
    query = (
        "SELECT i.host, i.pid, extract(epoch FROM i.since)::float8,"
        " (SELECT count(*) FROM piper.message WHERE queue = i.queue AND part = 'pending' AND holder = i.holder),"
        " i.version, i.rate, i.waits_for, extract(epoch FROM i.seen)::float8, l.objid IS NOT NULL"
        " FROM piper.instance AS i LEFT JOIN pg_locks AS l ON l.locktype = 'advisory' AND l.classid = %s"
        " AND l.objid = i.holder AND l.granted AND l.database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database()) WHERE i.queue = %s ORDER BY i.since"
    )
    return [Instance(*row) for row in connection.rows(query, (LEASES, queue))]


def read_paused(connection: Connection, queue: int) -> Paused | None:
    """Whether a queue is paused now."""
    facts = connection.rows("SELECT paused FROM piper.queue WHERE number = %s", (queue,))
    found = facts[0][0] if facts else None
    if found is None or (found.get("until") is not None and found["until"] <= time.time()):
        return None
    by, reason = str(found.get("by")), str(found.get("reason") or "")
    return Paused(by, found.get("at"), found.get("until"), reason, found.get("sources_only") is True)


def write_history(connection: Connection, queue: int, lines: Iterable[bytes]) -> None:
    """Keep lines of JSON, of which each names its message by "id"."""
    texts = [line.decode().strip() for line in lines]
    ids = [str(json.loads(text).get("id", "")) for text in texts]
    connection.run(
        "INSERT INTO piper.history (queue, id, line)"
        " SELECT %s, id, line FROM unnest(%s::text[], %s::text[]) AS v (id, line)",
        (queue, ids, texts),
    )


def dump(facts: object) -> str:
    """JSON for a column: a database keeps no NUL in it, and no half of a surrogate pair."""
    text = json.dumps(facts, ensure_ascii=False).encode(errors="replace").decode()
    return _NUL.sub(r"\1\\ufffd", text)
