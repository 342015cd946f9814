"""Where messages end. This file is yours: an update of the template does not touch it."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from piperkit import BatchComponent, Message, Option, PiperDaemon, Reject, Unavailable

TABLE = """
CREATE TABLE IF NOT EXISTS messages
    (id TEXT NOT NULL, arrived REAL NOT NULL, contents TEXT NOT NULL, PRIMARY KEY (id, arrived))
"""


class Mydaemon(BatchComponent):
    """Does one thing."""

    trial = True  # by --action try: then nothing is stored

    database = Option(
        str, "{var}/lib/{name}/messages.sqlite", kind="path", help="SQLite database for the messages", fixed=True
    )

    def setup(self, daemon: PiperDaemon) -> None:
        self.path = Path(self.database)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.connection: sqlite3.Connection | None = None
        self.file: tuple[int, int] | None = None  # device and inode

    def process_batch(self, messages: Sequence[Message]) -> None:
        """Store the messages in one transaction: they are gone from the queue only when that is on the disk.

        After a crash in between, the same messages come once more: their ids and times say that they are there already.
        """
        rows = [(message.id, message.arrived, message.text) for message in messages]
        try:
            with self.connect() as connection:
                connection.executemany("INSERT INTO messages VALUES (?, ?, ?) ON CONFLICT DO NOTHING", rows)
                if self.is_trial:
                    connection.rollback()
        except (sqlite3.IntegrityError, sqlite3.DataError) as error:  # a message's fault: the others are stored alone
            raise Reject(f"SQLite: {error}") from error
        except (sqlite3.DatabaseError, OSError) as error:  # locked, full, moved, damaged, not to be written to
            self.teardown(None)
            raise Unavailable(f"{self.path}: {error}") from error

    def connect(self) -> sqlite3.Connection:
        """The connection; a new one where another file has the database's name now."""
        if self.connection is not None and self.file_now() != self.file:
            self.teardown(None)
        if self.connection is None:
            if self.is_trial and not self.path.exists():
                raise Unavailable(f"{self.path}: there is no database yet")
            self.connection = sqlite3.connect(self.path)
            with self.connection:
                self.connection.execute(TABLE)
            self.file = self.file_now()
        return self.connection

    def file_now(self) -> tuple[int, int] | None:
        if not self.path.exists():
            return None
        stat = self.path.stat()
        return stat.st_dev, stat.st_ino

    def teardown(self, daemon: PiperDaemon | None) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None
