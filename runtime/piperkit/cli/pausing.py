"""`piperctl queue pause` and `resume`: whether anything is claimed from a queue."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable
from typing import Annotated

import typer

from piperkit import engines
from piperkit.cli import acting, queues, render
from piperkit.cli.act import Why
from piperkit.cli.acting import Result
from piperkit.operating import Operator
from piperkit.selection import seconds


def pause(
    queue: queues.Queue = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="When the pause ends by itself: after 90s, 5min, 2h, or at 2026-12-24T18:00."
        ),
    ] = None,
    why: Why = "",
    sources: Annotated[
        bool, typer.Option("--sources", help="Pause only fetching; messages that are waiting are still processed.")
    ] = False,
    spool: queues.Spool = None,
) -> None:
    """Pause a queue: nothing is claimed until it is resumed. Messages in work are finished, and more may arrive.

    Examples:

        piperctl queue pause QUEUE --until 2h --why 'the database is moved'
    """
    moment = None if until is None else _moment(until)

    def act(operator: Operator) -> str:
        operator.pause(moment, why, sources_only=sources)
        return "paused"

    _whole(queue, spool, "paused", act)


def resume(queue: queues.Queue = None, spool: queues.Spool = None) -> None:
    """Resume a paused queue. Its daemons notice within two seconds.

    Examples:

        piperctl queue resume QUEUE
    """
    _whole(queue, spool, "resumed", lambda operator: "resumed" if operator.resume() else "was not paused")


def _whole(queue: str | None, spool: str | None, what: str, act: Callable[[Operator], str]) -> None:
    """Act on whole queues."""
    views = queues.views([] if queue is None else [queue], spool)
    for view in views:
        on_queue(view.path, len(views) > 1, what, act)


def on_queue(path: str, several: bool, what: str, act: Callable[[Operator], str]) -> None:
    """Act on a whole queue, as whoever may, and tell. several: there are more."""

    def work() -> tuple[Result, bool]:
        print(f"{render.name(path)}: {act(acting.operator_of(path))}", flush=True)
        return Result(done=1), False

    # A queue whose directory is root's is for root to pause, whoever works on its parts.
    if engines.is_address(path) or os.stat(path).st_uid == os.geteuid():
        work()
    else:
        acting.as_owner(path, several, work)
    acting.leave_a_line(f"the queue {render.name(path)} {what}", 1)


def _moment(until: str) -> float:
    """When that is: in so long, or at a local time. Raises UsageError."""
    try:
        return datetime.datetime.fromisoformat(until).timestamp()
    except ValueError:
        return time.time() + seconds("--until", until)
