"""`piperctl trace`: a message's way through daemons, and which messages took longest, by the histories of queues.

What is kept says the key `history` of each daemon. What failed, and what operators did, is in there by default.
"""

from __future__ import annotations

import datetime
import heapq
import json
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from piperkit import naming
from piperkit.cli import completing, finding, queues, render, spools
from piperkit.cli.options import Json
from piperkit.engines import short_name
from piperkit.errors import PiperError, QueueError, UsageError
from piperkit.operating import View
from piperkit.selection import seconds

_MORE = ("attempt", "took", "to", "delay", "by", "reason")


def trace(
    id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The message's id.", autocompletion=completing.ids)
    ] = None,
    slowest: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Instead: the N attempts that took longest.")
    ] = None,
    newer: Annotated[str | None, typer.Option(metavar="TIME", help="Of these, what happened since then.")] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option("--queue", metavar="QUEUE", help="Look there only.", autocompletion=completing.queue_names),
    ] = None,
    spool: queues.Spool = None,
    as_json: Json = False,
) -> None:
    """Show what happened to a message, in all queues of the spool: each attempt with what it waited and took, where it
    went and why it failed, what operators did, and where it is now.

    Examples:

        piperctl trace 1790000000.123456789.4711.mail

        piperctl trace --slowest 10 --newer 1h --spool /var/spool
    """
    if (id is None) == (slowest is None):
        raise UsageError("say whose way: ID; or --slowest N for what took longest")
    if spool is None and not queue:
        spool = spools.default()
    views = queues.views(queue or [], spool)
    if slowest is not None:
        since = 0.0 if newer is None else time.time() - seconds("--newer", newer)
        tell(_slowest(views, slowest, since), as_json=as_json, ids=True)
        return
    assert id is not None
    told = way(views, id)
    places = _places(views, id)
    if not told and not places:
        raise QueueError(f"nothing is known of {render.name(id)} in {render.number(len(views), 'queue')}")
    tell(told + places, as_json=as_json, ids=False)


def way(views: Sequence[View], id: str) -> list[dict[str, Any]]:
    """What is kept of a message, in the order in which it happened."""
    as_written = json.dumps(id).encode()
    found = [line for view in views for line in _told(view, as_written) if line.get("id") == id]
    found.sort(key=lambda line: line["t"])
    if found and naming.is_ours(id):
        arrived = naming.moment(id)
        found.insert(0, {"t": arrived, "id": id, "what": "made"})
    return found


def _places(views: Sequence[View], id: str) -> list[dict[str, Any]]:
    """Where it is now."""
    now = time.time()
    found: list[dict[str, Any]] = []
    for view in views:
        try:
            entry = finding.find(view, id)
        except (PiperError, OSError):
            continue
        facts = {"t": now, "id": entry.id, "queue": view.path, "what": f"is in {entry.part}", "reason": entry.reason}
        found.append({**facts, "attempt": entry.attempts or None})
    return found


def _slowest(views: Sequence[View], number: int, since: float) -> list[dict[str, Any]]:
    lines = (line for view in views for line in _told(view, b'"took"') if line["t"] >= since)
    return heapq.nlargest(number, lines, key=lambda line: line.get("took", 0.0))


def _told(view: View, containing: bytes) -> Iterator[dict[str, Any]]:
    """The lines of a queue's history that can be shown."""
    try:
        for line in view.told(containing):
            numbers = (line.get("t"), line.get("took", 0.0))
            if isinstance(line.get("id"), str) and all(isinstance(number, int | float) for number in numbers):
                yield line
    except PermissionError:
        raise PiperError(
            f"{render.name(view.path)}/history is for the queue's owner and root to read: do it as one of them"
        ) from None


def tell(lines: list[dict[str, Any]], *, as_json: bool, ids: bool) -> None:
    """Print what happened, a line for each. ids: it happened to several messages."""
    if as_json:
        for line in lines:
            render.as_json({**line, "t": render.moment(line["t"])})
        return
    before: float | None = None
    for line in lines:
        moment = datetime.datetime.fromtimestamp(line["t"]).isoformat(" ", "milliseconds")
        queue = short_name(str(line.get("queue", "")))
        more = [f"{key} {_value(key, line[key])}" for key in _MORE if line.get(key) not in (None, "")]
        waited = "" if before is None or ids else f"+{line['t'] - before:.3f} s"
        who = f"{render.name(line['id'])}  " if ids else ""
        what = render.text(str(line.get("what")))
        print(f"{moment}  {waited:>12}  {who}{render.text(queue)}  {what}  {', '.join(more)}".rstrip())
        before = line["t"]


def _value(key: str, value: object) -> str:
    if key in ("took", "delay") and isinstance(value, int | float):
        return f"{value:.3f} s"
    return render.text(str(value))
