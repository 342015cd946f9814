"""Alternating rounds: in each, every contestant has its turn, and the one that began the last round now ends it.

So what changes while a run lasts (a disk that fills up, somebody else's work) meets all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Sample = TypeVar("Sample")


def order(names: Sequence[str], number: int) -> list[str]:
    """Who comes when in round `number`."""
    turn = number % len(names) if names else 0
    return [*names[turn:], *names[:turn]]


def alternate(contestants: Mapping[str, Callable[[], Sample]], rounds: int) -> dict[str, list[Sample]]:
    """Run each contestant once a round; returns their samples, one a round."""
    found: dict[str, list[Sample]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name in order(list(contestants), number):
            found[name].append(contestants[name]())
    return found
