"""The queue as a library, without a daemon: claim, read and delete in a loop, 32 claims at a time, without syncs.

Beside it are `dirq`, which takes one message at a time, and the library of an earlier release, run by the same program.
Each queue is filled by its own library, in a process of its own.
"""

from __future__ import annotations

from benchmarks.peers import DIRQ, EARLIER, LIBRARY
from benchmarks.scenarios import Bench
from benchmarks.scenarios.drain import drain

#: Of `dirq`, by place.
GOALS = {"tmpfs": 1.25, "disk": 1.15}


def run_library(bench: Bench) -> None:
    for place in bench.places:
        peers = bench.available(LIBRARY, DIRQ, EARLIER)
        turns = {peer.name: lambda peer=peer, place=place: drain(peer, place, bench.messages) for peer in peers}
        bench.rates("library", place.name, turns)
        ours, dirq, earlier = (f"library/{place.name}/{peer.name}" for peer in (LIBRARY, DIRQ, EARLIER))
        bench.goal("library: claim, read, delete: of dirq", ours, against=dirq, at_least=GOALS[place.name])
        bench.goal(f"library: claim, read, delete: of {EARLIER.name}", ours, against=earlier, at_least=1.6)
