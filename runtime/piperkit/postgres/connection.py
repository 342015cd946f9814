"""A connection to the server, which may go away and come back: another server, too, after a failover.

What is asked of a connection that is lost raises QueueAway; whatever is asked next makes a new one, at most one in
`PAUSE` seconds. With several hosts in its address, libpq takes the one that can be written to. A network that swallows
packets ends a connection after half a minute, on both sides: until then, the server takes our claims for alive.

Whoever keeps something in a session (a lease, LISTEN) says by `opened` how it is had again.
"""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from piperkit.errors import ConfigError, MessageTooLarge, NoRoom, QueueAway, QueueError, QueueMissing
from piperkit.postgres.address import Address

#: Seconds between two attempts to connect.
PAUSE = 0.5
#: libpq's parameters where the address does not say others. Seconds; tcp_user_timeout: milliseconds.
_DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "target_session_attrs": "read-write",
}
#: The server's for this session: it notices within half a minute, too, that we are gone, and ends what hangs.
_SESSION = (
    "-c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c tcp_user_timeout=30000"
    " -c idle_in_transaction_session_timeout=60s -c statement_timeout=120s -c lock_timeout=30s"
)
#: Where systemd puts a credential of that name, and where a password is taken from then.
CREDENTIAL = "queue-password"

#: Why a connection is refused that will be refused again: somebody has to do something first.
_PERMANENT = ("password authentication failed", "no password supplied", "pg_hba.conf", "does not exist", "certificate")

Row = tuple[Any, ...]


