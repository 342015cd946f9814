"""How long a daemon takes from its start until it is ready, and `piperctl --help` until it has ended.

Ready is the event `start`, when the queue is open and the components are set up. The interpreter alone is beside them.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.peers import ORIGINAL, OURS, Peer, started
from benchmarks.places import Place, make_queue
from benchmarks.scenarios import Bench
from benchmarks.scenarios.enqueue import PIPERCTL


def start(peer: Peer, place: Place) -> float:
    """Seconds from the start of a daemon's process until it is ready."""
    with place.workspace() as directory:
        queue = make_queue(directory / "in")
        began = time.monotonic()
        with started(peer, "drain", queue) as running:
            taken = time.monotonic() - began
            running.go()
            running.stop()
            running.end()
        return taken


def command(*words: object) -> float:
    """Seconds that a command takes."""
    began = time.monotonic()
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def run_start(bench: Bench) -> None:
    place = bench.places[0]
    contestants: dict[str, Callable[[], float]] = {
        f"{peer.name}, ready": lambda peer=peer: start(peer, place) for peer in bench.available(OURS, ORIGINAL)
    }
    contestants["piperctl --help"] = lambda: command(PIPERCTL, "--help")
    contestants["python -c pass"] = lambda: command(sys.executable, "-c", "pass")
    for name, seconds in bench.turns("start", place.name, contestants).items():
        bench.add("start", place.name, name, "s", seconds)
    bench.goal("start to ready", f"start/{place.name}/{OURS.name}, ready", at_most=0.3)
    bench.goal("piperctl --help", f"start/{place.name}/piperctl --help", at_most=0.3)
