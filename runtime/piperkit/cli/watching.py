"""Watching queues: `piperctl queue tap`, what flows through them, and `piperctl find`, how each of them does."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from piperkit import engines
from piperkit.cli import finding, queues, render, selecting, spools, tables
from piperkit.cli.options import Json
from piperkit.dirq.fs import display
from piperkit.engines import short_name
from piperkit.errors import QueueError, UsageError
from piperkit.flow import Flow, Looks
from piperkit.operating import HOLDING, Entry, Instance, View
from piperkit.overview import Overview, QueueState
from piperkit.selection import seconds


def tap(
    given: queues.Queues = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="End after showing this many messages.")] = 100,
    sample: Annotated[int, typer.Option(metavar="N", min=1, help="Show every Nth message only.")] = 1,
    lasting: Annotated[str | None, typer.Option("--for", metavar="TIME", help="End after this time.")] = None,
    where: selecting.Where = None,
    raw: Annotated[bool, typer.Option("--raw", help="Print contents only, a line for each.")] = False,
    spool: queues.Spool = None,
    json: Json = False,
) -> None:
    """Show messages as they arrive, until --limit or Ctrl-C. It claims nothing and slows nobody: what is gone before
    it can be read is counted, and left out.

    Examples:

        piperctl queue tap QUEUE --for 10s

        piperctl queue tap --spool /var/spool --sample 100 --where type=alert
    """
    chosen = selecting.Criteria(where=where).selection()
    views = {view.path: view for view in queues.views(given or [], spool)}
    until = None if lasting is None else time.monotonic() + seconds("--for", lasting)
    flow = _flow(list(views.values()), ("incoming",))
    arrived = shown = gone = 0
    try:
        for seen in flow.seen(until):
            if not seen.came:
                continue
            arrived += 1
            if (arrived - 1) % sample:
                continue
            try:
                entry, data = finding.read(views[seen.queue], seen.id)
            except (QueueError, OSError):
                gone += 1
                continue
            if not chosen.holds(entry, time.time(), lambda data=data: data):  # type: ignore[misc]
                continue
            shown += 1
            _tell(seen.queue, entry, data, raw=raw, json=json, several=len(views) > 1)
            if shown >= limit:
                break
    except KeyboardInterrupt:
        pass  # which is how it is ended
    finally:
        flow.close()
    missed = "; more came than could be told" if flow.missed else ""
    words = (
        f"{render.number(arrived, 'message')} arrived, {shown} shown, {gone} gone before they could be shown{missed}"
    )
    print(words, file=sys.stderr)


def _tell(queue: str, entry: Entry, data: bytes, *, raw: bool, json: bool, several: bool) -> None:
    text = data.decode(errors="replace")
    if raw:
        print(render.text(text), flush=True)
    elif json:
        facts = {"queue": display(queue), **render.facts(entry), "contents": text}
        render.as_json({key: facts[key] for key in ("queue", "id", "arrived", "size", "contents")})
    else:
        head = f"{render.name(short_name(queue))}  " if several else ""
        print(f"{head}{render.name(entry.id)}  {render.size(entry.size)}  {render.text(text[:200])}", flush=True)


def find(
    given: queues.Queues = None,
    lasting: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long to measure rates; 0: do not measure.")
    ] = "1s",
    spool: queues.Spool = None,
    json: Json = False,
) -> None:
    """Show the queues of a spool, who works on each, and their rates. By default all queues of the spool.

    IN and OUT are messages a second, as they come into the queue and are settled.

    Examples:

        piperctl find

        piperctl find --spool /var/spool --for 10s
    """
    length = seconds("--for", lasting)
    if not given and spool is None:
        spool = spools.default()
    if length > 3600:
        raise UsageError("--for: must be an hour at most")
    overview = Overview(queues.views(given or [], spool))
    if length:
        overview.measure(length)
    rows = [_row(state) for state in overview.look()]
    if json:
        for row in rows:
            render.as_json(row)
    else:
        tables.found(rows)


def _row(state: QueueState) -> dict[str, Any]:
    """A queue as a program reads it. Raises QueueError where it cannot be looked at."""
    if state.wrong:
        raise QueueError(state.wrong)
    return {
        "queue": display(state.queue),
        "parts": {part: state.parts[part] for part in HOLDING},
        "oldest_age": None if state.oldest is None else round(state.oldest, 3),
        "in": state.came,
        "out": state.went,
        "paused": None if state.paused is None else str(state.paused),
        "instances": None if state.instances is None else [*map(instance, state.instances)],
    }


def instance(each: Instance) -> dict[str, Any]:
    """An instance as a program reads it."""
    facts = {
        "host": each.host,
        "pid": each.pid,
        "since": render.moment(each.since),
        "claims": each.claims,
        # What is known of those on other machines.
        "version": each.version,
        "rate": None if each.rate is None else round(each.rate, 1),
        "waits_for": each.waits_for,
    }
    known = {key: value for key, value in facts.items() if value is not None or key == "claims"}
    seen = {} if each.seen is None else {"seen": render.moment(each.seen), "alive": each.alive}
    return {**known, **seen}


def _flow(views: list[View], parts: tuple[str, ...]) -> Flow | Looks:
    """What tells of the messages that come into these queues, and leave them."""
    if all(engines.is_address(view.path) for view in views):
        return Looks(views, parts)
    if any(engines.is_address(view.path) for view in views):
        raise UsageError("queues in directories and in databases cannot be watched together: name those of one kind")
    return Flow([view.path for view in views], parts)
