"""A million messages wait: the first one out, the rate, the memory, and which ones go first.

The queue is filled once for each file system; every turn drains as many messages as the short queue holds, and fills up
again behind those that are left. The rate counts from the first message; how long that takes is a figure of its own.
Memory is on top of a daemon that has drained a single message. That the oldest go first is seen in which are left; that
none is looked at (stat) before its turn, by counting such calls with strace(1), here and with the short queue.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers import ORIGINAL, OURS, Peer, Report, run
from benchmarks.places import TAKES, Place, fill
from benchmarks.scenarios import Bench
from benchmarks.scenarios.calls import parse
from benchmarks.scenarios.drain import drain

#: Messages of the run in which calls are counted.
TRACED = 100
_STATS = ("stat", "lstat", "fstat", "newfstatat", "statx")

#: A report, and the share of the oldest messages among those that were taken.
Sample = tuple[Report, float]


class Backlog:
    """A queue in which `count` messages wait, again after each turn."""

    def __init__(self, directory: Path, count: int) -> None:
        self.queue = directory / "in"
        self._count = count
        self._made = 0
        self._fill_up()

    def drain(self, peer: Peer, count: int) -> Sample:
        """Have a peer drain `count` messages."""
        oldest = sorted(os.listdir(self.queue / "incoming"))[:count]
        report = run(peer, "drain", self.queue, "--count", count)
        gone = sum(not (self.queue / "incoming" / name).exists() for name in oldest)
        self._fill_up()
        return report, gone / count

    def stats(self) -> int:
        """Calls of the kind of stat(2) while a few messages are drained."""
        found = count_stats(self.queue)
        self._fill_up()
        return found

    def _fill_up(self) -> None:
        missing = self._count - len(os.listdir(self.queue / "incoming")) if self._made else self._count
        fill(self.queue, missing, first=self._made)
        self._made += missing


def count_stats(queue: Path) -> int:
    counted = queue.parent / "strace"
    run(OURS, "drain", queue, "--count", TRACED, under=["strace", "-f", "-c", "-U", "name,calls", "-o", str(counted)])
    return sum(parse(counted.read_text()).get(call, 0) for call in _STATS)


def run_backlog(bench: Bench) -> None:
    short = max(TRACED, bench.backlog // 100)
    for place in bench.places:
        with place.workspace() as directory:
            if shutil.disk_usage(directory).free < bench.backlog * TAKES:
                bench.say(f"backlog, {place.name}: left out, since there is no room for {bench.backlog} messages")
            else:
                _measure(bench, place, Backlog(directory, bench.backlog), short)
        _goals(bench, place.name)


def _measure(bench: Bench, place: Place, backlog: Backlog, short: int) -> None:
    turns: dict[str, Callable[[], Sample]] = {}
    for peer in bench.available(OURS, ORIGINAL):
        turns[f"{peer.name}, long"] = lambda peer=peer: backlog.drain(peer, short)
        turns[f"{peer.name}, short"] = lambda peer=peer: (drain(peer, place, short), 1.0)
    turns["one message"] = lambda: (drain(OURS, place, 1), 1.0)
    _tell(bench, place.name, bench.turns("backlog", place.name, turns))
    if shutil.which("strace"):
        with place.workspace() as directory:
            fill(directory / "in", short)
            more = backlog.stats() - count_stats(directory / "in")
        bench.add("backlog stats", place.name, OURS.name, "a waiting message", [more / (bench.backlog - short)])


def _tell(bench: Bench, place: str, found: dict[str, list[Sample]]) -> None:
    single = found.pop("one message")
    for name, got in found.items():
        reports = [report for report, _ in got]
        bench.add("backlog", place, name, "messages/s", [report.rate_from_first for report in reports])
        bench.add("backlog first", place, name, "s", [report.first or 0.0 for report in reports])
    ours = found[f"{OURS.name}, long"]
    on_top = [(long.peak - one.peak) / 1024 for (long, _), (one, _) in zip(ours, single, strict=True)]
    bench.add("backlog memory", place, OURS.name, "MiB", on_top)
    bench.add("backlog oldest", place, OURS.name, "of 1", [share for _, share in ours])


def _goals(bench: Bench, place: str) -> None:
    many = f"{bench.backlog:,} waiting"
    long, short = (f"backlog/{place}/{OURS.name}, {kind}" for kind in ("long", "short"))
    bench.goal(f"{many}: first message after ready", f"backlog first/{place}/{OURS.name}, long", at_most=1)
    bench.goal(f"{many}: rate, of that with few", long, against=short, at_least=0.8)
    bench.goal(f"{many}: memory on top", f"backlog memory/{place}/{OURS.name}", at_most=20)
    bench.goal(f"{many}: share of the oldest that went first", f"backlog oldest/{place}/{OURS.name}", at_least=1)
    bench.goal(f"{many}: stat calls", f"backlog stats/{place}/{OURS.name}", at_most=0.01)
