"""How the size of messages matters: a drain to an output queue, of messages from 100 bytes to 1 MiB."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.peers import ORIGINAL, OURS, Peer, Report
from benchmarks.places import Place
from benchmarks.scenarios import Bench
from benchmarks.scenarios.drain import drain

SIZES = {"100 B": 100, "1 KiB": 1 << 10, "16 KiB": 1 << 14, "256 KiB": 1 << 18, "1 MiB": 1 << 20}
#: Bytes of all messages of one turn, at the most.
TOTAL = 1 << 28


def run_sizes(bench: Bench) -> None:
    for place in bench.places:
        turns = {
            f"{peer.name}, {label}": _turn(peer, place, max(1, min(bench.messages, TOTAL // size)), size)
            for label, size in SIZES.items()
            for peer in bench.available(OURS, ORIGINAL)
        }
        bench.rates("sizes", place.name, turns)
        for label in ("256 KiB", "1 MiB"):
            ours, original = (f"sizes/{place.name}/{peer.name}, {label}" for peer in (OURS, ORIGINAL))
            bench.goal(f"drain, {label} of text: of the original", ours, against=original, at_least=1.0)


def _turn(peer: Peer, place: Place, count: int, size: int) -> Callable[[], Report]:
    return lambda: drain(peer, place, count, move=True, size=size)
