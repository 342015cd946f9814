"""What operators can do to messages: in which parts of a queue, how, and the word for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from piperkit.operating import RESTING, Entry, Operator


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """One thing that can be done."""

    word: str  #: what a message is then
    parts: tuple[str, ...]  #: where it can be done
    do: Callable[[Operator, Entry, str], None]  #: the text says why, where that is kept
    by_default: tuple[str, ...] = ()  #: where it is done if nothing is said; by default in all of them

    @property
    def usual(self) -> tuple[str, ...]:
        return self.by_default or self.parts


ACTS = {
    "requeue": Kind("requeued", ("errors", "deferred"), lambda operator, entry, why: operator.requeue(entry)),
    "hold": Kind("held", ("incoming", "deferred"), lambda operator, entry, why: operator.hold(entry, why)),
    "release": Kind("released", ("hold",), lambda operator, entry, why: operator.requeue(entry)),
    "banish": Kind(
        "banished", ("incoming", "deferred", "hold"), lambda operator, entry, why: operator.banish(entry, why)
    ),
    "rm": Kind("deleted", RESTING, lambda operator, entry, why: operator.remove(entry), ("errors",)),
}
