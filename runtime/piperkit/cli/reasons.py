"""Why messages are in `errors`, by kind: reasons that differ only in what is one message's own are one.

What is taken out: quoted text, numbers, long hexadecimal ones, and the rest of a line that is very long.
"""

from __future__ import annotations

import dataclasses
import re

from piperkit.operating import Entry

#: Kinds that are told apart; further ones are one, so that a million messages with a reason of its own each fit.
KINDS_MAX = 10_000
OTHERS = "(others)"
_SHOWN_MAX = 200
_OWN = (
    (re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`"), "'…'"),
    (re.compile(r"\b(?:0x)?(?=[0-9a-f-]*[0-9])[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]+)*\b"), "…"),
    (re.compile(r"(?<!UTF-)\d+(?:[.:]\d+)*"), "N"),
)


@dataclasses.dataclass
class Kind:
    """Messages with one kind of reason; times are of their banishment, in seconds since the epoch."""

    reason: str
    messages: int
    first: float
    last: float
    example: str  #: the id of the newest


def kind(reason: str | None) -> str:
    """What is common to a reason and those like it."""
    if reason is None:
        return "(no reason)"
    for own, instead in _OWN:
        reason = own.sub(instead, reason)
    return reason if len(reason) <= _SHOWN_MAX else reason[:_SHOWN_MAX] + "…"


class Kinds:
    """The kinds of messages that are added, in bounded memory."""

    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}

    def add(self, entry: Entry, moment: float) -> None:
        """A message that was banished at that moment."""
        name = kind(entry.reason)
        if name not in self._kinds and len(self._kinds) >= KINDS_MAX:
            name = OTHERS
        known = self._kinds.get(name)
        if known is None:
            self._kinds[name] = Kind(name, 1, moment, moment, entry.id)
            return
        known.messages += 1
        known.first = min(known.first, moment)
        if moment >= known.last:
            known.last, known.example = moment, entry.id

    def sorted(self) -> list[Kind]:
        """Most frequent first."""
        return sorted(self._kinds.values(), key=lambda each: (-each.messages, each.reason))
