"""Which engine keeps a queue: its name says so. An absolute path is a directory's, postgresql://… a database's.

The engine for databases is imported only for a queue in one.
"""

from __future__ import annotations

from typing import Any

from piperkit.dirq.acts import Operator as DirectoryOperator
from piperkit.dirq.outlet import DirectoryOutlet
from piperkit.dirq.view import QueueView
from piperkit.errors import ConfigError, TargetUnavailable
from piperkit.operating import Operator, View
from piperkit.postgres.address import Address, is_address
from piperkit.queue import Outlet

__all__ = ["Address", "elsewhere", "is_address", "operator", "require", "view"]


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
            raise TargetUnavailable(f"{queue!r} is no queue: it must be an absolute path, or an address")
        return DirectoryOutlet(queue)
    try:
        require()
        from piperkit.postgres.outlets import DatabaseOutlet

        return DatabaseOutlet(queue, daemon, password_file)
    except ConfigError as error:
        raise TargetUnavailable(str(error)) from None


def view(queue: str) -> View:
    """What is in a queue. Raises QueueMissing, ConfigError."""
    return _of_database("view", "DatabaseView", queue) if is_address(queue) else QueueView(queue)


def operator(queue: str, who: str) -> Operator:
    """Acts on the messages of a queue. Raises ConfigError."""
    return _of_database("acts", "Operator", queue, who) if is_address(queue) else DirectoryOperator(queue, who)


def _of_database(module: str, name: str, *arguments: str) -> Any:
    require()
    import importlib

    return getattr(importlib.import_module(f"piperkit.postgres.{module}"), name)(*arguments)
