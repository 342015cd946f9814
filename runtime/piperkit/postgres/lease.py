"""The lease of an instance: an advisory lock of its number, which ends with its session; and what is known of it.

A claim belongs to the number in its row. Whoever gets the lock of a number knows that its instance is dead (see
`recovery`). Where only the session was lost, the instance takes a new number, and its claims with it, as far as nobody
was faster.

`instance.begun` is what an instance was working on, should it die: the message, written when it is the only one of
which the database does not know the outcome; or an empty text once there are several. So a batch costs two small
writes, to a table that needs no disk. Which of several it died of is not known; then each is a suspect, and written
there by itself the next time.
"""

from __future__ import annotations

import os
import socket
import time
from importlib.metadata import version

from piperkit.postgres.connection import Connection
from piperkit.postgres.statements import LEASES

#: Looks whether the old session has ended, and seconds between them.
_LOOKS, _PAUSE = 40, 0.05


class Lease:
    """This instance's."""

    def __init__(self, connection: Connection, host: str | None, daemon: str) -> None:
        self._connection = connection
        self._host = host or socket.gethostname()
        self._daemon = daemon
        self._begun: str | None = None  #: as the database has it
        self._told = (0, 0.0)  #: messages settled, and when, as of the last report
        self._since = time.time()
        self._backend = 0  #: the server's process of its session
        self.holder = 0  #: its number; 0: none

    def take(self, queue: int) -> int:
        """Have a lease; returns its number. Idempotent. Raises as `Connection.errors` says."""
        if not self.holder:
            self.holder = self._new(queue)
        return self.holder

    def again(self, queue: int) -> set[str] | None:
        """The session is a new one. Returns the claims that are still ours; None where there was no lease."""
        old = self.holder
        if not old:
            return None
        backend = self._backend
        new = self._new(queue)
        run = self._connection
        # The server may not have noticed yet that the old session has ended.
        ours = "locktype = 'advisory' AND classid = %s AND objid = %s AND granted AND pid = %s"
        run.rows(f"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE {ours}", (LEASES, old, backend))
        kept: set[str] = set()
        for _ in range(_LOOKS):
            with run.transaction():
                if run.rows("SELECT pg_try_advisory_xact_lock(%s, %s)", (LEASES, old))[0][0]:
                    mine = "queue = %s AND part = 'pending' AND holder = %s"
                    moved = f"UPDATE piper.message SET holder = %s WHERE {mine} RETURNING id"
                    kept = {row[0] for row in run.rows(moved, (new, queue, old))}
                    run.run("DELETE FROM piper.instance WHERE holder = %s", (old,))
                    break
            time.sleep(_PAUSE)
        self.holder = new
        return kept

    def _new(self, queue: int) -> int:
        run = self._connection
        holder, self._backend = run.rows("SELECT nextval('piper.holders')::int, pg_backend_pid()")[0]
        run.rows("SELECT pg_advisory_lock(%s, %s)", (LEASES, holder))
        facts = (holder, queue, self._host, os.getpid(), self._daemon, version("piperkit"), self._since)
        columns = "holder, queue, host, pid, daemon, version, since"
        run.run(
            f"INSERT INTO piper.instance ({columns}) VALUES (%s, %s, %s, %s, %s, %s, to_timestamp(%s))"
            " ON CONFLICT (holder) DO NOTHING",
            facts,
        )
        self._begun = None
        return int(holder)

    # -- what it works on ------------------------------------------------------------------------------------

    def works_on(self, id: str, alone: bool) -> None:
        """Work on a message begins. alone: it is to be known as the only one, until the next one begins.

        Raises as `Connection.errors` says.
        """
        begun = id if alone else ""
        if begun != self._begun:
            self._connection.run("UPDATE piper.instance SET begun = %s WHERE holder = %s", (begun, self.holder))
            self._begun = begun

    # -- what others see of it -------------------------------------------------------------------------------

    def tell(self, settled: int, waits_for: str | None) -> None:
        """That we are there, how much we do, and what we wait for. Raises as `Connection.errors` says."""
        number, then = self._told
        now = time.monotonic()
        rate = (settled - number) / (now - then) if then else None
        self._told = (settled, now)
        self._connection.run(
            "UPDATE piper.instance SET seen = clock_timestamp(), rate = %s, waits_for = %s WHERE holder = %s",
            (rate, waits_for, self.holder),
        )

    def end(self) -> None:
        """Nothing is claimed any more. Idempotent. Raises as `Connection.errors` says."""
        holder, self.holder = self.holder, 0
        if holder:
            self._connection.run("DELETE FROM piper.instance WHERE holder = %s", (holder,))
            self._connection.rows("SELECT pg_advisory_unlock(%s, %s)", (LEASES, holder))
