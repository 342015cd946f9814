"""A spool for what is looked at: queues a to d, with none to three messages, and dead letters of two kinds in d."""

from __future__ import annotations

from pathlib import Path

from piperkit import Failure
from piperkit.dirq import DirectoryQueue


def make(spool: Path) -> Path:
    """Make it there."""
    for number, name in enumerate("abcd"):
        with DirectoryQueue(spool / name) as queue:
            for at in range(number):
                queue.enqueue({"n": at, "text": f"of {name}"}, f"{name}{at}")
    with DirectoryQueue(spool / "d") as queue:
        for at in range(4):
            queue.enqueue("x", f"e{at}")
        for claim in queue.claim(10):
            if claim.id.startswith("e"):
                queue.banish(claim.id, Failure("the host is down" if claim.id < "e3" else "too long"))
    return spool
