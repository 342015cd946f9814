"""Which queues a command means: QUEUE, which is a path or a bare name, or with --spool all in a directory.

A bare name is one in the spool, as for daemons: in $PIPER_SPOOL, in var/spool of the project that one stands in, or in
/var/spool. A directory of that name that is here comes first.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from piperkit.cli import render
from piperkit.cli.completing import queue_names
from piperkit.dirq.layout import PROTOCOL, is_queue
from piperkit.dirq.view import QueueView
from piperkit.errors import QueueMissing, UsageError

#: Where the spool is.
VARIABLE = "PIPER_SPOOL"

Queue = Annotated[
    str | None,
    typer.Argument(
        metavar="QUEUE",
        help="The queue's directory, or a bare name for one in the spool.",
        show_default=False,
        autocompletion=queue_names,
    ),
]
Queues = Annotated[
    list[str] | None,
    typer.Argument(metavar="QUEUE", help="Queues, as directories or bare names.", autocompletion=queue_names),
]
Spool = Annotated[
    Path | None, typer.Option("--spool", metavar="DIR", help="All queues in this directory, instead of QUEUE.")
]


def path(given: str, *, new: bool = False) -> str:
    """The path of the queue that is meant. new: it may be made; outside of any spool a bare name is made here then."""
    if os.path.basename(given) != given or given in (".", "..") or os.path.lexists(given):
        return given
    spool = _spool()
    if spool is None:
        return given if new else os.path.join("/var/spool", given)
    return os.path.join(spool, given)


def view(given: str) -> QueueView:
    """What is in a queue. Raises QueueMissing, which says what is missing."""
    where = path(given)
    try:
        return QueueView(where)
    except QueueMissing:
        # A bare name is found nowhere: say both places.
        also = "" if where == given else f", and {render.name(given)} is no directory here"
        if not os.path.isdir(where):
            raise QueueMissing(f"{render.name(where)} is not a queue: there is no such directory{also}") from None
        missing = [part for part in PROTOCOL if not os.path.isdir(f"{where}/{part}")]
        raise QueueMissing(f"{render.name(where)} is not a queue: it has no directory {', '.join(missing)}") from None


def views(given: Sequence[str], spool: Path | None) -> list[QueueView]:
    """What is in all queues that are meant. Raises UsageError where none is, QueueMissing."""
    if spool is None:
        if not given:
            raise UsageError("say which queue: QUEUE, or --spool DIR for all in a directory")
        return [view(each) for each in given]
    if given:
        raise UsageError(f"{given[0]}: --spool means all queues in a directory; leave QUEUE out")
    found = within(spool)
    if not found:
        raise QueueMissing(f"{render.name(os.fspath(spool))} has no queue in it")
    return found


def within(spool: Path) -> list[QueueView]:
    """The queues in a directory, by name. Raises QueueMissing where there is no such directory."""
    try:
        names = sorted(entry.name for entry in os.scandir(spool) if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        raise QueueMissing(f"{render.name(os.fspath(spool))} is no directory, and so no spool") from None
    return [QueueView(spool / name) for name in names if is_queue(os.path.join(spool, name))]


def default_spool() -> Path:
    """Where bare names are looked for."""
    return Path(_spool() or "/var/spool")


def _spool() -> str | None:
    spool = os.environ.get(VARIABLE)
    if spool:
        return spool
    here = Path.cwd()
    for directory in (here, *here.parents):
        if (directory / "pyproject.toml").is_file() and (directory / "var" / "spool").is_dir():
            return os.fspath(directory / "var" / "spool")
    return None
