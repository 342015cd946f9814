"""`piperctl pipeline drain`: a pipeline runs empty, and what keeps it from that is said.

What its sources fetch is paused first, by a pause of their queues that leaves the messages in there alone (`Paused`):
it holds whoever runs the daemons, and after a restart. Then nothing may wait, or be in work, anywhere. Dead letters and
held messages stay where they are.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator

from piperkit import engines
from piperkit.errors import PiperError, QueueMissing
from piperkit.operating import Paused, View
from piperkit.pipeline.description import Member, Pipeline

#: Parts whose messages are still to be worked on.
MOVING = ("incoming", "pending", "deferred", "outgoing")
#: Seconds after a pause within which what was fetched before may still come; a daemon knows of it within two.
SETTLE = 3.0


@dataclasses.dataclass(frozen=True, slots=True)
class Left:
    """What there is in one daemon's queue, and what keeps it there."""

    member: Member
    counts: dict[str, int]  #: by part of `MOVING`
    why: str  #: for people; nothing where it is only a matter of time


class Draining:
    """Looks how far it is. Raises QueueMissing where a queue of a daemon that runs is not there."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._views: list[tuple[Member, View]] = []
        for member in pipeline.members:
            try:
                self._views.append((member, engines.view(member.source)))
            except QueueMissing:
                if member.instances:
                    raise

    def look(self) -> list[Left]:
        """What is left, in the file's order; nothing where all is empty."""
        found = []
        for member, view in self._views:
            counts = {part: number for part, number in view.counts(MOVING).items() if number}
            if counts:
                found.append(Left(member, counts, _why(view, counts)))
        return found

    def wait(self, until: float | None, clock: Callable[[], float] = time.monotonic) -> Iterator[list[Left]]:
        """Look again and again, until all is empty and stays so, or the time is up; yields what is left each time."""
        settled = clock() + SETTLE
        while True:
            left = self.look()
            yield left
            now = clock()
            if (not left and now >= settled) or (until is not None and now >= until):
                return
            if left:
                settled = max(settled, now + SETTLE / 3)  # what was in work may be in the next queue now
            time.sleep(0.2)


def _why(view: View, counts: dict[str, int]) -> str:
    """What keeps messages in a queue."""
    paused: Paused | None = view.paused()
    if paused is not None and not paused.sources_only:
        return str(paused)
    there = view.instances()
    alive = None if there is None else [each for each in there if each.alive]
    if alive is not None and not alive:
        return "no instance works on it"
    waits = {each.waits_for for each in alive or () if each.waits_for}
    if waits:
        return f"waiting for {', '.join(sorted(waits))}"
    if counts.keys() == {"deferred"}:
        try:
            (first, *_), _ = view.oldest("deferred", 1)
        except (OSError, ValueError, PiperError):
            return "put off"
        due = "" if first.due is None else f", the first until {time.strftime('%H:%M:%S', time.localtime(first.due))}"
        return f"put off{due}{f': {first.reason}' if first.reason else ''}"
    return ""
