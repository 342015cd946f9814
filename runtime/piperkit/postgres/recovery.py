"""Giving back what dead instances had claimed. Whoever gets the lock of an instance's number knows that it is dead.

Done under that lock, in one transaction for each instance: safe side by side, and cut off anywhere it is undone.
"""

from __future__ import annotations

import logging
import time

from piperkit.message import Failure
from piperkit.postgres.claims import read_record, write_record
from piperkit.postgres.connection import Connection
from piperkit.postgres.statements import LEASES, channel, dump
from piperkit.queue import Recovered
from piperkit.record import iso

#: Claims of one dead instance that one run gives back.
ORPHANS_MAX = 500
#: Seconds between two times that what is old is removed, and how old that is: receipts, lines of history.
_TIDY, _RECEIPTS, _HISTORY = 3600.0, 7 * 86400, 30 * 86400
_DIED = "the daemon died while it was working on this message"


class Recovery:
    """Recovers one queue. crash_limit: as in `DirectoryQueue`."""

    def __init__(
        self, connection: Connection, crash_limit: int, daemon: str, host: str, logger: logging.Logger
    ) -> None:
        self._connection = connection
        self._crash_limit = crash_limit
        self._daemon = daemon
        self._host = host
        self._logger = logger
        self._tidy = 0.0  #: monotonic time

    def run(self, queue: int, ours: int) -> Recovered:
        """Look at all instances but ours. Raises as `Connection.errors` says."""
        run = self._connection
        query = "SELECT DISTINCT holder FROM piper.message WHERE queue = %s AND part = 'pending' AND holder <> %s"
        returned: list[str] = []
        banished: list[str] = []
        more = False
        for (holder,) in run.rows(query, (queue, ours)):
            with run.transaction():
                if run.rows("SELECT pg_try_advisory_xact_lock(%s, %s)", (LEASES, holder))[0][0]:
                    more = self._settle(queue, holder, returned, banished) or more
        if time.monotonic() >= self._tidy:
            self._tidy = time.monotonic() + _TIDY
            self._remove_old(queue)
        return Recovered(tuple(returned), (), tuple(banished), 0, 0.0 if more else None)

    def _settle(self, queue: int, holder: int, returned: list[str], banished: list[str]) -> bool:
        """Give back a dead instance's claims; returns whether there are more."""
        run = self._connection
        begun = run.rows("SELECT begun FROM piper.instance WHERE holder = %s", (holder,))
        last = begun[0][0] if begun else None
        claims = run.rows(
            "SELECT id, attempts, record::text, extract(epoch FROM arrived)::float8 FROM piper.message"
            " WHERE queue = %s AND part = 'pending' AND holder = %s ORDER BY id LIMIT %s FOR UPDATE",
            (queue, holder, ORPHANS_MAX),
        )
        plain: list[str] = []
        for id, attempts, text, arrived in claims:
            record, _ = read_record(attempts, text)
            if last == id or (last == "" and len(claims) == 1):
                record = record.failed(Failure(_DIED), iso(time.time_ns()), death=str(holder))
                if record.crashes >= self._crash_limit:
                    reason = f"{record.crashes} times the daemon died while it was working on this message"
                    facts = record.report(
                        Failure(reason, "Crash"),
                        iso(time.time_ns()),
                        id=id,
                        name=id,
                        arrived=iso(round(arrived * 1e9)),
                        host=self._host,
                        daemon=self._daemon,
                    )
                    self._put(queue, id, "errors", record.attempts, dump(facts))
                    banished.append(id)
                    self._logger.error("%s: banished: %s", id, reason, extra={"message_id": id})
                else:
                    self._put(queue, id, "incoming", record.attempts, write_record(record, True))
                    returned.append(id)
                    text = "%s: given back after its daemon died (attempt %d, death %d)"
                    self._logger.warning(text, id, record.attempts, record.crashes, extra={"message_id": id})
            elif last == "":
                self._put(queue, id, "incoming", attempts, write_record(record, True))
                returned.append(id)
            else:
                plain.append(id)
        if plain:
            statement = "UPDATE piper.message SET part = 'incoming', holder = NULL WHERE queue = %s AND id = ANY(%s)"
            run.run(statement, (queue, plain))
            returned += plain
        if len(claims) > 1 or plain:
            words = "one of which it died of: each is worked on alone now" if last == "" else "unharmed"
            self._logger.warning(
                "%d messages were given back after their daemon died, %s", len(plain) if last else len(claims), words
            )
        run.rows("SELECT pg_notify(%s, '')", (channel(queue),))
        if len(claims) == ORPHANS_MAX:
            return True
        run.run("DELETE FROM piper.instance WHERE holder = %s", (holder,))
        return False

    def _put(self, queue: int, id: str, part: str, attempts: int, record: str | None) -> None:
        self._connection.run(
            "UPDATE piper.message SET part = %s, holder = NULL, attempts = %s, record = %s,"
            " due = CASE WHEN %s = 'errors' THEN clock_timestamp() END WHERE queue = %s AND id = %s",
            (part, attempts, record, part, queue, id),
        )

    def _remove_old(self, queue: int) -> None:
        run = self._connection
        old = "clock_timestamp() - %s * interval '1 s'"
        run.run(f"DELETE FROM piper.receipt WHERE queue = %s AND at < {old}", (queue, _RECEIPTS))
        run.run(f"DELETE FROM piper.history WHERE queue = %s AND at < {old}", (queue, _HISTORY))
        # Instances that died with nothing claimed.
        dead = f"seen < {old} AND queue = %s AND pg_try_advisory_xact_lock(%s, holder)"
        run.run(f"DELETE FROM piper.instance WHERE {dead}", (600, queue, LEASES))
