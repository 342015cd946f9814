"""Moving between engines: out of a database into queues of other engines, and into a database from those."""

from __future__ import annotations

from collections.abc import Callable

from piperkit.errors import PiperError, QueueAway, TargetUnavailable
from piperkit.naming import Ids
from piperkit.postgres import schema, statements
from piperkit.postgres.address import Address
from piperkit.postgres.connection import Connection
from piperkit.queue import Outlet


class Outlets:
    """Queues of other engines that messages go to, each opened where it is needed first."""

    def __init__(self, elsewhere: Callable[[str], Outlet] | None) -> None:
        self._elsewhere = elsewhere
        self._open: dict[str, Outlet] = {}

    def put(self, target: str, id: str, arrived: float, data: bytes) -> None:
        """Raises TargetUnavailable, NoRoom."""
        self._of(target).put(id, arrived, data)

    def sync(self) -> None:
        """Raises TargetUnavailable, NoRoom."""
        for outlet in self._open.values():
            outlet.sync()

    def room(self, target: str, limit: int) -> int:
        """Raises TargetUnavailable."""
        return self._of(target).room(limit)

    def _of(self, target: str) -> Outlet:
        found = self._open.get(target)
        if found is None:
            if self._elsewhere is None:
                raise TargetUnavailable(f"{target} is kept by another engine, which is not known here")
            found = self._open[target] = self._elsewhere(target)
        return found

    def close(self) -> None:
        for outlet in self._open.values():
            outlet.close()
        self._open.clear()


class DatabaseOutlet:
    """A `piperkit.queue.Outlet` into the queue at an address. What has arrived once is known for a week, by its id and
    its arrival, so that a move that was cut off is not done twice.

    Raises TargetUnavailable where the queue is not there; the server is asked when something is put there first.
    """

    def __init__(self, address: str, daemon: str = "", password_file: str | None = None) -> None:
        self._address = Address.parse(address)
        self._connection = Connection(self._address, daemon, password_file)
        self._connection.opened.append(self._opened)
        self._number = 0
        self._ids = Ids()
        #: What is to be put: by what it is known by, the message.
        self._put: dict[tuple[str, int], tuple[str, float, bytes]] = {}

    def _opened(self) -> None:
        self._number = schema.number(self._connection, self._address.queue)

    def put(self, id: str, arrived: float, data: bytes) -> None:
        """See `Outlet`."""
        # An id that is not UTF-8 is another one here, and known by what stands for it.
        known = id.encode("utf-8", "backslashreplace").decode()
        self._put[known, round(arrived * 1e6)] = (id, arrived, data)

    def sync(self) -> None:
        """See `Outlet`: one transaction."""
        put, self._put = self._put, {}
        if not put:
            return
        connection = self._connection
        try:
            connection.session()
            with connection.transaction():
                receipts = (self._number, [id for id, _ in put], [moment for _, moment in put])
                new = set(connection.rows(_RECEIPTS, receipts))
                rest = [message for known, message in put.items() if known in new]
                taken = statements.taken(connection, self._number, [id for id, _, _ in rest])
                ids = [id if statements.is_text(id) and id not in taken else self._ids.new() for id, _, _ in rest]
                times = [arrived for _, arrived, _ in rest]
                statements.put(connection, self._number, ids, [data for _, _, data in rest], times)
        except QueueAway as error:
            raise TargetUnavailable(str(error)) from error

    def room(self, limit: int) -> int:
        """See `Outlet`."""
        try:
            self._connection.session()
            return limit - statements.count(self._connection, self._number, "incoming", limit)
        except PiperError as error:
            raise TargetUnavailable(str(error)) from error

    def close(self) -> None:
        self._connection.close()


#: Moments in microseconds: as numbers they are the same here and there.
_RECEIPTS = """
INSERT INTO piper.receipt (queue, id, arrived)
SELECT %s, id, 'epoch'::timestamptz + moment * interval '1 us'
FROM unnest(%s::text[], %s::bigint[]) AS v (id, moment)
ON CONFLICT DO NOTHING RETURNING id, round(extract(epoch FROM arrived) * 1000000)::bigint
"""
