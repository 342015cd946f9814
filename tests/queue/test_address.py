"""How a queue in a database is called."""

from __future__ import annotations

import pytest

from piperkit.errors import ConfigError
from piperkit.postgres.address import Address


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:secret@host/db?queue=in",
        "postgresql://host/db?queue=in&password=secret",
        "postgres://me:secret@host/db?queue=in",
    ],
)
def test_address_with_a_password_is_refused_and_not_shown(address: str) -> None:
    with pytest.raises(ConfigError, match="password") as info:
        Address.parse(address)
    assert "secret" not in str(info.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://host/db",
        "postgresql://host/db?queue=",
        "postgresql://host/db?queue=a&queue=b",
        "postgresql://host/db?queue=a/b",
        "postgresql://host/db?queue=.a",
        "postgresql:host/db?queue=a",
        "postgresql://[/db?queue=a",
    ],
)
def test_what_is_no_address_is_refused_with_what_would_be(address: str) -> None:
    with pytest.raises(ConfigError):
        Address.parse(address)


@pytest.mark.parametrize(
    ("address", "database", "queue"),
    [
        ("postgresql://db1,db2:5433/spool?queue=in", "postgresql://db1,db2:5433/spool", "in"),
        ("postgresql:///spool?host=/run/pg&queue=in", "postgresql:///spool?host=/run/pg", "in"),
        ("postgres://me@db1/spool?queue=in&sslmode=verify-full", "postgresql://me@db1/spool?sslmode=verify-full", "in"),
    ],
)
def test_address_is_the_databases_and_the_queues_name(address: str, database: str, queue: str) -> None:
    found = Address.parse(address)
    assert (found.database, found.queue) == (database, queue)
    assert Address.parse(str(found)) == found
