"""Many messages are put off, or are dead letters: what a message costs beside them, and beside none.

Each queue is filled once, in the way that a daemon leaves it, and messages pass by again and again: many at once, and
one by one, each enqueued when the one before it is gone. They come when the daemon is idle, so what it does at its
start does not count; the processor's time that it takes from `ready` until then is a figure of its own. Memory is what
the daemon uses on top of one that has none of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers import OURS, Report, started
from benchmarks.places import TAKES, Place, fill, make_queue
from benchmarks.scenarios import Bench
from benchmarks.scenarios.latency import latencies

#: When all of them arrived, in nanoseconds since the epoch, and the seconds until those that are put off are due.
ARRIVED, DELAY = 10**18, 86400.0

#: Messages that come one by one.
ALONE = 200


def put_off(queue: Path, name: str) -> None:
    """A message in `deferred`; its record in `state` is dated when it is due."""
    record = {"arrived": ARRIVED, "attempts": 1, "crashes": 0, "death": None, "target": None, "history": []}
    due = time.time() + DELAY
    (queue / "deferred" / name).write_text("x")
    os.utime(queue / "deferred" / name, ns=(ARRIVED, ARRIVED))
    (queue / "state" / name).write_text(json.dumps(record) + "\n")
    os.utime(queue / "state" / name, (due, due))


def banish(queue: Path, name: str) -> None:
    """A message in `errors`, and why it is there."""
    (queue / "errors" / name).write_text("x")
    (queue / "errors" / f"{name}.meta").write_text(json.dumps({"id": name, "name": name, "reason": "none"}) + "\n")


KINDS: dict[str, Callable[[Path, str], None] | None] = {"none": None, "put off": put_off, "dead letters": banish}


def make(queue: Path, kind: str, count: int) -> Path:
    """A queue with `count` messages of a kind."""
    make_queue(queue)
    for part in ("deferred", "state"):
        (queue / part).mkdir()
    if put := KINDS[kind]:
        for number in range(count):
            put(queue, f"1600000000.{number:09d}.1.bench")
    return queue


@dataclasses.dataclass(frozen=True)
class Passed:
    """What messages took."""

    drained: Report  #: of many at once
    start: float  #: seconds of a processor from ready to idle
    latency: float  #: milliseconds, the median of those that came one by one

    @property
    def cpu(self) -> float:
        """Processor time of a message at once, in microseconds."""
        return max(0.0, self.drained.cpu - self.start / self.drained.messages * 1e6)


def pass_by(place: Place, queue: Path, count: int) -> Passed:
    """Drain `count` messages that come at once, and then some one by one."""
    with place.workspace() as ready, started(OURS, "drain", queue, "--count", count) as running:
        running.go()
        start = running.settle()
        with running.paused():
            fill(ready, count)  # not in the queue, from which as many have just been deleted: see places.spread_out
            for name in os.listdir(ready / "incoming"):
                os.rename(ready / "incoming" / name, queue / "incoming" / name)
        report = running.report()
    return Passed(report, start, statistics.median(latencies(queue, min(ALONE, count))))


def run_aside(bench: Bench) -> None:
    count = max(1, bench.backlog // 10)
    for place in bench.places:
        with contextlib.ExitStack() as stack:
            directories = {kind: stack.enter_context(place.workspace()) for kind in KINDS}
            if shutil.disk_usage(place.directory).free < 4 * count * TAKES:
                bench.say(f"aside, {place.name}: left out, since there is no room for {count} messages of each kind")
            else:
                queues = {kind: make(directory / "in", kind, count) for kind, directory in directories.items()}
                os.sync()  # or it would be written while the first rounds are measured
                _measure(bench, place, queues)
        _goals(bench, place.name, f"{count:,}")


def _measure(bench: Bench, place: Place, queues: dict[str, Path]) -> None:
    turns = {kind: lambda queue=queue: pass_by(place, queue, bench.messages) for kind, queue in queues.items()}
    found = bench.turns("aside", place.name, turns)
    for kind, got in found.items():
        rates = [each.drained.rate_from_first for each in got]
        bench.add("aside", place.name, kind, "messages/s", rates, [each.cpu for each in got])
        bench.add("aside latency", place.name, kind, "ms", [each.latency for each in got])
        bench.add("aside start", place.name, kind, "s", [each.start for each in got])
        if KINDS[kind]:
            pairs = zip(got, found["none"], strict=True)
            bench.add(
                "aside memory", place.name, kind, "MiB", [(a.drained.peak - b.drained.peak) / 1024 for a, b in pairs]
            )


def _goals(bench: Bench, place: str, many: str) -> None:
    for kind in (kind for kind in KINDS if KINDS[kind]):
        rate, latency = f"aside/{place}", f"aside latency/{place}"
        bench.goal(f"{many} {kind}: rate, of that with none", f"{rate}/{kind}", against=f"{rate}/none", at_least=0.95)
        what = f"{many} {kind}: one by one, time of that with none"
        bench.goal(what, f"{latency}/{kind}", against=f"{latency}/none", at_most=1 / 0.95)
