"""Several instances on one queue: what they do together, how they share it, and how often they run into each other.

All wait at their start event until everyone is there; the clock runs until the last message has been processed. Failed
claims are system calls on `incoming` that fail, since somebody else was at the message: counted by strace(1) in a
run of their own, with fewer messages, since that slows them down. How many instances can help depends on how many cores
the machine has.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.peers import ORIGINAL, OURS, Peer, Report, Running, started, wait_until
from benchmarks.places import Place, fill, make_queue
from benchmarks.scenarios import Bench

#: Messages of a run that strace slows down.
TRACED = 2000
_CALLS = "openat,rename,renameat,renameat2,link,linkat,flock"
_FAILED = re.compile(r"^.*\bincoming\b.*= -1 ")


@dataclasses.dataclass(frozen=True)
class Shared:
    """What several instances did."""

    reports: Sequence[Report]

    @property
    def together(self) -> Report:
        """As if one had done it."""
        return Report(
            messages=sum(each.messages for each in self.reports),
            began=min(each.began for each in self.reports),
            ended=max(each.ended for each in self.reports),
            user=sum(each.user for each in self.reports),
            system=sum(each.system for each in self.reports),
        )

    @property
    def unevenness(self) -> float:
        """The largest share divided by the smallest; where that is nothing, by one message."""
        shares = [each.messages for each in self.reports]
        return max(shares) / max(1, min(shares))


def drain_together(
    peer: Peer, place: Place, count: int, number: int, *more: str, move: bool = False, traces: Path | None = None
) -> Shared:
    """Fill a queue, and have `number` instances drain it.

    more: options of theirs.
    move: to an output queue.
    traces: a directory where strace writes which of their claims fail.
    """
    with place.workspace() as directory, contextlib.ExitStack() as stack:
        queue = directory / "in"
        fill(queue, count)
        out = ["--out", str(make_queue(directory / "out"))] if move else []
        running = [stack.enter_context(started(peer, "drain", queue, *out, *more)) for _ in range(number)]
        tracers = [stack.enter_context(_traced(each.pid, traces)) for each in running] if traces else []
        for each in running:
            each.go()
        wait_until(lambda: not (_any(queue / "incoming") or _any(queue / "pending")), "the queue is empty", every=0.05)
        shared = Shared(_stop(running))
        for tracer in tracers:
            tracer.wait()
        assert shared.together.messages == count, f"{peer.name} drained {shared.together.messages} of {count} messages"
        return shared


def failed_claims(peer: Peer, place: Place, count: int, number: int) -> float:
    """Failed claims a message."""
    with place.workspace() as directory:
        drain_together(peer, place, count, number, traces=directory)
        return sum(count_failed(path.read_text()) for path in directory.iterdir()) / count


def count_failed(trace: str) -> int:
    """The calls in a trace, of those that failed, that were at a message in `incoming`."""
    return sum(bool(_FAILED.match(line)) for line in trace.splitlines())


def run_instances(bench: Bench) -> None:
    for place in bench.places:
        peers = bench.available(OURS, ORIGINAL)
        turns = {
            f"{peer.name} x {number}": _turn(peer, place, bench.messages, number)
            for number in bench.instances
            for peer in peers
        }
        found = bench.turns("instances", place.name, turns)
        bench.add_rates("instances", place.name, {name: [each.together for each in got] for name, got in found.items()})
        for name, got in found.items():
            if not name.endswith(" x 1"):
                bench.add("shares", place.name, name, "x", [each.unevenness for each in got])
        _goals(bench, place.name)
        if place.durable:
            _synced(bench, place)
    if shutil.which("strace"):
        _failed(bench, bench.places[0])


def _synced(bench: Bench, place: Place) -> None:
    """Instances that wait for the disk: for the sizing guide."""
    turns = {
        f"{OURS.name} x {number}": lambda number=number: drain_together(
            OURS, place, bench.messages, number, "--sync", "batch", move=True
        )
        for number in bench.instances
    }
    found = bench.turns("synced instances", place.name, turns)
    together = {name: [each.together for each in got] for name, got in found.items()}
    bench.add_rates("synced instances", place.name, together)


def _goals(bench: Bench, place: str) -> None:
    one, two, four, eight = (f"instances/{place}/{OURS.name} x {number}" for number in (1, 2, 4, 8))
    bench.goal("two instances: of one", two, against=one, at_least=1.6)
    bench.goal("four instances: of two", four, against=two, at_least=0.95)
    bench.goal("eight instances: of two", eight, against=two, at_least=0.85)
    for number in _several(bench):
        shares = f"shares/{place}/{OURS.name} x {number}"
        bench.goal(f"{number} instances: largest of smallest share", shares, at_most=2)


def _failed(bench: Bench, place: Place) -> None:
    count = min(TRACED, bench.messages)
    for number in _several(bench):
        for peer in bench.available(OURS, ORIGINAL):
            name = f"{peer.name} x {number}"
            bench.say(f"failed claims, {place.name}: {name}")
            bench.add("failed claims", place.name, name, "a message", [failed_claims(peer, place, count, number)])
        ours = f"failed claims/{place.name}/{OURS.name} x {number}"
        bench.goal(f"{number} instances: failed claims", ours, at_most=0.05)


def _several(bench: Bench) -> list[int]:
    return [number for number in bench.instances if number > 1]


@contextlib.contextmanager
def _traced(pid: int, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """strace(1) on a process, from now on until that ends."""
    command = ["strace", "-f", "-y", "-Z", "-e", f"trace={_CALLS}", "-o", str(directory / str(pid)), "-p", str(pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert tracer.stderr is not None
        line = tracer.stderr.readline()
        if "attached" not in line:
            raise RuntimeError(f"strace cannot attach: {line}")
        yield tracer
    finally:
        tracer.terminate()
        tracer.communicate()


def _stop(running: Sequence[Running]) -> list[Report]:
    for each in running:
        each.stop()
    return [each.report() for each in running]


def _any(directory: Path) -> bool:
    with os.scandir(directory) as entries:
        return any(True for _ in entries)


def _turn(peer: Peer, place: Place, count: int, number: int) -> Callable[[], Shared]:
    return lambda: drain_together(peer, place, count, number)
