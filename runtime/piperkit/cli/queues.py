"""Which queues a command means: QUEUE, which is a path or a bare name, or with --spool all in a directory.

`spools` says where bare names are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from piperkit import engines
from piperkit.cli import render, spools
from piperkit.cli.completing import queue_names
from piperkit.dirq.layout import PROTOCOL
from piperkit.errors import QueueMissing, UsageError
from piperkit.operating import View

Queue = Annotated[
    str | None,
    typer.Argument(
        metavar="QUEUE",
        help="The queue's directory or address, or a bare name for one in the spool.",
        show_default=False,
        autocompletion=queue_names,
    ),
]
Queues = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="QUEUE", help="Queues, as directories, addresses or bare names.", autocompletion=queue_names
    ),
]
Spool = Annotated[
    str | None,
    typer.Option("--spool", metavar="DIR", help="All queues in this directory, or database, instead of QUEUE."),
]


def view(given: str) -> View:
    """What is in a queue. Raises QueueMissing, which says what is missing."""
    where = spools.path(given)
    if engines.is_address(where):
        return engines.view(where)
    try:
        return engines.view(where)
    except QueueMissing:
        # A bare name is found nowhere: say both places.
        also = "" if where == given else f", and {render.name(given)} is not a directory here"
        if not os.path.isdir(where):
            raise QueueMissing(f"{render.name(where)} is not a queue: there is no such directory{also}") from None
        missing = [part for part in PROTOCOL if not os.path.isdir(f"{where}/{part}")]
        raise QueueMissing(f"{render.name(where)} is not a queue: it has no directory {', '.join(missing)}") from None


def views(given: Sequence[str], spool: str | None) -> list[View]:
    """What is in all queues that are meant. Raises UsageError where none is, QueueMissing."""
    if spool is None:
        if not given:
            raise UsageError("say which queue: QUEUE, or --spool DIR for all in a directory")
        return [view(each) for each in given]
    if given:
        raise UsageError(f"{given[0]}: --spool means all queues in a directory; leave QUEUE out")
    found = [engines.view(path) for path in engines.spool(spool)]
    if not found:
        raise QueueMissing(f"{render.name(spool)} has no queue in it")
    return found
