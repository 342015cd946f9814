"""What is stored of messages. `piper` gives each test queues of its own."""

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from piperkit import Message, PiperDaemon
from piperkit.testing import Piper

from mydaemon.component import Mydaemon


def build(argv: list[str]) -> PiperDaemon:
    """A daemon with this component alone."""
    return PiperDaemon(
        name="mydaemon",
        argv=argv,
        components=[Mydaemon()],
        default_database="stored.sqlite",
    )


def stored(piper: Piper) -> list[bytes]:
    database = sqlite3.connect(piper.directory / "stored.sqlite")
    rows = database.execute("SELECT contents FROM messages ORDER BY rowid").fetchall()
    database.close()
    return [contents.encode() for (contents,) in rows]


def test_stores_every_message_in_order(piper: Piper) -> None:
    messages = [f"message {number}" for number in range(7)]
    piper.put(*messages)
    piper.run(build, "--batch-size=3")
    assert stored(piper) == [message.encode() for message in messages]
    assert piper.counts()["incoming"] == 0


def test_a_trial_stores_nothing(piper: Piper) -> None:
    piper.put("first")
    piper.run(build)
    (piper.directory / "second").write_text("second")
    piper.run(build, "--action=try", f"--input={piper.directory}/second")
    assert stored(piper) == [b"first"]


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


def test_what_cannot_be_stored_stays_in_the_queue_until_it_can(piper: Piper) -> None:
    (piper.directory / "stored.sqlite").write_text("no database, and long enough to be seen as none" * 20)
    piper.put("hello", "world")
    piper.run(build)
    assert piper.counts()["incoming"] == 2
    assert piper.errors == []
    (piper.directory / "stored.sqlite").unlink()
    piper.run(build)
    assert stored(piper) == [b"hello", b"world"]


def test_a_database_that_was_replaced_is_opened_anew(piper: Piper) -> None:
    class Replaced(Mydaemon):
        """Has its database moved away before the second batch."""

        def process_batch(self, messages: Sequence[Message]) -> None:
            if Path("stored.sqlite").exists():
                Path("stored.sqlite").rename("old.sqlite")
            super().process_batch(messages)

    piper.put("one", "two")
    piper.run(
        lambda argv: PiperDaemon(
            name="mydaemon",
            argv=argv,
            components=[Replaced()],
            default_database="stored.sqlite",
        ),
        "--batch-size=1",
    )
    assert stored(piper) == [b"two"]


@pytest.mark.slow
def test_loses_nothing_wherever_it_is_killed(piper: Piper) -> None:
    piper.crash_walk(build, "hello", delivered=stored, places=["stored.sqlite"])
