"""Which engine keeps a queue: its name says so. An absolute path is a directory's, postgresql://… a database's.

The engine for databases is imported only for a queue in one.
"""

from __future__ import annotations

import os
from typing import Any

from piperkit.dirq.acts import Operator as DirectoryOperator
from piperkit.dirq.layout import is_queue
from piperkit.dirq.outlet import DirectoryOutlet
from piperkit.dirq.view import QueueView
from piperkit.errors import ConfigError, PiperError, QueueMissing, TargetUnavailable
from piperkit.operating import Operator, View
from piperkit.postgres.address import Address, is_address
from piperkit.queue import Outlet, Queue
from piperkit.text import harmless

__all__ = [
    "Address",
    "create",
    "elsewhere",
    "is_address",
    "operator",
    "producer",
    "require",
    "short_name",
    "spool",
    "view",
]


def require() -> None:
    """Raises ConfigError where what databases need is not installed."""
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"a queue in a database needs psycopg ({error}): pip install 'piperkit[postgres]'") from None


def elsewhere(queue: str, daemon: str = "", password_file: str | None = None) -> Outlet:
    """A queue to put messages into that another engine has kept. Raises TargetUnavailable."""
    if not is_address(queue):
        if not queue.startswith("/"):
            raise TargetUnavailable(f"{queue!r} is not a queue: it must be an absolute path, or an address")
        return DirectoryOutlet(queue)
    try:
        require()
        from piperkit.postgres.outlets import DatabaseOutlet

        return DatabaseOutlet(queue, daemon, password_file)
    except ConfigError as error:
        raise TargetUnavailable(str(error)) from None


def view(queue: str, password_file: str | None = None) -> View:
    """What is in a queue. Raises QueueMissing, QueueAway, ConfigError."""
    if is_address(queue):
        found: View = _of_database("view", "DatabaseView", queue, password_file)
        return found
    return QueueView(queue)


def exists(queue: str) -> bool:
    """Whether the queue is there, as far as is known."""
    if not is_address(queue):
        return is_queue(queue)
    try:
        view(queue)
    except PiperError:
        return False
    return True


def operator(queue: str, who: str) -> Operator:
    """Acts on the messages of a queue. Raises ConfigError."""
    if is_address(queue):
        found: Operator = _of_database("acts", "Operator", queue, who, elsewhere)
        return found
    return DirectoryOperator(queue, who, elsewhere)


def short_name(queue: str) -> str:
    """A queue's name, without where it is."""
    if is_address(queue):
        try:
            return Address.parse(queue, needs_queue=False).queue
        except ConfigError:
            pass
    return os.path.basename(queue)


def spool(where: str) -> list[str]:
    """The paths of the queues in a directory, or the addresses of those in a database, by name.

    Raises QueueMissing where that is none, ConfigError.
    """
    if is_address(where):
        kept: list[str] = _of_database("view", "spool", where)
        return kept
    try:
        names = sorted(entry.name for entry in os.scandir(where) if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        raise QueueMissing(f"{harmless(where)} is not a directory, and so no spool") from None
    return [path for name in names if is_queue(path := os.path.join(where, name))]


def producer(address: str, message_max: int) -> Queue:
    """A queue in a database, to put messages into. Raises QueueMissing, QueueAway, ConfigError."""
    require()
    from piperkit.postgres.database_queue import DatabaseQueue

    queue = DatabaseQueue(address, message_max=message_max, daemon="piperctl")
    queue.connect()
    return queue


def create(address: str) -> tuple[bool, list[str]]:
    """Make a queue in a database, and the tables where they are missing or old; see `piperkit.postgres.schema`."""
    require()
    from piperkit.postgres import schema
    from piperkit.postgres.connection import Connection

    parsed = Address.parse(address)
    connection = Connection(parsed, "piperctl")
    try:
        return schema.create(connection, parsed.queue)
    finally:
        connection.close()


def _of_database(module: str, name: str, *arguments: Any) -> Any:
    require()
    import importlib

    return getattr(importlib.import_module(f"piperkit.postgres.{module}"), name)(*arguments)
