"""A message of 64 MiB through a chain of two daemons that do not look inside: memory, and what is read of it.

Both daemons pass a small message on first; what they have used then is what an idle daemon needs. That the message is
only renamed shows in its inode, the same at the end of the chain, and in the bytes that the daemons have read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from pathlib import Path

from benchmarks.peers import OURS, started, wait_until
from benchmarks.places import Place, make_queue
from benchmarks.scenarios import Bench

MIB = 1 << 20
SIZE = 64 * MIB
#: Of /proc/PID/status: the most memory that a process has used, in KiB.
PEAK = "VmHWM"


@dataclasses.dataclass(frozen=True)
class Passed:
    """What a large message took."""

    memory: float  #: MiB, on top of what the daemon used before; the larger of the two
    read: float  #: MiB that both daemons have read
    same: bool  #: the same file arrived


def pass_on(place: Place, size: int = SIZE) -> Passed:
    """Put a small message and then one of `size` bytes into the first queue, and wait for them behind the second."""
    with place.workspace() as directory, contextlib.ExitStack() as stack:
        queues = [make_queue(directory / name) for name in ("first", "second", "third")]
        daemons = [
            stack.enter_context(started(OURS, "drain", source, "--out", target, "--format", "bytes"))
            for source, target in itertools.pairwise(queues)
        ]
        for daemon in daemons:
            daemon.go()
        put(queues[0], "small", 1024)
        wait_until((queues[-1] / "incoming/small").exists, "the small message has arrived")
        memory, read = [daemon.status(PEAK) for daemon in daemons], [daemon.bytes_read() for daemon in daemons]
        inode = put(queues[0], "large", size)
        there = queues[-1] / "incoming/large"
        wait_until(there.exists, "the large message has arrived")
        return Passed(
            memory=max(daemon.status(PEAK) - before for daemon, before in zip(daemons, memory, strict=True)) / 1024,
            read=sum(daemon.bytes_read() - before for daemon, before in zip(daemons, read, strict=True)) / MIB,
            same=there.stat().st_ino == inode,
        )


def put(queue: Path, name: str, size: int) -> int:
    """A message of `size` bytes; returns its inode."""
    path = queue / "tmp" / name
    with open(path, "wb") as file:
        for begin in range(0, size, MIB):
            file.write(b"x" * min(MIB, size - begin))
        inode = os.fstat(file.fileno()).st_ino
    os.rename(path, queue / "incoming" / name)
    return inode


def run_large(bench: Bench) -> None:
    for place in bench.places:
        found = bench.turns("large", place.name, {"chain": lambda place=place: pass_on(place)})["chain"]
        memory, read, same = "memory", "read", "same file"
        bench.add("large", place.name, memory, "MiB", [each.memory for each in found])
        bench.add("large", place.name, read, "MiB", [each.read for each in found])
        bench.add("large", place.name, same, "of 1", [float(each.same) for each in found])
        key = f"large/{place.name}"
        bench.goal("64 MiB through two daemons: memory on top", f"{key}/{memory}", at_most=10)
        bench.goal("64 MiB through two daemons: bytes read", f"{key}/{read}", at_most=1)
        bench.goal("64 MiB through two daemons: renamed, not copied", f"{key}/{same}", at_least=1)
