"""An idle daemon: from enqueue to processed, wake-ups while nothing happens, and the time that it takes to stop.

Messages are enqueued one at a time, each when the one before it is gone; each holds the moment of its enqueueing, and
the component takes down how long ago that was.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

from benchmarks.peers import ORIGINAL, OURS, Peer, started, wait_until
from benchmarks.places import Place, make_queue
from benchmarks.scenarios import Bench

#: Seconds in which an idle daemon is watched, and for which it has been idle before.
WATCHED, SETTLED = 10.0, 1.0


def latencies(queue: Path, count: int) -> list[float]:
    """Milliseconds from enqueue to processed, sorted."""
    with started(OURS, "drain", queue, "--count", count, "--work", "stamp") as running:
        running.go()
        running.settle()
        for number in range(count):
            temporary = queue / f"tmp/{number}"
            temporary.write_text(str(time.monotonic_ns()))
            os.rename(temporary, queue / f"incoming/{number}")
            wait_until(lambda number=number: not _is_there(queue, number), "it is processed", every=0.001)
        return sorted(running.report().milliseconds)


def idle(peer: Peer, place: Place, seconds: float = WATCHED) -> tuple[float, float]:
    """Wake-ups of an idle daemon in so many seconds, and the seconds that it then takes to stop."""
    with place.workspace() as directory:
        queue = make_queue(directory / "in")
        with started(peer, "drain", queue) as running:
            running.go()
            time.sleep(SETTLED)
            before = running.status("voluntary_ctxt_switches")
            time.sleep(seconds)
            waits = running.status("voluntary_ctxt_switches") - before
            began = time.monotonic()
            running.stop()
            running.end()
            return waits, time.monotonic() - began


def percentile(values: list[float], percent: float) -> float:
    """The smallest of the sorted values that `percent` of them do not exceed."""
    return values[max(0, -int(-len(values) * percent // 100) - 1)]


def run_latency(bench: Bench) -> None:
    place = bench.places[0]
    count = min(1000, bench.messages)

    def turn() -> list[float]:
        with place.workspace() as directory:
            return latencies(make_queue(directory / "in"), count)

    found = bench.turns("latency", place.name, {OURS.name: turn})[OURS.name]
    bench.add("latency", place.name, "median", "ms", [statistics.median(each) for each in found])
    bench.add("latency", place.name, "99 %", "ms", [percentile(each, 99) for each in found])
    bench.goal("enqueue to processed, idle queue: median", f"latency/{place.name}/median", at_most=2)
    bench.goal("enqueue to processed, idle queue: 99 %", f"latency/{place.name}/99 %", at_most=20)


def run_idle(bench: Bench) -> None:
    place = bench.places[0]
    seconds = min(WATCHED, bench.messages / 1000)
    turns = {peer.name: lambda peer=peer: idle(peer, place, seconds) for peer in bench.available(OURS, ORIGINAL)}
    for name, found in bench.turns("idle", place.name, turns).items():
        bench.add("wake-ups", place.name, name, f"in {seconds:g} s", [waits for waits, _ in found])
        bench.add("stop", place.name, name, "s", [stop for _, stop in found])
    bench.goal("wake-ups of an idle daemon", f"wake-ups/{place.name}/{OURS.name}", at_most=5)
    bench.goal("stop of an idle daemon", f"stop/{place.name}/{OURS.name}", at_most=0.2)


def _is_there(queue: Path, number: int) -> bool:
    return (queue / f"incoming/{number}").exists() or (queue / f"pending/{number}").exists()
