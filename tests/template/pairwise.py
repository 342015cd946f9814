"""A small set of rows in which every two values of different factors meet at least once."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any


def rows(factors: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Take the row with the most pairs that have not met yet, until all have. The same rows each time."""
    names = list(factors)
    missing = {
        ((one, a), (two, b))
        for one, two in itertools.combinations(range(len(names)), 2)
        for a in range(len(factors[names[one]]))
        for b in range(len(factors[names[two]]))
    }
    candidates = list(itertools.product(*(range(len(factors[name])) for name in names)))
    found = []
    while missing:
        best = max(candidates, key=lambda row: len(missing & _pairs(row)))
        missing -= _pairs(best)
        found.append({name: factors[name][value] for name, value in zip(names, best, strict=True)})
    return found


def _pairs(row: tuple[int, ...]) -> set[tuple[tuple[int, int], tuple[int, int]]]:
    return set(itertools.combinations(enumerate(row), 2))
