"""What a message costs, call by call: system calls counted by strace(1) for two numbers of messages.

The difference, divided by that of the numbers, is what one message takes; start and end cancel out.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.peers import FLOOR, ORIGINAL, OURS, Peer, run
from benchmarks.places import fill, make_queue
from benchmarks.scenarios import Bench

FEW, MANY = 400, 1400
#: Calls of less than this a message are of groups of messages, or of chance.
RARE = 0.005


def run_calls(bench: Bench) -> None:
    if shutil.which("strace") is None:
        bench.say("calls: not counted, since strace(1) is missing")
        return
    place = bench.places[0]
    for peer in bench.available(OURS, ORIGINAL, FLOOR):
        for what, options in (("delete", []), ("move", ["--out"]), ("enqueue", [])):
            bench.say(f"calls, {place.name}: {peer.name}, {what}")
            found = []
            for count in (FEW, MANY):
                with place.workspace() as directory:
                    found.append(_count(peer, directory, what, count, bool(options)))
            bench.calls[f"{peer.name}/{what}"] = per_message(*found, messages=MANY - FEW)


def _count(peer: Peer, directory: Path, what: str, count: int, move: bool) -> dict[str, int]:
    queue, counted = make_queue(directory / "in"), directory / "strace"
    under = ["strace", "-f", "-c", "-U", "name,calls", "-o", str(counted)]
    if what == "enqueue":
        run(peer, "enqueue", queue, "--count", count, under=under)
    else:
        fill(queue, count)
        out = ["--out", str(make_queue(directory / "out"))] if move else []
        run(peer, "drain", queue, "--count", count, *out, under=under)
    return parse(counted.read_text())


def parse(summary: str) -> dict[str, int]:
    """The calls in a summary of `strace -c -U name,calls`."""
    rows = (line.split() for line in summary.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit() and row[0] != "total"}


def per_message(few: dict[str, int], many: dict[str, int], *, messages: int) -> dict[str, float]:
    """Calls a message, most frequent first."""
    found = {name: (count - few.get(name, 0)) / messages for name, count in many.items()}
    return dict(sorted(((name, each) for name, each in found.items() if each >= RARE), key=lambda pair: -pair[1]))
