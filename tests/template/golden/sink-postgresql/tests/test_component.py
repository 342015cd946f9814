"""What is stored of messages, in the database that TEST_DATABASE names. `piper` gives each test queues of its own."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from piperkit import PiperDaemon
from piperkit.testing import Piper
from psycopg import sql

from mydaemon.component import Mydaemon

DATABASE = os.environ.get("TEST_DATABASE", "")


def table(directory: Path) -> str:
    """The name of a table for the tests in a directory."""
    return "test_" + hashlib.sha256(bytes(directory)).hexdigest()[:20]


def build(argv: list[str]) -> PiperDaemon:
    """A daemon with this component alone, with a table for the directory that it is called in."""
    return PiperDaemon(
        name="mydaemon",
        argv=argv,
        components=[Mydaemon()],
        default_database=DATABASE,
        default_table=table(Path.cwd()),
    )


def execute(query: LiteralString, directory: Path) -> list[tuple[str]]:
    """What a query about a table returns."""
    with psycopg.connect(DATABASE, autocommit=True) as connection:
        cursor = connection.execute(sql.SQL(query).format(sql.Identifier(table(directory))))
        return cursor.fetchall() if cursor.description else []


def stored(piper: Piper) -> list[bytes]:
    return [contents.encode() for (contents,) in execute("SELECT contents FROM {} ORDER BY ctid", piper.directory)]


def taken(piper: Piper) -> list[bytes]:
    """What is stored, and then no more."""
    found = stored(piper)
    execute("DROP TABLE {}", piper.directory)
    return found


@pytest.fixture(autouse=True)
def clean(piper: Piper) -> Iterator[None]:
    """No table is left of a test."""
    if not DATABASE:
        pytest.skip("needs a PostgreSQL server: make test TEST_DATABASE=postgresql://localhost/test")
    yield
    for directory in (piper.directory, piper.directory / "walk0", piper.directory / "walk1"):
        execute("DROP TABLE IF EXISTS {}", directory)


def test_stores_every_message_in_order(piper: Piper) -> None:
    messages = [f"message {number}" for number in range(7)]
    piper.put(*messages)
    piper.run(build, "--batch-size=3")
    assert stored(piper) == [message.encode() for message in messages]
    assert piper.counts()["incoming"] == 0


def test_a_message_that_comes_again_is_stored_once(piper: Piper) -> None:
    for _ in range(2):
        piper.queue_in.enqueue("hello", "the-same-id")
        os.utime(piper.directory / "in" / "incoming" / "the-same-id", (1, 1))
        piper.run(build)
    assert stored(piper) == [b"hello"]


def test_another_message_of_the_same_name_is_stored_too(piper: Piper) -> None:
    for contents in ("hello", "hello again"):
        piper.queue_in.enqueue(contents, "the-same-id")
        piper.run(build)
    assert stored(piper) == [b"hello", b"hello again"]


def test_one_that_the_database_cannot_hold_is_banished_alone(piper: Piper) -> None:
    piper.put("one", "a \0 in a text", "two")
    piper.run(build)
    assert stored(piper) == [b"one", b"two"]
    assert [contents for contents, _ in piper.errors] == [b"a \0 in a text"]


def test_what_cannot_be_stored_stays_in_the_queue_until_it_can(piper: Piper) -> None:
    execute("CREATE TABLE {} (another int)", piper.directory)
    piper.put("hello", "world")
    piper.run(build)
    assert piper.counts()["incoming"] == 2
    assert piper.errors == []
    execute("DROP TABLE {}", piper.directory)
    piper.run(build)
    assert stored(piper) == [b"hello", b"world"]


def test_without_a_server_messages_wait(piper: Piper) -> None:
    piper.put("hello")
    piper.run(build, "--database=host=127.0.0.1 port=1")
    assert piper.counts()["incoming"] == 1
    piper.run(build)
    assert stored(piper) == [b"hello"]


def test_a_password_in_the_configuration_is_refused_and_not_shown(piper: Piper) -> None:
    assert piper.run(build, "--database=host=db1 password=secret") == 78
    assert "use passfile=" in piper.log
    assert "secret" not in piper.log


@pytest.mark.slow
def test_loses_nothing_wherever_it_is_killed(piper: Piper) -> None:
    piper.crash_walk(build, "hello", delivered=taken)
