"""The shape of a queue: its messages by age and by something else, as qshape(1) shows it for Postfix.

A queue that works has its messages on the left. What grows to the right waits for something, and the row says what.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

from piperkit.engines import short_name
from piperkit.operating import Entry, View
from piperkit.selection import member

#: The ages that bound the columns, in seconds; the last column is of what is older.
BOUNDS = tuple(300 * 2**power for power in range(9))
#: Rows that are told apart; further ones are one.
ROWS_MAX = 10_000
OTHERS = "(others)"
_SIZES = ((1 << 10, "up to 1 KiB"), (1 << 14, "up to 16 KiB"), (1 << 18, "up to 256 KiB"), (1 << 22, "up to 4 MiB"))

RowOf = Callable[[View, Entry], str]


class Shape:
    """Numbers of messages: a row for each value, a column for each age. Bounded in memory, whatever is added."""

    def __init__(self, row_of: RowOf) -> None:
        self._row_of = row_of
        self._rows: dict[str, list[int]] = {}
        self._now = time.time()

    def add(self, view: View, entry: Entry) -> None:
        """Count a message; one that moves on meanwhile is left out."""
        try:
            name = self._row_of(view, entry)
        except FileNotFoundError:
            return
        if name not in self._rows and len(self._rows) >= ROWS_MAX:
            name = OTHERS
        row = self._rows.setdefault(name, [0] * (len(BOUNDS) + 1))
        age = self._now - entry.arrived
        row[next((at for at, bound in enumerate(BOUNDS) if age <= bound), len(BOUNDS))] += 1

    def rows(self) -> Iterator[tuple[str, list[int]]]:
        """Those with most messages first."""
        return iter(sorted(self._rows.items(), key=lambda row: (-sum(row[1]), row[0])))


def row_of(what: str) -> RowOf:
    """What makes messages one row: part, size, reason, queue, or a member of JSON by its path."""
    if what == "part":
        return lambda view, entry: entry.part
    if what == "queue":
        return lambda view, entry: short_name(view.path)
    if what == "size":
        return lambda view, entry: next((name for most, name in _SIZES if entry.size <= most), "more")
    if what == "reason":
        from piperkit.cli.reasons import kind

        return lambda view, entry: kind(entry.reason)
    path = what.split(".")

    def value(view: View, entry: Entry) -> str:
        try:
            found, contents = member(json.loads(view.read(entry)), path)
        except (ValueError, RecursionError):
            return "(no JSON)"
        if not found:
            return "(none)"
        return (contents if isinstance(contents, str) else json.dumps(contents))[:200]

    return value
