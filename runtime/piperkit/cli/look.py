"""Looking at queues: `piperctl queue ls`, `errors`, `show`, `stats` and `shape`. Nothing is changed or claimed."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from piperkit.cli import completing, finding, progress, queues, reasons, render, selecting, shapes, tables, trace
from piperkit.cli.options import Json
from piperkit.dirq.fs import display
from piperkit.errors import ExitStatus, QueueError, UsageError
from piperkit.operating import HOLDING, RESTING, Entry

#: Messages of a part that `ls` shows to people.
LIMIT = 100

Part = Annotated[
    str | None,
    typer.Argument(
        metavar="PART",
        help=f"One of {', '.join(HOLDING)}; by default all.",
        show_default=False,
        autocompletion=completing.parts,
    ),
]


def _one_or_all(queue: str | None, second: str | None, spool: object) -> tuple[list[str], str | None]:
    """With --spool, what stands first is not a queue."""
    if spool is None:
        return ([queue] if queue is not None else []), second
    if second is not None:
        raise UsageError(f"{queue}: --spool means all queues in a directory; leave QUEUE out")
    return [], queue


def ls(
    queue: queues.Queue = None,
    part: Part = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=0,
            help=f"Messages to show of each part; 0: all. By default {LIMIT}; with --json, all.",
            show_default=False,
        ),
    ] = None,
    *,
    criteria: selecting.Criteria,
    columns: Annotated[
        str | None, typer.Option(metavar="NAME,...", help=f"Columns of the table, of {', '.join(tables.COLUMNS)}.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Sort by this column; -COLUMN: descending."),
    ] = None,
    ids: Annotated[
        bool, typer.Option("--ids", help="Print only the ids, all of them, as input for another command.")
    ] = False,
    spool: queues.Spool = None,
    json: Json = False,
) -> None:
    """List messages, oldest first. With --json, one object a line; sizes are in bytes.

    Examples:

        piperctl queue ls QUEUE errors --reason 'host is down' --newer 1h

        piperctl queue ls QUEUE --where Source.0.IP4=192.0.2.7 --ids

        piperctl queue ls QUEUE incoming --sort -size --columns id,size,age --limit 20
    """
    given, part = _one_or_all(queue, part, spool)
    if part is not None and part not in HOLDING:
        raise UsageError(f"{part} is not part of a queue; it must be one of {', '.join(HOLDING)}")
    if limit is None:
        limit = 0 if json or ids else LIMIT
    order = tables.order(sort)
    shown_columns = tables.columns(columns)
    chosen = criteria.selection()
    views = queues.views(given, spool)
    left_out = 0
    shown: list[tuple[str, Entry]] = []
    with progress.looking() as look:
        for view in views:
            for each in HOLDING if part is None else (part,):
                # To be sorted otherwise, all have to be known.
                found, more = selecting.oldest(view, each, chosen, 0 if order else limit, look)
                if order:
                    found = sorted(found, key=order.key, reverse=order.downward)
                    more = max(0, len(found) - limit) if limit else 0
                    found = found[: limit or None]
                left_out += more
                if not json and not ids:
                    shown += [(view.path, entry) for entry in found]
                    continue
                for entry in found:
                    facts = {"queue": display(view.path)} if len(views) > 1 else {}
                    print(render.name(entry.id)) if ids else render.as_json({**facts, **render.facts(entry)})
    if not json and not ids:
        tables.entries(shown, left_out, shown_columns, several=len(views) > 1)


def errors(
    given: queues.Queues = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Kinds that are shown.")] = 20,
    older: selecting.Older = None,
    newer: selecting.Newer = None,
    where: selecting.Where = None,
    spool: queues.Spool = None,
    json: Json = False,
) -> None:
    """Show why messages are in errors: a line for each kind of reason, with count, first and last time, and an example.

    Reasons that differ in numbers or quoted words only are one kind; the dead letters of one are shown by ls --reason.

    Examples:

        piperctl queue errors QUEUE --newer 1d

        piperctl queue errors --spool /var/spool
    """
    chosen = selecting.Criteria(older=older, newer=newer, where=where).selection()
    kinds = reasons.Kinds()

    def table() -> Any:
        found = kinds.sorted()
        return tables.reasons(found[:limit], sum(kind.messages for kind in found[limit:]))

    views = queues.views(given or [], spool)
    with progress.looking(None if json else table) as look:
        for view in views:
            for entry, moment in selecting.banished(view, chosen, look):
                kinds.add(entry, moment)
    if json:
        for kind in kinds.sorted()[:limit]:
            moments = {"first": render.moment(kind.first), "last": render.moment(kind.last)}
            facts = {"reason": kind.reason, "messages": kind.messages, **moments, "example": display(kind.example)}
            render.as_json(facts)
    else:
        tables.show(table())


def show(
    queue: Annotated[
        str,
        typer.Argument(metavar="QUEUE", help="The queue.", show_default=False, autocompletion=completing.queue_names),
    ],
    id: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="The message's id, also as ls shows it.",
            show_default=False,
            autocompletion=completing.ids,
        ),
    ],
    raw: Annotated[bool, typer.Option("--raw", help="Print the contents, byte for byte, and nothing else.")] = False,
    json: Json = False,
) -> None:
    """Show one message: where it is, its history, why it failed, and its contents; or what has become of it.

    With --json, contents are text, or {"hex": ...} where they are not UTF-8.

    Examples:

        piperctl queue show QUEUE 1790000000.123456789.4711.mail

        piperctl queue show QUEUE 1790000000.123456789.4711.mail --raw | jq .
    """
    if raw and json:
        raise UsageError("--raw and --json exclude each other")
    view = queues.view(queue)
    try:
        entry, data = finding.read(view, id)
    except QueueError as error:
        told = [] if raw else trace.way([view], id)
        if not told:
            raise
        print(f"piperctl: {render.text(str(error))} any more; what is known of it:", file=sys.stderr)
        trace.tell(told, as_json=json, ids=False)
        raise typer.Exit(ExitStatus.FAILURE) from None
    if raw:
        sys.stdout.buffer.write(data)
        return
    report = view.report(entry) if entry.part == "errors" else None
    history = finding.history(view, entry, report)
    if json:
        render.as_json({**render.facts(entry), "report": report, "history": history, "contents": _jsonable(data)})
        return
    for key, value in render.facts(entry).items():
        if value is not None:
            print(f"{key + ':':10} {render.size(value) if key == 'size' else render.text(str(value))}")
    for past in history:
        print(f"{'history:':10} " + render.text(f"{past.get('time')}  {past.get('reason')}"))
    stack = (report or {}).get("traceback")
    if isinstance(stack, str):
        for line in stack.splitlines():
            print(f"    {render.text(line)}")
    print()
    render.contents(data)


def _jsonable(data: bytes) -> str | dict[str, str]:
    """Text as text, anything else as {"hex": ...}."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"hex": data.hex()}


