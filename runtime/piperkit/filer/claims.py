"""`Claims`: the messages that this instance holds, which of them a component was given, and which is next."""

from __future__ import annotations

import collections
from collections.abc import Iterable

from piperkit.queue import Claim


class Claims:
    """Claims by id. One is ready until a component is given it, then in work until it is settled."""

    def __init__(self) -> None:
        self.held: dict[str, Claim] = {}
        self.ready: collections.deque[Claim] = collections.deque()
        self.begun: dict[str, float] = {}  #: those in work, and the monotonic time since when
        self._warned: set[str] = set()

    def add(self, claims: Iterable[Claim]) -> None:
        """What was claimed."""
        for claim in claims:
            self.held[claim.id] = claim
            self.ready.append(claim)

    def end(self, id: str) -> float | None:
        """It is settled, or gone; returns since when it was in work."""
        self.held.pop(id, None)
        return self.begun.pop(id, None)

    def clear(self) -> None:
        """Forget them all."""
        self.held.clear()
        self.ready.clear()
        self.begun.clear()

    def counts(self) -> tuple[int, int]:
        """How many are ready, and how many are in work. For any thread."""
        ready = len(self.ready)
        return ready, max(0, len(self.held) - ready)

    def unsettled(self, before: float) -> list[str]:
        """Those in work since `before`, monotonic time, which this has not returned yet."""
        self._warned.intersection_update(self.begun)
        found = [id for id, since in self.begun.items() if since < before and id not in self._warned]
        self._warned.update(found)
        return found
