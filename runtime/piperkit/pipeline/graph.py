"""Daemons and the queues between them as a graph: by `pipeline.toml`, or by what has flowed; see also `installed`."""

from __future__ import annotations

import dataclasses
import graphlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from piperkit import engines
from piperkit.engines import short_name
from piperkit.operating import View
from piperkit.pipeline.description import Pipeline


@dataclasses.dataclass(frozen=True, slots=True)
class Edge:
    """Messages go from one daemon into a queue, and to the daemon that reads it."""

    tail: str
    head: str  #: a daemon, or a queue that none of these daemons reads
    queue: str
    messages: int | None = None  #: that have gone there, where that is known


@dataclasses.dataclass(frozen=True, slots=True)
class Graph:
    """Daemons, each once, and the edges between them. `queues` are nodes that are not daemons."""

    daemons: tuple[str, ...]
    edges: tuple[Edge, ...]
    queues: frozenset[str] = frozenset()
    instances: Counter[str] = dataclasses.field(default_factory=Counter)
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)  #: the queue that each daemon reads

    def heads(self, node: str) -> list[str]:
        """Where messages go from there, in order."""
        return [*dict.fromkeys(edge.head for edge in self.edges if edge.tail == node)]

    def tails(self, node: str) -> list[str]:
        """Where messages come from."""
        return [*dict.fromkeys(edge.tail for edge in self.edges if edge.head == node)]

    def beginnings(self) -> list[str]:
        """The daemons that no other one sends to."""
        return [daemon for daemon in self.daemons if not self.tails(daemon)]

    def ends(self) -> list[str]:
        """The daemons that send to no queue."""
        return [daemon for daemon in self.daemons if not self.heads(daemon)]

    def loop(self) -> list[str]:
        """A loop, as the daemons of it with the first one once more at the end; nothing where there is none."""
        try:
            self._sorter().prepare()
        except graphlib.CycleError as error:
            return [*reversed(error.args[1])]
        return []

    def consumers_first(self) -> list[str]:
        """The daemons, each after all that it sends to; in a loop, in the order in which they were given."""
        if self.loop():
            return [*self.daemons]
        return [node for node in self._sorter().static_order() if node not in self.queues]

    def _sorter(self) -> graphlib.TopologicalSorter[str]:
        return graphlib.TopologicalSorter({daemon: self.heads(daemon) for daemon in self.daemons})


def of(pipeline: Pipeline) -> Graph:
    """As the file says."""
    readers = [(member.source, member.name) for member in pipeline.members]
    sends = [(member.name, target) for member in pipeline.members for target in member.targets]
    return joined(readers, sends, {member.name: member.instances for member in pipeline.members})


def flowed(views: Mapping[str, View]) -> Graph:
    """As the histories of queues tell: which messages have gone where, and how many. views: of the queues, each by the
    name of the daemon that reads it. Raises OSError.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for name, view in views.items():
        for line in view.told(b'"to"'):
            target = line.get("to")
            if isinstance(target, str) and line.get("what") in ("committed", "dispatched", "copied"):
                counts[name, target] += 1
    found = joined([(view.path, name) for name, view in views.items()], sorted(counts))
    edges = tuple(dataclasses.replace(edge, messages=counts[edge.tail, edge.queue]) for edge in found.edges)
    concerned = {node for edge in edges for node in (edge.tail, edge.head)}
    daemons = tuple(name for name in found.daemons if name in concerned)
    return dataclasses.replace(found, daemons=daemons, edges=edges)


def joined(
    readers: Sequence[tuple[str, str]], sends: Iterable[tuple[str, str]], instances: Mapping[str, int] | None = None
) -> Graph:
    """readers: queues, each with its daemon; sends: daemons, each with a queue that it sends to."""
    of_queue: dict[str, list[str]] = {}
    for queue, daemon in readers:
        of_queue.setdefault(place(queue), []).append(daemon)
    sources = {daemon: queue for queue, daemon in readers}
    edges: list[Edge] = []
    queues = set[str]()
    for daemon, queue in sends:
        heads = of_queue.get(place(queue))
        if heads is None:
            # A queue of a daemon's name that this one does not read is called by its path.
            short = short_name(queue)
            heads = [queue if short in sources else short]
            queues |= {*heads}
        edges += [Edge(daemon, head, queue) for head in heads]
    return Graph(tuple(sources), tuple(edges), frozenset(queues), Counter(instances or {}), sources)


def place(queue: str) -> str:
    """What two names of one queue have in common."""
    return queue if engines.is_address(queue) else os.path.realpath(queue)
