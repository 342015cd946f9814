"""The tables of queues in a database: made and migrated by `piperctl queue create`, and who may do what with them.

All is in the schema `piper`. `version` says which of `MIGRATIONS` were done; each is one transaction, and what is older
or newer than this runtime is refused, with what to do. Roles, for `GRANT ... TO` the accounts that log in:

    piper_producer    may enqueue, and see no contents
    piper_daemon      may work on all queues
    piper_viewer      may look
    piper_operator    may look, and act
"""

from __future__ import annotations

from piperkit.errors import PiperError, QueueMissing
from piperkit.postgres.connection import Connection

#: What brings the tables from one version to the next.
MIGRATIONS = (
    """
    CREATE SCHEMA piper;
    CREATE TABLE piper.version (number integer NOT NULL);
    INSERT INTO piper.version VALUES (0);
    CREATE TYPE piper.part AS ENUM ('incoming', 'pending', 'deferred', 'hold', 'errors');
    CREATE TABLE piper.queue (
        number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text COLLATE "C" NOT NULL UNIQUE,
        paused jsonb
    );
    -- Contents are apart: a message moves five times, and they need not be copied for that.
    CREATE SEQUENCE piper.bodies;
    CREATE TABLE piper.body (number bigint PRIMARY KEY, contents bytea NOT NULL) WITH (
        autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0
    );
    CREATE TABLE piper.message (
        queue integer NOT NULL,
        id text COLLATE "C" NOT NULL,
        part piper.part NOT NULL DEFAULT 'incoming',
        holder integer,                        -- of pending: the instance, see the table instance
        attempts integer NOT NULL DEFAULT 0,
        size integer NOT NULL,                 -- bytes
        arrived timestamptz NOT NULL DEFAULT clock_timestamp(),
        due timestamptz,                       -- of deferred: the next attempt; of errors: when it was banished
        record jsonb,                          -- what is known besides; of errors: the reason
        body bigint NOT NULL,
        PRIMARY KEY (queue, id)
    ) WITH (
        fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.2
    );
    CREATE INDEX message_incoming ON piper.message (queue, id) WHERE part = 'incoming';
    CREATE INDEX message_others ON piper.message (queue, part, due) WHERE part <> 'incoming';
    -- Instances hold an advisory lock of their number while they live, so nothing here has to outlive the server.
    CREATE SEQUENCE piper.holders AS integer CYCLE;
    CREATE UNLOGGED TABLE piper.instance (
        holder integer PRIMARY KEY,
        queue integer NOT NULL,
        host text NOT NULL,
        pid integer NOT NULL,
        daemon text NOT NULL,
        version text NOT NULL,
        since timestamptz NOT NULL DEFAULT clock_timestamp(),
        seen timestamptz NOT NULL DEFAULT clock_timestamp(),
        rate real,                             -- messages a second, lately
        waits_for text,                        -- for people
        full_queue text,                       -- the queue that it waits for to have room
        begun text                             -- the message in work; empty: one of several
    ) WITH (autovacuum_vacuum_threshold = 100, autovacuum_vacuum_scale_factor = 0);
    -- What has come from other engines, so that a move that was cut off is not done twice.
    CREATE TABLE piper.receipt (
        queue integer NOT NULL,
        id text COLLATE "C" NOT NULL,
        arrived timestamptz NOT NULL,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (queue, id, arrived)
    );
    CREATE TABLE piper.history (
        number bigint GENERATED ALWAYS AS IDENTITY,
        queue integer NOT NULL,
        id text COLLATE "C" NOT NULL,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        line text NOT NULL
    );
    CREATE INDEX history_at ON piper.history (queue, at);
    CREATE INDEX history_number ON piper.history (queue, number);
    CREATE INDEX history_id ON piper.history (id);
    """,
)
VERSION = len(MIGRATIONS)
#: What each role may do. Each has what is named here, and nothing by default.
ROLES = {
    "piper_producer": """
        GRANT USAGE ON SCHEMA piper TO {role};
        GRANT SELECT ON piper.version, piper.queue TO {role};
        GRANT SELECT (queue, id, part, arrived), INSERT ON piper.message TO {role};
        GRANT INSERT ON piper.body TO {role};
        GRANT SELECT, INSERT ON piper.receipt TO {role};
        GRANT USAGE ON SEQUENCE piper.bodies TO {role};
    """,
    "piper_daemon": """
        GRANT USAGE ON SCHEMA piper TO {role};
        GRANT SELECT ON piper.version, piper.queue TO {role};
        GRANT SELECT, INSERT, UPDATE, DELETE ON piper.message, piper.body, piper.instance, piper.receipt TO {role};
        GRANT SELECT, INSERT, DELETE ON piper.history TO {role};
        GRANT USAGE ON SEQUENCE piper.bodies, piper.holders TO {role};
    """,
    "piper_viewer": """
        GRANT USAGE ON SCHEMA piper TO {role};
        GRANT SELECT ON ALL TABLES IN SCHEMA piper TO {role};
    """,
    "piper_operator": """
        GRANT USAGE ON SCHEMA piper TO {role};
        GRANT SELECT ON ALL TABLES IN SCHEMA piper TO {role};
        GRANT INSERT, UPDATE, DELETE ON piper.message, piper.body, piper.receipt TO {role};
        GRANT INSERT ON piper.history TO {role};
        GRANT UPDATE (paused) ON piper.queue TO {role};
        GRANT USAGE ON SEQUENCE piper.bodies TO {role};
    """,
}
#: The advisory lock of whoever makes or migrates them.
_LOCK = 0x70697065


