"""Which messages a command means: its options, and the search for those that they mean.

`ls`, `errors`, and all that acts on messages share them; what they say is a `Selection`.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated

import typer

from piperkit.cli import render
from piperkit.dirq import names
from piperkit.dirq.acts import RESTING
from piperkit.dirq.view import Entry, QueueView
from piperkit.errors import UsageError
from piperkit.selection import Member, Selection, expression, seconds

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID]...", help="Ids, as ls --ids prints them; -: one a line from standard input."),
]
Part = Annotated[str | None, typer.Option("--part", metavar="PART", help=f"Only there: {', '.join(RESTING)}.")]
Older = Annotated[str | None, typer.Option(metavar="TIME", help="That arrived so long ago: 90s, 5min, 2h, 3d, 1w.")]
Newer = Annotated[str | None, typer.Option(metavar="TIME", help="That arrived since then.")]
Reason = Annotated[
    str | None, typer.Option(metavar="REGEX", help="Whose last attempt failed for a reason in which this is found.")
]
Attempts = Annotated[int | None, typer.Option(metavar="N", min=0, help="With so many failed attempts, or more.")]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH=VALUE", help="JSON messages with this member: host=db1, Source.0.IP4=192.0.2.7, host=~^db."
    ),
]
Limit = Annotated[int | None, typer.Option(metavar="N", min=1, help="No more than so many.")]


def selection(
    ids: Iterable[str] | None,
    older: str | None,
    newer: str | None,
    attempts: int | None,
    reason: str | None,
    where: Iterable[str] | None,
) -> Selection:
    """What the options mean. Raises UsageError."""
    return Selection(
        frozenset(_ids(ids or ())),
        None if older is None else seconds("--older", older),
        None if newer is None else seconds("--newer", newer),
        attempts,
        None if reason is None else expression("--reason", reason),
        tuple(map(Member.parse, where or ())),
    )


def _ids(given: Iterable[str]) -> Iterator[str]:
    for id in given:
        if id == "-":
            found = [line.rstrip("\n") for line in sys.stdin]
            if not any(found):
                raise UsageError("there is no id on standard input, so nothing is meant")
            yield from filter(None, found)
        else:
            yield id


def meant(
    view: QueueView,
    parts: Iterable[str],
    chosen: Selection,
    limit: int | None,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Entry]:
    """The messages that are meant, as they are found: in no order, and in no memory to speak of.

    check: called for each message that is looked at; what it raises ends the search.
    """
    now = time.time()
    candidates = _named(view, parts, chosen.ids) if chosen.ids else itertools.chain(*map(view.each, parts))

    def holding() -> Iterator[Entry]:
        for entry in candidates:
            check()
            if _holds(chosen, view, entry, now):
                yield entry

    return itertools.islice(holding(), limit)


def oldest(view: QueueView, part: str, chosen: Selection, limit: int) -> tuple[list[Entry], int]:
    """The first of a part's messages that are meant, up to a limit (0: none), and how many more there are."""
    if not limit:
        now = time.time()
        return [entry for entry in view.entries(part) if _holds(chosen, view, entry, now)], 0
    if chosen.everything:
        found = view.oldest(part, limit)
        return found, max(0, view.counts([part])[part] - len(found)) if len(found) == limit else 0
    number = 0

    def counted() -> Iterator[Entry]:
        nonlocal number
        for entry in meant(view, (part,), chosen, None):
            number += 1
            yield entry

    found = heapq.nsmallest(limit, counted(), key=lambda entry: names.sort_key(entry.id))
    return found, number - len(found)


def banished(view: QueueView, chosen: Selection) -> Iterator[tuple[Entry, float]]:
    """The dead letters that are meant, each with the time of its banishment."""
    for entry in meant(view, ("errors",), chosen, None):
        with contextlib.suppress(FileNotFoundError):
            yield entry, os.stat(entry.path, follow_symlinks=False).st_ctime  # which rename(2) sets


def _holds(chosen: Selection, view: QueueView, entry: Entry, now: float) -> bool:
    try:
        return chosen.holds(entry, now, lambda: view.read(entry))
    except FileNotFoundError:
        return False  # it has moved on


def _named(view: QueueView, parts: Iterable[str], ids: Iterable[str]) -> Iterator[Entry]:
    """The messages of these ids; one whose id cannot be typed is known by what ls shows."""
    for id in ids:
        for part in parts:
            with contextlib.suppress(FileNotFoundError):
                yield view.entry(part, id)
                break
        else:
            if "\\" in id:
                yield from (entry for part in parts for entry in view.each(part) if render.name(entry.id) == id)
