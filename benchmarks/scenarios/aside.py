"""Many messages are put off, or are dead letters: what a message costs beside them, and beside none.

Each queue is filled once, in the way that a daemon leaves it, and drained again and again. As in `backlog`, the rate
counts from the first message, and memory is on top of a daemon's that has none of them. One by one, each message is
enqueued when the one before it is gone; its latency is the median.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers import OURS, Report, run
from benchmarks.places import TAKES, fill, make_queue
from benchmarks.scenarios import Bench
from benchmarks.scenarios.latency import latencies

#: When all of them arrived, in nanoseconds since the epoch, and the seconds until those that are put off are due.
ARRIVED, DELAY = 10**18, 86400.0

#: A report of a drain, and a latency in milliseconds.
Sample = tuple[Report, float]


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


def drain_beside(queue: Path, count: int) -> Sample:
    """Drain `count` messages at once, and then some one by one."""
    fill(queue, count)
    report = run(OURS, "drain", queue, "--count", count)
    assert report.messages == count, f"drained {report.messages} of {count} messages"
    return report, statistics.median(latencies(queue, min(1000, count)))


def run_aside(bench: Bench) -> None:
    count = max(1, bench.backlog // 10)
    for place in bench.places:
        with contextlib.ExitStack() as stack:
            directories = {kind: stack.enter_context(place.workspace()) for kind in KINDS}
            if shutil.disk_usage(place.directory).free < 4 * count * TAKES:
                bench.say(f"aside, {place.name}: left out, since there is no room for {count} messages of each kind")
            else:
                queues = {kind: make(directory / "in", kind, count) for kind, directory in directories.items()}
                _measure(bench, place.name, queues)
        _goals(bench, place.name, f"{count:,}")


def _measure(bench: Bench, place: str, queues: dict[str, Path]) -> None:
    turns = {kind: lambda queue=queue: drain_beside(queue, bench.messages) for kind, queue in queues.items()}
    found = bench.turns("aside", place, turns)
    for kind, got in found.items():
        reports = [report for report, _ in got]
        bench.add("aside", place, kind, "messages/s", [report.rate_from_first for report in reports])
        bench.add("aside first", place, kind, "s", [report.first or 0.0 for report in reports])
        bench.add("aside latency", place, kind, "ms", [latency for _, latency in got])
        if KINDS[kind]:
            on_top = [
                (report.peak - none.peak) / 1024 for report, (none, _) in zip(reports, found["none"], strict=True)
            ]
            bench.add("aside memory", place, kind, "MiB", on_top)


def _goals(bench: Bench, place: str, many: str) -> None:
    for kind in (kind for kind in KINDS if KINDS[kind]):
        rate, latency = f"aside/{place}", f"aside latency/{place}"
        bench.goal(f"{many} {kind}: rate, of that with none", f"{rate}/{kind}", against=f"{rate}/none", at_least=0.95)
        what = f"{many} {kind}: one by one, time of that with none"
        bench.goal(what, f"{latency}/{kind}", against=f"{latency}/none", at_most=1 / 0.95)