def number(connection: Connection, queue: str) -> int:
    """The number of a queue in the database. Raises QueueMissing where it is not there, or not of this version."""
    check_version(connection)
    found = connection.rows("SELECT number FROM piper.queue WHERE name = %s", (queue,))
    if not found:
        address = connection.address.of(queue)
        raise QueueMissing(f"there is no queue {address}: piperctl queue create {address.quoted}")
    return int(found[0][0])


def check_version(connection: Connection) -> None:
    """Raises QueueMissing where the tables are not there, or not of this version."""
    there = connection.rows("SELECT number FROM piper.version")
    found = there[0][0] if there else 0
    where = connection.address.shown_database
    if found > VERSION:
        raise QueueMissing(
            f"the queues of the database {where} are of version {found}, and this piperkit knows up to {VERSION}:"
            " upgrade piperkit here"
        )
    if found < VERSION:
        raise QueueMissing(
            f"the queues of the database {where} are of version {found}, and this piperkit needs {VERSION}:"
            f" piperctl queue create {connection.address.quoted}, when no older daemon works there"
        )


def create(connection: Connection, queue: str) -> tuple[bool, list[str]]:
    """Make the tables, or bring them to this version, and the queue; returns whether that is new, and what could not be
    done. Idempotent, and safe side by side. Raises QueueError.
    """
    left: list[str] = []
    with connection.transaction():
        connection.run("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        found = 0
        if connection.rows("SELECT 1 FROM pg_namespace WHERE nspname = 'piper'"):
            found = int(connection.rows("SELECT number FROM piper.version")[0][0])
        if found > VERSION:
            check_version(connection)
        for migration in MIGRATIONS[found:]:
            connection.simple(migration)
            connection.run("UPDATE piper.version SET number = number + 1")
        made = connection.run("INSERT INTO piper.queue (name) VALUES (%s) ON CONFLICT DO NOTHING", (queue,))
    for role, grants in ROLES.items():
        try:
            with connection.transaction():
                if not connection.rows("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)):
                    connection.simple(f"CREATE ROLE {role} NOLOGIN")
                connection.simple(grants.format(role=role))
        except PiperError as error:
            left.append(f"the role {role} could not be made: {error}")
    return bool(made), left
