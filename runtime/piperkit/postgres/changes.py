"""What becomes of claimed messages: collected, and done in one transaction at the end of a batch.

Changes of different messages do not depend on each other, those of one message are done in their order; so all first
ones of one kind are one statement, all second ones, and so on. A statement touches a row only while it is ours, by its
holder: what is done once cannot be done again.

Where the connection is lost at a commit, nobody knows at first whether it was done. With the next connection that is
found out (`settle_doubt`): a settled message that is still ours says that it was not, and the transaction's number
says the rest.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from piperkit.errors import QueueAway, QueueError
from piperkit.postgres import statements
from piperkit.postgres.claims import Held
from piperkit.postgres.connection import Connection
from piperkit.postgres.statements import channel, is_taken

#: Bytes of contents that wait for the end of a batch, at the most.
BYTES_MAX = 8 << 20
#: Times that names are looked for that are free in the queue that messages move to.
_NAMES_TRIES = 5


class Kind(enum.Enum):
    """What is done to a message; all but the first two end its claim."""

    UPDATE = enum.auto()  #: new contents
    COPY = enum.auto()  #: to another queue
    MOVE = enum.auto()  #: to another queue
    DELETE = enum.auto()
    BANISH = enum.auto()
    PUT_OFF = enum.auto()
    GIVE_BACK = enum.auto()


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Change:
    """One of them; two that do the same, such as copies of a message, are two all the same."""

    kind: Kind
    held: Held
    target: int = 0  #: the number of the queue that a copy or move goes to
    data: bytes | None = None  #: new contents
    record: str | None = None  #: as in its column
    attempts: int = 0
    delay: float = 0.0  #: seconds until the next attempt

    @property
    def settles(self) -> bool:
        return self.kind not in (Kind.UPDATE, Kind.COPY)


#: Only what is claimed has a holder. That it is pending is not asked: the index of those is full of what was.
_OURS = "m.queue = %(queue)s AND m.holder = %(holder)s AND m.id = v.id"
_STATEMENTS = {
    Kind.UPDATE: f"""
        WITH done AS (
            UPDATE piper.message AS m SET size = length(v.data)
            FROM unnest(%(ids)s::text[], %(data)s::bytea[]) AS v (id, data) WHERE {_OURS} RETURNING m.body, v.data
        ), written AS (UPDATE piper.body AS b SET contents = done.data FROM done WHERE b.number = done.body)
        SELECT count(*) FROM done""",
    Kind.COPY: f"""
        WITH source AS (
            SELECT v.name, m.size, m.arrived, b.contents, nextval('piper.bodies') AS number
            FROM unnest(%(ids)s::text[], %(names)s::text[]) AS v (id, name) JOIN piper.message AS m ON {_OURS}
            JOIN piper.body AS b ON b.number = m.body
        ), written AS (INSERT INTO piper.body SELECT number, contents FROM source), done AS (
            INSERT INTO piper.message (queue, id, size, arrived, body)
            SELECT %(target)s, name, size, arrived, number FROM source RETURNING 1
        ) SELECT count(*), pg_notify(%(channel)s, '') FROM done""",
    Kind.MOVE: f"""
        WITH done AS (
            UPDATE piper.message AS m SET queue = %(target)s, id = v.name, part = 'incoming', holder = NULL,
                attempts = 0, record = NULL
            FROM unnest(%(ids)s::text[], %(names)s::text[]) AS v (id, name) WHERE {_OURS} RETURNING 1
        ) SELECT count(*), pg_notify(%(channel)s, '') FROM done""",
    Kind.DELETE: f"""
        WITH done AS (
            DELETE FROM piper.message AS m USING unnest(%(ids)s::text[]) AS v (id) WHERE {_OURS} RETURNING m.body
        ), contents AS (DELETE FROM piper.body AS b USING done WHERE b.number = done.body)
        SELECT count(*) FROM done""",
    Kind.BANISH: f"""
        WITH done AS (
            UPDATE piper.message AS m SET part = 'errors', holder = NULL, due = clock_timestamp(),
                attempts = v.attempts, record = v.record::jsonb
            FROM unnest(%(ids)s::text[], %(attempts)s::int[], %(records)s::text[]) AS v (id, attempts, record)
            WHERE {_OURS} RETURNING 1
        ) SELECT count(*) FROM done""",
    Kind.PUT_OFF: f"""
        WITH done AS (
            UPDATE piper.message AS m SET part = 'deferred', holder = NULL, attempts = v.attempts,
                due = clock_timestamp() + v.delay * interval '1 s', record = v.record::jsonb
            FROM unnest(%(ids)s::text[], %(attempts)s::int[], %(records)s::text[], %(delays)s::float8[])
                AS v (id, attempts, record, delay)
            WHERE {_OURS} RETURNING 1
        ) SELECT count(*) FROM done""",
    Kind.GIVE_BACK: f"""
        WITH done AS (
            UPDATE piper.message AS m SET part = 'incoming', holder = NULL
            FROM unnest(%(ids)s::text[]) AS v (id) WHERE {_OURS} RETURNING 1
        ) SELECT count(*), pg_notify(%(own_channel)s, '') FROM done""",
}


class Changes:
    """The changes of one instance that are not yet done.

    new_id: makes a message's id.
    """

    def __init__(self, connection: Connection, new_id: Callable[[], str]) -> None:
        self._connection = connection
        self._new_id = new_id
        self._waiting: list[Change] = []
        self._bytes = 0
        #: The number of the transaction of which it is not known whether it was done; empty: a single statement's.
        self._doubt: str | None = None
        self._names: dict[Change, str] = {}  #: other names that messages get, where theirs are taken

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def full(self) -> bool:
        """Whether there is too much to wait for the end of the batch."""
        return self._bytes >= BYTES_MAX

    def add(self, change: Change) -> None:
        self._waiting.append(change)
        self._bytes += len(change.data or b"")

    @property
    def in_doubt(self) -> bool:
        """Whether it is not known if they were done."""
        return self._doubt is not None

    def forget(self, id: str) -> None:
        """Those of a message are not to be done."""
        self._waiting = [change for change in self._waiting if change.held.id != id]

    def settled(self) -> set[str]:
        """The messages whose claims end with them."""
        return {change.held.id for change in self._waiting if change.settles}

    def settle_doubt(self, still: set[str]) -> bool:
        """With a new connection: find out whether the last transaction was done, as far as that can be known, and
        return it. still: the claims that are ours.

        Raises as `Connection.errors` says, and QueueAway where the server does not know it yet.
        """
        number, settled = self._doubt, self.settled()
        done = False
        if number is not None:
            # Of a single statement nothing says more than that.
            done = settled.isdisjoint(still)
            if done and number:
                try:
                    status = self._connection.rows("SELECT pg_xact_status(%s::xid8)", (number,))[0][0]
                except QueueError as error:
                    if isinstance(error, QueueAway):
                        raise
                    status = "aborted"  # the server has not come to that number: it is another one
                if status == "in progress":
                    raise QueueAway(f"the database {self._connection.address.shown_database} still ends what was begun")
                done = status == "committed"
            self._doubt = None
            if done:
                self.clear()
        # What is not ours any more is somebody else's by now.
        self._waiting = [change for change in self._waiting if change.held.id in still]
        return done

    def clear(self) -> None:
        self._waiting.clear()
        self._names.clear()
        self._bytes = 0

    def flush(self, queue: int, holder: int, *, sure: bool = False) -> int:
        """Do them all; returns how many of the messages were not ours any more. Raises as `Connection.errors` says:
        then none was done, or that is found out with the next connection.

        sure: it can be found out of each message. Else, of what is one statement, one that is not ours any more may
        have been done or be another's by now.
        """
        waiting, connection = self._waiting, self._connection
        if not waiting:
            return 0
        for last in (*(False,) * _NAMES_TRIES, True):
            # The connection first: with a new one, some of the changes may have been done.
            connection.session()
            waiting = self._waiting
            if not waiting:
                return 0
            groups = [list(group) for group in _groups(waiting)]
            try:
                if len(groups) == 1 and groups[0][0].settles and not sure:
                    # One statement is a transaction. The claims say whether it was done.
                    self._doubt = ""
                    done = self._do(groups[0], queue, holder)
                else:
                    with connection.transaction():
                        done = sum(self._do(group, queue, holder) for group in groups)
                        number = connection.rows("SELECT pg_current_xact_id()::text")[0][0]
                        self._doubt = str(number)
                break
            except QueueError as error:
                if connection.is_open:
                    self._doubt = None  # it was undone
                if last or not is_taken(error):
                    raise
                self._rename(waiting)
        self._doubt = None
        number_of_changes = len(waiting)
        self.clear()
        return number_of_changes - done

    def _do(self, group: Sequence[Change], queue: int, holder: int) -> int:
        first = group[0]
        arguments: dict[str, Any] = {"queue": queue, "holder": holder, "ids": [change.held.id for change in group]}
        match first.kind:
            case Kind.UPDATE:
                arguments["data"] = [change.data for change in group]
            case Kind.COPY | Kind.MOVE:
                names = [self._name(change) for change in group]
                arguments |= {"target": first.target, "channel": channel(first.target), "names": names}
            case Kind.BANISH | Kind.PUT_OFF:
                arguments |= {
                    "attempts": [change.attempts for change in group],
                    "records": [change.record for change in group],
                    "delays": [change.delay for change in group],
                }
            case Kind.GIVE_BACK:
                arguments["own_channel"] = channel(queue)
        return int(self._connection.rows(_STATEMENTS[first.kind], arguments)[0][0])

    def _name(self, change: Change) -> str:
        return self._names.get(change, change.held.id)

    def _rename(self, changes: Iterable[Change]) -> None:
        """Give those a new name whose name is taken where they go to."""
        going: dict[int, list[Change]] = {}
        for change in changes:
            if change.target:
                going.setdefault(change.target, []).append(change)
        for target, those in going.items():
            names = [self._name(change) for change in those]
            taken = statements.taken(self._connection, target, names)
            for change, name in zip(those, names, strict=True):
                if name in taken:
                    self._names[change] = self._new_id()
                taken.add(name)


def _groups(changes: Iterable[Change]) -> Iterator[Iterator[Change]]:
    """Changes of one kind and target that can be done together, in an order that keeps each message's own."""
    seen: dict[str, int] = {}
    keyed = []
    for change in changes:
        layer = seen[change.held.id] = seen.get(change.held.id, -1) + 1
        keyed.append(((layer, change.kind.value, change.target), change))
    keyed.sort(key=lambda each: each[0])
    for _, group in itertools.groupby(keyed, key=lambda each: each[0]):
        yield (change for _, change in group)
