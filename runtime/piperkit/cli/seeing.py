"""`piperctl top` and `piperctl web`: which queues they show, and how they are started."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from piperkit import engines
from piperkit.cli import queues, render, spools
from piperkit.errors import ConfigError, QueueMissing, UsageError
from piperkit.operating import View
from piperkit.pipeline import description
from piperkit.pipeline.description import NoPipeline, Pipeline
from piperkit.selection import seconds

File = Annotated[
    Path | None,
    typer.Option(
        "--pipeline",
        metavar="FILE",
        help="Show this pipeline, and its daemons as a graph; by default the one here, if --spool says nothing.",
        show_default=False,
    ),
]
ReadOnly = Annotated[bool, typer.Option("--read-only", help="Change nothing.")]


def shown(given: list[str] | None, spool: str | None, pipeline: Path | None) -> tuple[list[View], Pipeline | None, str]:
    """The queues that are meant, the pipeline they are of, if any, and what they are called together.

    Raises UsageError, QueueMissing, ConfigError.
    """
    if given or spool is not None:
        if pipeline is not None:
            raise UsageError("--pipeline: its queues are shown; leave QUEUE and --spool out")
        found = queues.views(given or [], spool)
        return found, None, render.name(spool) if spool is not None else render.number(len(found), "queue")
    try:
        meant = description.load(description.find(pipeline))
    except NoPipeline:
        if pipeline is not None:
            raise
        where = spools.default()
        return queues.views([], where), None, render.name(where)
    views = []
    for queue in meant.queues():
        try:
            views.append(engines.view(queue))
        except QueueMissing:
            continue  # its daemon has not run yet
    if not views:
        raise QueueMissing(f"{meant.path}: none of its queues is there yet; start it, or: piperctl pipeline check")
    return views, meant, meant.name


def top(
    given: queues.Queues = None,
    every: Annotated[str, typer.Option(metavar="TIME", help="Time between looks.")] = "2s",
    read_only: ReadOnly = False,
    pipeline: File = None,
    spool: queues.Spool = None,
) -> None:
    """Show queues and daemons as they do now, on a terminal; look into them, and act. The key ? shows what keys do.

    Examples:

        piperctl top

        piperctl top --spool /var/spool --read-only
    """
    try:
        from piperkit.top.app import Top
    except ImportError as error:
        raise ConfigError(f"piperctl top needs textual ({error}): pip install 'piperkit[top]'") from None
    length = seconds("--every", every)
    if not 0.1 <= length <= 3600:
        raise UsageError("--every: must be from 0.1s to an hour")
    views, meant, title = shown(given, spool, pipeline)
    Top(views, title, every=length, read_only=read_only, pipeline=meant).run()
