"""Where messages end. This file is yours: an update of the template does not touch it."""

from collections.abc import Sequence

import psycopg
from piperkit import BatchComponent, ConfigError, Message, Option, PiperDaemon, Reject, Unavailable
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

CREATE = sql.SQL("""
CREATE TABLE {}
    (id text NOT NULL, arrived double precision NOT NULL, contents text NOT NULL, PRIMARY KEY (id, arrived))
""")
INSERT = sql.SQL("INSERT INTO {} (id, arrived, contents) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING")

#: What holds unless `database` says otherwise: of several servers the one that takes data, and nothing waits for ever.
DEFAULTS: dict[str, str | int] = {
    "application_name": "mydaemon",
    "target_session_attrs": "read-write",
    "connect_timeout": 10,
    "tcp_user_timeout": 30_000,
    "keepalives_idle": 10,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "options": "-c lock_timeout=30s",
}


class Mydaemon(BatchComponent):
    """Does one thing."""

    trial = True  # by --action try: then nothing is stored

    database = Option(str, "dbname={name}", help="PostgreSQL database, without its password; see README.md", fixed=True)
    table = Option(str, "messages", help="its table, or SCHEMA.TABLE; made where it is missing", fixed=True)

    def setup(self, daemon: PiperDaemon) -> None:
        try:
            given = conninfo_to_dict(self.database)
        except psycopg.Error:  # its text may show a password
            raise ConfigError('database must be such as "host=db1 dbname=it" or "postgresql://db1/it"') from None
        if "password" in given:
            raise ConfigError("database holds a password, which others could see; use passfile= or ~/.pgpass")
        self.server = make_conninfo("", **{**DEFAULTS, **given})
        self.identifier = sql.Identifier(*self.table.split("."))
        self.connection: psycopg.Connection | None = None

    def process_batch(self, messages: Sequence[Message]) -> None:
        """Store the messages in one transaction: they are gone from the queue only when the server has them.

        After a crash in between, the same messages come once more: their ids and times say that they are there already.
        """
        rows = [(message.id, message.arrived, message.text) for message in messages]
        connection = self.connect()
        try:
            with connection.transaction(force_rollback=self.is_trial), connection.cursor() as cursor:
                cursor.executemany(INSERT.format(self.identifier), rows)
        except (psycopg.IntegrityError, psycopg.DataError) as error:  # a message's fault: the others are stored alone
            raise Reject(f"PostgreSQL: {error}") from error
        except psycopg.Error as error:  # gone, full, locked, read-only, another table
            self.teardown(None)
            raise Unavailable(f"PostgreSQL: {error}") from error

    def connect(self) -> psycopg.Connection:
        """The connection, made anew after a failure. The table is there then."""
        if self.connection is not None:
            return self.connection
        try:
            self.connection = psycopg.connect(self.server, autocommit=True)
            name = self.identifier.as_string(self.connection)
            if self.connection.execute("SELECT to_regclass(%s)", [name]).fetchone() == (None,):
                if self.is_trial:
                    raise Unavailable(f"PostgreSQL: there is no table {self.table} yet")
                self.connection.execute(CREATE.format(self.identifier))
        except psycopg.Error as error:  # not there, starting, a wrong password, no right to make a table
            self.teardown(None)
            raise Unavailable(f"PostgreSQL: {error}") from error
        return self.connection

    def teardown(self, daemon: PiperDaemon | None) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None
