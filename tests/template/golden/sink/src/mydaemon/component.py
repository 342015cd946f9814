"""Where messages end. This file is yours: an update of the template does not touch it."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from piperkit import BatchComponent, Message, Option, PiperDaemon

TABLE = """
CREATE TABLE IF NOT EXISTS messages
    (id TEXT NOT NULL, arrived REAL NOT NULL, contents TEXT NOT NULL, PRIMARY KEY (id, arrived))
"""


class Mydaemon(BatchComponent):
    """Does one thing."""

    database = Option(
        str, "{var}/lib/{name}/messages.sqlite", kind="path", help="SQLite database for the messages", fixed=True
    )

    def setup(self, daemon: PiperDaemon) -> None:
        path = Path(self.database)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.connection = sqlite3.connect(path)
        with self.connection:
            self.connection.execute(TABLE)

    def process_batch(self, messages: Sequence[Message]) -> None:
        """Store the messages in one transaction: they are gone from the queue only when that is on the disk.

        After a crash in between, the same messages come once more: their ids and times say that they are there already.
        """
        rows = [(message.id, message.arrived, message.text) for message in messages]
        with self.connection:
            self.connection.executemany("INSERT INTO messages VALUES (?, ?, ?) ON CONFLICT DO NOTHING", rows)

    def teardown(self, daemon: PiperDaemon) -> None:
        self.connection.close()
