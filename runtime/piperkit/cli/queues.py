"""Which queues a command means: QUEUE, which is a path or a bare name, or with --spool all in a directory.

`spools` says where bare names are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from piperkit.cli import render, spools
from piperkit.cli.completing import queue_names
from piperkit.dirq.layout import PROTOCOL
from piperkit.dirq.view import QueueView
from piperkit.errors import QueueMissing, UsageError

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


def view(given: str) -> QueueView:
    """What is in a queue. Raises QueueMissing, which says what is missing."""
    where = spools.path(given)
    try:
        return QueueView(where)
    except QueueMissing:
        # A bare name is found nowhere: say both places.
        also = "" if where == given else f", and {render.name(given)} is no directory here"
        if not os.path.isdir(where):
            raise QueueMissing(f"{render.name(where)} is not a queue: there is no such directory{also}") from None
        missing = [part for part in PROTOCOL if not os.path.isdir(f"{where}/{part}")]
        raise QueueMissing(f"{render.name(where)} is not a queue: it has no directory {', '.join(missing)}") from None


def views(given: Sequence[str], directory: Path | None) -> list[QueueView]:
    """What is in all queues that are meant. Raises UsageError where none is, QueueMissing."""
    if directory is None:
        if not given:
            raise UsageError("say which queue: QUEUE, or --spool DIR for all in a directory")
        return [view(each) for each in given]
    if given:
        raise UsageError(f"{given[0]}: --spool means all queues in a directory; leave QUEUE out")
    found = [QueueView(path) for path in spools.within(directory)]
    if not found:
        raise QueueMissing(f"{render.name(os.fspath(directory))} has no queue in it")
    return found