class Connection:
    """To the database of an address; made when it is needed first. Not for several threads.

    name: what the server shows of us. password_file: holds the password, and nothing else.
    durable: what is committed is on the server's disk (and its synchronous standby's).
    """

    def __init__(
        self, address: Address, name: str = "", password_file: str | None = None, *, durable: bool = True
    ) -> None:
        self.address = address
        self._name = f"piperkit {name}".strip()[:63]
        self._password_file = password_file
        self._durable = durable
        self._session: psycopg.Connection[Row] | None = None
        self._opening = False
        self.number = 0  #: of the session, as they are made
        self._next = 0.0  #: monotonic time from which on another attempt may be made
        self._why = ""  #: the last one failed
        #: Called with each new session, before anything else is done in it.
        self.opened: list[Callable[[], None]] = []
        #: Told of notifications: channel and payload.
        self.notified: Callable[[str, str], None] = lambda channel, payload: None
        _connections.add(self)

    # -- what is asked ---------------------------------------------------------------------------------------

    def rows(self, query: str, arguments: Sequence[Any] | Mapping[str, Any] = (), *, binary: bool = False) -> list[Row]:
        """The rows of a query. Raises as `errors` says."""
        with self.errors():
            return self.session().execute(query.encode(), arguments, binary=binary).fetchall()

    def run(self, query: str, arguments: Sequence[Any] | Mapping[str, Any] = ()) -> int:
        """Do something; returns how many rows it was done to. Raises as `errors` says."""
        with self.errors():
            return self.session().execute(query.encode(), arguments).rowcount

    def simple(self, script: str) -> None:
        """Several statements in one round trip, without arguments. Raises as `errors` says."""
        with self.errors():
            result = self.session().pgconn.exec_(script.encode())
            if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
                raise psycopg.errors.lookup(result.error_field(pq.DiagnosticField.SQLSTATE).decode())(  # type: ignore[union-attr]
                    result.error_message.decode(errors="replace").strip()
                )

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block, or nothing. Raises as `errors` says; where the connection is lost at the end of it, it is
        not known which.
        """
        with self.errors(), self.session().transaction():
            yield

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """psycopg's errors, as ours: QueueAway, NoRoom, QueueMissing, MessageTooLarge, QueueError."""
        try:
            yield
        except psycopg.Error as error:
            raise self._translated(error) from error

    def _translated(self, error: psycopg.Error) -> Exception:
        state = error.sqlstate or ""
        where = self.address.shown_database
        said = first_line(error)
        # 25006: it is a standby by now; 57P0x: it stops, or has not yet started.
        if self._session is None or self._session.closed or state == "25006" or state.startswith("57P0"):
            self.drop()
            self._why = self._why or said
            return self._away()
        if state in ("40001", "40P01", "55P03", "57014") or state.startswith("08"):
            return QueueAway(f"the database {where} is busy: {said}")
        if state == "53100":
            return NoRoom(f"no room in the database {where}: {said}")
        if state == "42501":
            return QueueMissing(f"the account may not do that in the database {where}: {said}")
        if state in ("3F000", "42P01"):
            return QueueMissing(f"the database {where} has no queues: piperctl queue create {self.address.quoted}")
        if state.startswith(("53", "54")):
            return MessageTooLarge(f"too much for the database {where}: {said}")
        return QueueError(f"the database {where}: {said}")

    # -- the session -----------------------------------------------------------------------------------------

    def session(self) -> psycopg.Connection[Row]:
        """The session, made anew if it was lost. Raises QueueAway, QueueMissing, ConfigError."""
        if self._session is not None and (not self._session.closed or self._opening):
            return self._session
        now = time.monotonic()
        if now < self._next:
            raise self._away()
        self._next = now + PAUSE
        self._session = self._connect()
        self.number += 1
        self._opening = True
        try:
            for opened in self.opened:
                opened()
        except BaseException as error:
            self.drop()
            if not isinstance(error, QueueAway):
                self._next = 0.0  # it is there, and says what is wrong as often as it is asked
            raise
        finally:
            self._opening = False
        self._why = ""
        return self._session

    def _away(self) -> QueueAway:
        return QueueAway(f"the database {self.address.shown_database} is away: {self._why}")

    def _connect(self) -> psycopg.Connection[Row]:
        parameters = self._parameters()
        try:
            session = psycopg.connect(**parameters, autocommit=True, prepare_threshold=1)
        except psycopg.Error as error:
            said = first_line(error)
            permanent = (
                "password authentication failed",
                "no password supplied",
                "pg_hba.conf",
                "does not exist",
                "certificate",
            )
            if any(words in said for words in permanent):
                raise QueueMissing(f"the database {self.address.shown_database}: {said}") from None
            self._why = self._why or said  # the first reason stays, so that it is said once
            raise self._away() from None
        session.add_notify_handler(lambda found: self.notified(found.channel, found.payload))
        return session

    def _parameters(self) -> dict[str, Any]:
        try:
            given = conninfo_to_dict(self.address.database)
        except psycopg.Error as error:
            raise ConfigError(f"{self.address}: {first_line(error)}") from None
        options = (
            f"{_SESSION}{'' if self._durable else ' -c synchronous_commit=off'} {given.pop('options', '')}".strip()
        )
        password = password_of(self._password_file)
        return {
            **_DEFAULTS,
            "application_name": self._name,
            "fallback_application_name": "piperkit",
            **given,
            "options": options,
            **({"password": password} if password is not None else {}),
        }

    @property
    def is_open(self) -> bool:
        """Whether there is a session, as far as is known."""
        return self._session is not None and not self._session.closed

    def drop(self) -> None:
        """Close the session; another one is made when it is needed. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(psycopg.Error):
                session.close()

    close = drop

    def fileno(self) -> int | None:
        """The socket, if there is one."""
        if self._session is None or self._session.closed:
            return None
        return self._session.pgconn.socket

    def hear(self) -> None:
        """Read what the server has told by itself: `notified` is told of it. A lost connection is noticed."""
        session = self._session
        if session is None or session.closed:
            return
        try:
            session.pgconn.consume_input()
            while (found := session.pgconn.notifies()) is not None:
                self.notified(found.relname.decode(), found.extra.decode())
        except psycopg.Error as error:
            self._why = self._why or first_line(error)
            self.drop()

    def _forget(self) -> None:
        """This is a forked child now: the session is its parent's, and must not be ended, nor kept alive."""
        session, self._session = self._session, None
        if session is not None:
            _parents.append(session)  # or its end would end the parent's session
            with contextlib.suppress(psycopg.Error, OSError):
                null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
                os.dup2(null, session.pgconn.socket, inheritable=False)
                os.close(null)


def password_of(file: str | None) -> str | None:
    """The password in a file, or in systemd's credential for it; None: libpq looks in ~/.pgpass. Raises ConfigError."""
    if file is None:
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        file = f"{directory}/{CREDENTIAL}" if directory else None
        if file is None or not os.path.exists(file):
            return None
    try:
        with open(file, encoding="utf-8") as stream:
            return stream.read(4096).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"queue_password_file is {file}, which cannot be read: {said}") from None


def first_line(error: psycopg.Error) -> str:
    """What psycopg says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Of several hosts, the reason of each is on a line of its own.
    failed = [line for line in lines if "failed" in line or "is not" in line]
    text = "; ".join(failed) if len(failed) > 1 else (lines[0] if lines else type(error).__name__)
    return text.removeprefix("connection failed: ").removeprefix("connection is bad: ")


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()
_parents: list[psycopg.Connection[Row]] = []


def _forget_in_child() -> None:
    for connection in list(_connections):
        connection._forget()


os.register_at_fork(after_in_child=_forget_in_child)