def stats(given: queues.Queues = None, spool: queues.Spool = None, json: Json = False) -> None:
    """Count messages: how many are in each part, their size, and the age of the oldest.

    With --json, one object a line for each queue; ages are in seconds, sizes in bytes.

    Examples:

        piperctl queue stats QUEUE

        piperctl queue stats --spool /var/spool
    """
    now = time.time()
    rows = []
    for view in queues.views(given or [], spool):
        parts: dict[str, dict[str, Any]] = {}
        for part in HOLDING:
            number, total, oldest = view.measure(part)
            age = None if oldest is None else round(now - oldest, 3)
            parts[part] = {"messages": number, "size": total, "oldest_age": age}
        paused = view.paused()
        rows.append({"queue": display(view.path), "paused": None if paused is None else str(paused), "parts": parts})
    if json:
        for row in rows:
            render.as_json(row)
    else:
        tables.counts(rows)


def shape(
    given: queues.Queues = None,
    by: Annotated[
        str,
        typer.Option("--by", metavar="WHAT", help="Rows: part, size, reason, queue, or a member such as Source.0.IP4."),
    ] = "part",
    part: selecting.Part = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of rows to show, those with the most messages.")
    ] = 20,
    *,
    criteria: selecting.Criteria,
    spool: queues.Spool = None,
    json: Json = False,
) -> None:
    """How old the messages that wait are, and what they have in common: a table of ages by part, size or member.

    Each column holds messages up to that age; each is twice as wide as the one before. New messages stand left: a
    queue that is stuck grows to the right. Those in all parts where messages rest, unless --part names one.

    Examples:

        piperctl queue shape QUEUE

        piperctl queue shape QUEUE --part deferred --by host
    """
    where = RESTING if part is None else (part,)
    if part is not None and part not in HOLDING:
        raise UsageError(f"--part {part}: must be one of {', '.join(HOLDING)}")
    chosen = criteria.selection()
    found = shapes.Shape(shapes.row_of(by))
    views = queues.views(given or [], spool)

    def table() -> Any:
        return tables.shape(found, by, limit)

    with progress.looking(None if json else table) as look:
        for view in views:
            for entry in selecting.meant(view, where, chosen, None, look):
                found.add(view, entry)
    if json:
        for name, counts in found.rows():
            ages = {f"{bound}s": number for bound, number in zip(shapes.BOUNDS, counts, strict=False)}
            render.as_json({by: name, "messages": sum(counts), "up_to": {**ages, "more": counts[-1]}})
    else:
        tables.show(table())
