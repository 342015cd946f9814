"""Which messages a command means: its options, and the search for those that they mean.

`ls`, `errors`, and all that acts on messages share them; what they say is a `Selection`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated

import typer

from piperkit import naming
from piperkit.cli import completing, render
from piperkit.errors import UsageError
from piperkit.operating import RESTING, Entry, View
from piperkit.selection import Member, Selection, expression, seconds

Ids = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ID",
        help="Ids, as ls --ids prints them; -: read from standard input, one per line.",
        autocompletion=completing.ids,
    ),
]
Part = Annotated[
    str | None,
    typer.Option(
        "--part", metavar="PART", help=f"Only there: {', '.join(RESTING)}.", autocompletion=completing.resting
    ),
]
Older = Annotated[
    str | None, typer.Option(metavar="TIME", help="That arrived at least that long ago: 90s, 5min, 2h, 3d, 1w.")
]
Newer = Annotated[str | None, typer.Option(metavar="TIME", help="That arrived since then.")]
Reason = Annotated[
    str | None, typer.Option(metavar="REGEX", help="Whose last attempt failed for a reason that matches.")
]
Attempts = Annotated[int | None, typer.Option(metavar="N", min=0, help="With at least that many failed attempts.")]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH=VALUE", help="JSON messages with this member: host=db1, Source.0.IP4=192.0.2.7, host=~^db."
    ),
]
Limit = Annotated[int | None, typer.Option(metavar="N", min=1, help="At most that many.")]


@dataclasses.dataclass(frozen=True)
class Criteria:
    """Options: which messages."""

    older: Older = None
    newer: Newer = None
    attempts: Attempts = None
    reason: Reason = None
    where: Where = None

    def selection(self, ids: Iterable[str] = ()) -> Selection:
        """What they mean. Raises UsageError."""
        return Selection(
            frozenset(_ids(ids)),
            None if self.older is None else seconds("--older", self.older),
            None if self.newer is None else seconds("--newer", self.newer),
            self.attempts,
            None if self.reason is None else expression("--reason", self.reason),
            tuple(map(Member.parse, self.where or ())),
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
    view: View,
    parts: Iterable[str],
    chosen: Selection,
    limit: int | None,
    check: Callable[[int], None] = lambda number: None,
) -> Iterator[Entry]:
    """The messages that are meant, as they are found: in no order, and in no memory to speak of.

    check: called with the number of messages that are looked at; what it raises ends the search.
    """
    now = time.time()
    candidates = _named(view, parts, chosen.ids) if chosen.ids else itertools.chain(*map(view.each, parts))

    def holding() -> Iterator[Entry]:
        for entry in candidates:
            check(1)
            if _holds(chosen, view, entry, now):
                yield entry

    return itertools.islice(holding(), limit)


def oldest(
    view: View, part: str, chosen: Selection, limit: int, check: Callable[[int], None] = lambda number: None
) -> tuple[list[Entry], int]:
    """The first of a part's messages that are meant, up to a limit (0: none), and how many more there are.

    check: as for `meant`.
    """
    if chosen.everything and limit:
        return view.oldest(part, limit, check)
    number = 0

    def counted() -> Iterator[Entry]:
        nonlocal number
        for entry in meant(view, (part,), chosen, None, check):
            number += 1
            yield entry

    def order(entry: Entry) -> tuple[bool, str]:
        return naming.sort_key(entry.id)

    found = heapq.nsmallest(limit, counted(), key=order) if limit else sorted(counted(), key=order)
    return found, number - len(found)


def banished(
    view: View, chosen: Selection, check: Callable[[int], None] = lambda number: None
) -> Iterator[tuple[Entry, float]]:
    """The dead letters that are meant, each with the time of its banishment. check: as for `meant`."""
    for entry in meant(view, ("errors",), chosen, None, check):
        with contextlib.suppress(FileNotFoundError):
            yield entry, view.banished(entry)


def _holds(chosen: Selection, view: View, entry: Entry, now: float) -> bool:
    try:
        return chosen.holds(entry, now, lambda: view.read(entry))
    except FileNotFoundError:
        return False  # it has moved on


def _named(view: View, parts: Iterable[str], ids: Iterable[str]) -> Iterator[Entry]:
    """The messages of these ids; one whose id cannot be typed is known by what ls shows."""
    for id in ids:
        for part in parts:
            with contextlib.suppress(FileNotFoundError):
                yield view.entry(part, id)
                break
        else:
            if "\\" in id:
                yield from (entry for part in parts for entry in view.each(part) if render.name(entry.id) == id)
