"""What `piperctl top` and the page show: looks at the queues in the background, and how much has flowed lately.

A look takes a bounded share of a processor (`Overview`); what flows is watched for a part of the time only: so many
messages cost no more than few.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence

from piperkit.errors import PiperError
from piperkit.operating import View
from piperkit.overview import Overview, QueueState
from piperkit.pipeline import drawing
from piperkit.pipeline.graph import Edge, Graph

#: Looks that a sparkline shows.
LATELY = 30
#: Part of the time between two looks in which what flows is watched.
_WATCHED = 0.25


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """All of it in one moment."""

    states: tuple[QueueState, ...]
    at: float  #: seconds since the epoch
    wrong: str = ""  #: why what flows cannot be told

    @property
    def waits(self) -> int:
        """Messages that wait, in all of them."""
        return sum(state.waits for state in self.states)

    @property
    def failed(self) -> int:
        """Dead letters, in all of them."""
        return sum(state.failed for state in self.states)

    def state(self, queue: str) -> QueueState | None:
        return next((state for state in self.states if state.queue == queue), None)


class Feed:
    """Looks again and again, in a thread, and tells.

    views: the queues. every: seconds between looks. told: called in that thread with each look.
    graph: of the daemons, if it is known.
    """

    def __init__(
        self, views: Sequence[View], every: float, told: Callable[[Moment], None], graph: Graph | None = None
    ) -> None:
        self.graph = graph
        self._queues = {} if graph is None else graph.sources
        self._overview = Overview(views)
        self._every = every
        self._told = told
        self._stop = threading.Event()
        self._now = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        #: By queue: messages a second that were settled, at each of the last looks.
        self.lately: dict[str, collections.deque[float]] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Idempotent."""
        self._stop.set()
        self._now.set()

    def now(self) -> None:
        """Look at once: something was done."""
        self._now.set()

    def look(self) -> Moment:
        """One look."""
        wrong = ""
        try:
            self._overview.measure(self._every * _WATCHED, self._stop.is_set)
        except (OSError, PiperError) as error:
            wrong = str(error)
        moment = Moment(tuple(self._overview.look()), time.time(), wrong)
        for state in moment.states:
            self.lately.setdefault(state.queue, collections.deque(maxlen=LATELY)).append(state.went or 0.0)
        return moment

    def drawn(self, moment: Moment) -> str:
        """The graph, with what flows on its edges, and what is wrong with its daemons; nothing where none is known."""
        if self.graph is None:
            return ""
        return drawing.text(
            self.graph, label=lambda name: self._label(moment, name), flow=lambda edge: self._flow(moment, edge)
        )

    def _label(self, moment: Moment, name: str) -> str:
        state = moment.state(self._queues.get(name, ""))
        if state is None:
            return ""
        marks = ["paused"] if state.paused is not None else []
        marks += [f"{state.waits} wait"] if state.waits else []
        marks += ["nobody"] if state.alive == () else []
        return f" ({', '.join(marks)})" if marks else ""

    def _flow(self, moment: Moment, edge: Edge) -> str:
        """Messages a second on an edge; nothing where nothing tells them apart from others."""
        assert self.graph is not None
        head = moment.state(self._queues.get(edge.head, edge.queue))
        tail = moment.state(self._queues.get(edge.tail, ""))
        found = None
        if tail is not None and len(self.graph.heads(edge.tail)) == 1:
            found = tail.went
        elif head is not None and len(self.graph.tails(edge.head)) == 1:
            found = head.came
        return "" if found is None else f"{found:g}/s"

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            moment = self.look()
            if not self._stop.is_set():
                self._told(moment)
            # A look that took long is not followed by another one at once.
            self._now.wait(max(self._every - (time.monotonic() - began), self._every * (1 - _WATCHED)))
            self._now.clear()
