"""What `piperctl doctor` looks at where a queue is in a database: what slows it down, and what it would not survive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from shlex import quote
from typing import Any

from piperkit import engines
from piperkit.doctor.finding import Finding
from piperkit.errors import ConfigError, PiperError

Rows = Callable[..., list[tuple[Any, ...]]]
#: Dead rows for each live one, and at least so many, from which on vacuum does not keep up.
_DEAD_TIMES, _DEAD_LEAST = 2, 50_000
#: Seconds: of a transaction that keeps vacuum from its work, of two clocks, and of an instance that has not been seen.
_OLD, _APART, _UNSEEN = 600, 2.0, 90


def check(address: str) -> Iterator[Finding]:
    """All of it. What the account may not see is said once."""
    try:
        engines.require()
        from piperkit.postgres import schema
        from piperkit.postgres.connection import Connection

        parsed = engines.Address.parse(address)
        connection = Connection(parsed, "doctor")
    except ConfigError as error:
        yield Finding(address, str(error), "correct queue_in_dir or queue_out_dir")
        return
    try:
        schema.number(connection, parsed.queue)
    except PiperError as error:
        yield Finding(address, str(error), f"piperctl queue create {parsed.quoted}")
        connection.close()
        return
    try:
        yield from _rows(address, connection.rows)
        yield from _transactions(address, connection.rows)
        yield from _standby(address, connection.rows)
        yield from _instances(address)
        yield from _encryption(address)
        began = time.time()
        (there,) = connection.rows("SELECT extract(epoch FROM clock_timestamp())::float8")[0]
        apart = there - (began + time.time()) / 2
        if abs(apart) > _APART:
            words = (
                f"the clock of its server is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} this machine's"
            )
            yield Finding(address, f"{words}: ages that are shown are wrong by that", "timedatectl set-ntp true", True)
    except PiperError as error:
        yield Finding(address, f"not all of it could be examined: {error}", "do it as an account that may", True)
    finally:
        connection.close()


def _rows(address: str, rows: Rows) -> Iterator[Finding]:
    """Vacuum keeps up."""
    found = rows("SELECT relname, n_live_tup, n_dead_tup FROM pg_stat_user_tables WHERE schemaname = 'piper'")
    for table, live, dead in found:
        if dead > _DEAD_LEAST and dead > _DEAD_TIMES * live:
            words = f"the table piper.{table} has {dead} dead rows for {live} live ones: vacuum does not keep up"
            yield Finding(address, words, f"psql -c {quote(f'VACUUM piper.{table}')}", warning=True)


def _transactions(address: str, rows: Rows) -> Iterator[Finding]:
    """Nothing keeps vacuum from its work."""
    found = rows(
        "SELECT pid, usename, coalesce(application_name, ''), extract(epoch FROM clock_timestamp() - xact_start)::int"
        " FROM pg_stat_activity WHERE xact_start < clock_timestamp() - %s * interval '1 s'"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
        (_OLD,),
    )
    for pid, user, application, age in found:
        who = f"{user}{f' ({application})' if application else ''}"
        words = f"a transaction of {who} is open for {age} s; what moves on cannot be cleared up meanwhile"
        yield Finding(address, words, f"psql -c {quote(f'SELECT pg_terminate_backend({pid})')}", warning=True)


def _standby(address: str, rows: Rows) -> Iterator[Finding]:
    """The loss of the server loses nothing."""
    names = rows("SELECT current_setting('synchronous_standby_names')")[0][0]
    if not names:
        words = "its server has no synchronous standby: if it is lost, so is what was committed"
        yield Finding(address, words, "set synchronous_standby_names; see docs/growing.md", warning=True)
        return
    if not rows("SELECT 1 FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')"):
        words = f"no synchronous standby ({names}) follows its server: nothing can be committed until one does"
        yield Finding(address, words, "start the standby, or change synchronous_standby_names")


def _encryption(address: str) -> Iterator[Finding]:
    """What is on the way over a network is read by nobody else, and comes from the server that is meant."""
    from psycopg.conninfo import conninfo_to_dict

    given = conninfo_to_dict(engines.Address.parse(address).database)
    hosts = str(given.get("host") or "").split(",")
    local = all(not host or host.startswith("/") or host in ("localhost", "127.0.0.1", "::1") for host in hosts)
    if not local and given.get("sslmode") != "verify-full" and "service" not in given:
        words = "whoever is between here and its server can read what is on the way, or be the server"
        yield Finding(address, words, "add sslmode=verify-full to its address; see docs/growing.md", warning=True)


def _instances(address: str) -> Iterator[Finding]:
    """Those that have died are known to be dead."""
    now = time.time()
    for each in engines.view(address).instances() or ():
        if each.alive and each.seen is not None and now - each.seen > _UNSEEN:
            words = f"the instance {each.host}:{each.pid} has not been seen for {now - each.seen:.0f} s: is it stopped?"
            yield Finding(address, words, f"ssh {quote(each.host)} kill -CONT {each.pid}", warning=True)
