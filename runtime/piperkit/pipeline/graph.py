"""Daemons and the queues between them as a graph: by `pipeline.toml`, by what is installed, or by what has flowed."""

from __future__ import annotations

import dataclasses
import graphlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from piperkit import engines
from piperkit.daemon.configuration import Configuration
from piperkit.daemon.options import OPTIONS
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
    """Daemons, each once, and the edges between them. `queues` are nodes that are no daemons."""

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
    instances = Counter({member.name: member.instances for member in pipeline.members})
    return _joined([member.name for member in pipeline.members], readers, sends, instances)


def installed(spool: str, etc: Path = Path("/etc")) -> Graph:
    """As the configuration in /etc of the daemons says whose queues are in a spool. Nothing of theirs is executed: to
    which queues their components send is not in there.

    Raises QueueMissing, ConfigError.
    """
    readers, sends = [], []
    for queue in engines.spool(spool):
        name = short_name(queue)
        config = _configured(name, etc, spool)
        if config is None:
            continue
        readers.append((config["dir_queue"], name))
        if config["dir_next_queue"]:
            sends.append((name, config["dir_next_queue"]))
    return _joined([name for _, name in readers], readers, sends, Counter())


def _configured(name: str, etc: Path, spool: str) -> dict[str, Any] | None:
    """The queues of a daemon; None where nothing is configured under that name."""
    options = {option.key: option for option in OPTIONS}
    configuration = Configuration(options, [], start_dir="/")
    found = [
        *configuration.load("directory", str(etc / name), named=False),
        *configuration.load("file", str(etc / f"{name}.conf"), named=False),
    ]
    if not found:
        return None
    config = configuration.initial(name, {"cfg": str(etc), "var": "/var", "log": "/var/log", "run": "/run"})
    ours = [(where, {key: value for key, value in values.items() if key in options}) for where, values in found]
    configuration.merge(config, ours, {}, "")
    config |= dict.fromkeys(("metrics_address", "metrics_file", "traces_endpoint"))  # whose extras may be missing here
    return configuration.complete(config, spool)


def flowed(views: Sequence[View]) -> Graph:
    """As the histories of queues tell: which messages have gone where, and how many. Raises OSError."""
    counts: Counter[tuple[str, str]] = Counter()
    for view in views:
        for line in view.told(b'"to"'):
            target = line.get("to")
            if isinstance(target, str) and line.get("what") in ("committed", "dispatched", "copied"):
                counts[view.path, target] += 1
    known = {view.path for view in views}
    readers = [(view.path, short_name(view.path)) for view in views]
    edges = tuple(
        Edge(short_name(tail), short_name(head), head, number) for (tail, head), number in sorted(counts.items())
    )
    concerned = {path for pair in counts for path in pair}
    daemons = tuple(name for path, name in readers if path in concerned)
    outside = frozenset(short_name(head) for _, head in counts if head not in known)
    return Graph(daemons, edges, outside, sources={short_name(path): path for path in concerned & known})


def _joined(
    daemons: Sequence[str],
    readers: Iterable[tuple[str, str]],
    sends: Iterable[tuple[str, str]],
    instances: Counter[str],
) -> Graph:
    """readers: queues, each with its daemon; sends: daemons, each with a queue."""
    of_queue: dict[str, list[str]] = {}
    sources = {daemon: queue for queue, daemon in readers}
    for queue, daemon in readers:
        of_queue.setdefault(place(queue), []).append(daemon)
    edges: list[Edge] = []
    queues = set[str]()
    for daemon, queue in sends:
        heads = of_queue.get(place(queue))
        if heads is None:
            # A queue of a daemon's name that another one reads is called by its path.
            short = short_name(queue)
            heads = [queue if short in daemons else short]
            queues |= {*heads}
        edges += [Edge(daemon, head, queue) for head in heads]
    return Graph(tuple(daemons), tuple(edges), frozenset(queues), instances, sources)


def place(queue: str) -> str:
    """What two names of one queue have in common."""
    return queue if engines.is_address(queue) else os.path.realpath(queue)
