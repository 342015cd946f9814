"""Daemons and the queues between them as a graph, by their configuration on this machine; nothing is executed."""

from __future__ import annotations

from pathlib import Path

from piperkit import engines
from piperkit.doctor import reading
from piperkit.pipeline import graph
from piperkit.pipeline.graph import Graph


def installed(spool: str, etc: Path = Path("/etc")) -> Graph:
    """The daemons whose queues are in a spool, and that have a configuration in `etc`. To which queues their components
    send is not in there.

    Raises QueueMissing, ConfigError.
    """
    readers, sends = [], []
    for queue in engines.spool(spool):
        name = engines.short_name(queue)
        found = reading.queues(name, etc, spool)
        if found is None:
            continue
        readers.append((found["dir_queue"], name))
        if found["dir_next_queue"]:
            sends.append((name, found["dir_next_queue"]))
    return graph.joined(readers, sends)
