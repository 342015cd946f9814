"""The engines, as the suite that all of them have to pass sees them."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any, Protocol

import dirq_tools
import postgresql
from piperkit import engines
from piperkit.dirq import DirectoryQueue, Sync
from piperkit.dirq.view import QueueView
from piperkit.operating import Operator, View
from piperkit.postgres import schema
from piperkit.postgres.address import Address
from piperkit.postgres.connection import Connection
from piperkit.postgres.database_queue import DatabaseQueue
from piperkit.queue import Queue


class Engine(Protocol):
    """What the suite needs to know of an engine besides the interface."""

    def open(self, name: str = "in", next: str | None = None, **settings: Any) -> Queue:
        """Another instance on the queue `name`."""

    def address(self, name: str) -> str:
        """The queue `name` as a target of `dispatch` and `duplicate`."""

    def put_foreign(self, name: str, id: str, contents: bytes) -> None:
        """What a foreign producer does."""

    def crash(self, queue: Queue) -> None:
        """The instance's process dies."""

    def reason(self, name: str, id: str) -> str:
        """Why a message is among the dead letters."""

    def view(self, name: str) -> View:
        """What is in the queue `name`."""

    def operator(self, name: str) -> Operator:
        """Acts on its messages."""


class Directory:
    """The engine `DirectoryQueue`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, name: str = "in", next: str | None = None, **settings: Any) -> DirectoryQueue:
        next_queue = None if next is None else self.address(next)
        return DirectoryQueue(
            self.address(name), next_queue=next_queue, min_free=0, orphan_age=0, sync=Sync.OFF, **settings
        )

    def address(self, name: str) -> str:
        return str(self._root / name)

    def put_foreign(self, name: str, id: str, contents: bytes) -> None:
        temporary = self._root / name / "tmp" / id
        temporary.write_bytes(contents)
        temporary.rename(self._root / name / "incoming" / id)

    def crash(self, queue: Queue) -> None:
        assert isinstance(queue, DirectoryQueue)
        dirq_tools.crash(queue)

    def reason(self, name: str, id: str) -> str:
        view = QueueView(self.address(name))
        report = view.report(view.find(id))
        assert report is not None
        return str(report["reason"])

    def view(self, name: str) -> View:
        return engines.view(self.address(name))

    def operator(self, name: str) -> Operator:
        return engines.operator(self.address(name), "ann")


class Database:
    """The engine `DatabaseQueue`, in a database of its own on a server; or in that of another one, with other names."""

    _numbers = itertools.count()

    def __init__(self, server: postgresql.Server, beside: Database | None = None) -> None:
        if beside is not None:
            self.url, self._prefix = beside.url, f"t{next(self._numbers)}."
            return
        self._prefix = ""
        self.database = f"test_{os.getpid()}_{next(self._numbers)}"
        self._admin = Connection(Address.parse(server.url, needs_queue=False))
        self._admin.run(f"CREATE DATABASE {self.database}")
        self.url = server.url.replace("/postgres?", f"/{self.database}?")

    def open(self, name: str = "in", next: str | None = None, **settings: Any) -> DatabaseQueue:
        create(self.address(name))
        next_queue = None if next is None else self.address(next)
        return DatabaseQueue(self.address(name), next_queue=next_queue, **settings)

    def address(self, name: str) -> str:
        return f"{self.url}&queue={self._prefix}{name}"

    def put_foreign(self, name: str, id: str, contents: bytes) -> None:
        with DatabaseQueue(self.address(name)) as queue:
            queue.enqueue(contents, id)

    def crash(self, queue: Queue) -> None:
        assert isinstance(queue, DatabaseQueue)
        lose(queue)

    def reason(self, name: str, id: str) -> str:
        query = (
            "SELECT record->>'reason' FROM piper.message JOIN piper.queue ON queue = number WHERE name = %s AND id = %s"
        )
        address = Address.parse(self.address(name))
        connection = Connection(address)
        reason = connection.rows(query, (address.queue, id))[0][0]
        connection.close()
        return str(reason)

    def view(self, name: str) -> View:
        return engines.view(self.address(name))

    def operator(self, name: str) -> Operator:
        return engines.operator(self.address(name), "ann")

    def drop(self) -> None:
        """Remove the database."""
        self._admin.run(f"DROP DATABASE {self.database} WITH (FORCE)")
        self._admin.close()


def create(address: str) -> None:
    """Make a queue in a database."""
    parsed = Address.parse(address)
    connection = Connection(parsed)
    schema.create(connection, parsed.queue)
    connection.close()


def lose(queue: DatabaseQueue) -> None:
    """The instance's process dies: the server learns that when its socket is closed, and nothing else is done."""
    number = queue._lease.holder
    queue._connection.drop()
    queue._held.clear()
    queue._changes.clear()
    queue._lease.holder = 0
    watcher = Connection(queue.address)
    while number and watcher.rows(
        "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND granted", (number,)
    ):
        pass
    watcher.close()
