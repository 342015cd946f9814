"""A producer enqueues many messages: what the disk is told, and what that costs.

`many` is the library's way, in groups that become durable together; the clock runs from the first message to the last
group's sync. `piperctl` is a whole run of `piperctl queue put --lines` on a file, its start included. What they stand
against is the C floor with fsync(2) of the file and of the directory for each message.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers import FLOOR, ORIGINAL, OURS, Peer, Report, run
from benchmarks.places import Place, make_queue
from benchmarks.scenarios import Bench

PIPERCTL = Path(sys.executable).parent / "piperctl"
LINE = b"x" * 1023 + b"\n"


def enqueue(peer: Peer, place: Place, count: int, sync: str) -> Report:
    with place.workspace() as directory:
        queue = make_queue(directory / "in") if peer.files else directory / "in"
        return run(peer, "enqueue", queue, "--count", count, "--sync", sync)


def put_lines(place: Place, count: int) -> Report:
    """`piperctl queue put --lines`; a message is a line of 1 KiB."""
    with place.workspace() as directory:
        queue, lines = make_queue(directory / "in"), directory / "lines"
        lines.write_bytes(LINE * count)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(
            [PIPERCTL, "queue", "put", queue, "--lines", lines], check=True, stdout=subprocess.DEVNULL, text=True
        )
        ended, after = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        return Report(count, began, ended, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime)


def run_enqueue(bench: Bench) -> None:
    for place in bench.places:
        peers = bench.available(OURS, ORIGINAL, FLOOR)
        turns = {peer.name: _turn(peer, place, bench.messages, "off") for peer in peers}
        with place.keeping():
            bench.rates("enqueue off", place.name, turns)
            if place.durable:
                _durable(bench, place)
        ours, original = (f"enqueue off/{place.name}/{peer.name}" for peer in (OURS, ORIGINAL))
        bench.goal("enqueue, queue_sync=off: of the original", ours, against=original, at_least=1.0)


def _durable(bench: Bench, place: Place) -> None:
    contestants = {
        "many": _turn(OURS, place, bench.messages, "batch"),
        "piperctl": lambda: put_lines(place, bench.messages),
        "always": _turn(OURS, place, bench.few, "always"),
    }
    for peer in bench.available(FLOOR):
        contestants["C floor, each"] = _turn(peer, place, bench.few, "always")
        contestants["C floor, many"] = _turn(peer, place, bench.messages, "batch")
    bench.rates("enqueue durable", place.name, contestants)
    each = f"enqueue durable/{place.name}/C floor, each"
    for name, what in (("many", "enqueue, many at once"), ("piperctl", "piperctl queue put --lines")):
        series = f"enqueue durable/{place.name}/{name}"
        bench.goal(f"{what}: of fsync(file) and fsync(directory) each", series, against=each, at_least=3)


def _turn(peer: Peer, place: Place, count: int, sync: str) -> Callable[[], Report]:
    return lambda: enqueue(peer, place, count, sync)
