"""Where messages end. This file is yours: an update of the template does not touch it."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from piperkit import BatchComponent, Message, Option, PiperDaemon

TABLE = "CREATE TABLE IF NOT EXISTS messages (id TEXT PRIMARY KEY, arrived REAL NOT NULL, contents TEXT NOT NULL)"


class Mydaemon(BatchComponent):
    """Does one thing."""

    options = (
        Option("database", "path", "{var}/lib/{name}/messages.sqlite", "SQLite database for the messages", fixed=True),
        *BatchComponent.options,
    )

    def setup(self, daemon: PiperDaemon) -> None:
        path = Path(daemon.c("database"))
        path.parent.mkdir(parents=True, exist_ok=True)
        self.database = sqlite3.connect(path)
        with self.database:
            self.database.execute(TABLE)

    def process_batch(self, messages: Sequence[Message]) -> None:
        """Store the messages in one transaction: they are gone from the queue only when that is on the disk.

        After a crash in between, the same messages come once more: their ids say that they are there already.
        """
        rows = [(message.id, message.arrived, message.text) for message in messages]
        with self.database:
            self.database.executemany("INSERT INTO messages VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING", rows)

    def teardown(self, daemon: PiperDaemon) -> None:
        self.database.close()
