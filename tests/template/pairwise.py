"""A small set of rows in which every two values of different factors meet at least once."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

#: A value of a factor, both by their positions.
_Cell = tuple[int, int]


def rows(factors: Mapping[str, Sequence[Any]], strength: int = 2) -> list[dict[str, Any]]:
    """The same rows each time; with `strength` 3, every three values of different factors meet, and so on.

    Each row begins with values that have not met yet, and takes of each further factor the value that makes the most
    such meetings: a greedy choice, which needs some rows more than the least, and next to no time.
    """
    names = list(factors)
    sizes = [len(factors[name]) for name in names]
    missing = dict.fromkeys(
        tuple(zip(columns, values, strict=True))
        for columns in itertools.combinations(range(len(names)), strength)
        for values in itertools.product(*(range(sizes[column]) for column in columns))
    )
    found = []
    while missing:
        row: dict[int, int] = dict(next(iter(missing)))
        for column in sorted(set(range(len(names))) - row.keys(), key=lambda column: -sizes[column]):
            row[column] = max(range(sizes[column]), key=lambda value: _new((column, value), row, missing, strength))
        for meeting in itertools.combinations(sorted(row.items()), strength):
            missing.pop(meeting, None)
        found.append({name: factors[name][row[column]] for column, name in enumerate(names)})
    return found


def _new(cell: _Cell, row: dict[int, int], missing: dict[tuple[_Cell, ...], None], strength: int) -> int:
    """How many values meet for the first time if this one is added to a row."""
    others = itertools.combinations(row.items(), strength - 1)
    return sum(tuple(sorted((*cells, cell))) in missing for cells in others)
