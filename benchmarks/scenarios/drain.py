"""One daemon drains a queue: every message deleted, or moved to an output queue, without syncs and with them.

Messages of 1 KiB wait before the daemon starts; the clock runs from its `start` event until the last one is settled, so
neither start nor stop count. The other queues, which have formats and programs of their own, are filled by themselves,
and take and settle each message in a loop.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.peers import FLOOR, ORIGINAL, OTHERS, OURS, PYTHON, Peer, Report, run
from benchmarks.places import Place, fill, make_queue
from benchmarks.scenarios import Bench


def drain(peer: Peer, place: Place, count: int, *more: str, move: bool = False, size: int = 1024) -> Report:
    """Fill a queue, and have a peer drain it."""
    with place.workspace() as directory:
        queue = directory / "in"
        if peer.files:
            fill(queue, count, size)
        else:
            run(peer, "enqueue", queue, "--count", count)
        out = ["--out", str(make_queue(directory / "out"))] if move else []
        report = run(peer, "drain", queue, "--count", count, *out, *more)
        assert report.messages == count, f"{peer.name} drained {report.messages} of {count} messages"
        return report


def run_delete(bench: Bench) -> None:
    for place in bench.places:
        peers = bench.available(OURS, ORIGINAL, PYTHON, FLOOR)
        bench.rates("delete", place.name, {peer.name: _turn(peer, place, bench.messages) for peer in peers})
        ours = f"delete/{place.name}/{OURS.name}"
        original, floor = f"delete/{place.name}/{ORIGINAL.name}", f"delete/{place.name}/{FLOOR.name}"
        bench.goal("drain, delete: of the original", ours, against=original, at_least=1.3)
        bench.goal("drain, delete: of the C floor", ours, against=floor, at_least=0.65)


def run_move(bench: Bench) -> None:
    for place in bench.places:
        peers = bench.available(OURS, ORIGINAL, PYTHON, FLOOR)
        bench.rates("move", place.name, {peer.name: _turn(peer, place, bench.messages, move=True) for peer in peers})
        ours, original = f"move/{place.name}/{OURS.name}", f"move/{place.name}/{ORIGINAL.name}"
        bench.goal("drain, move to a queue: of the original", ours, against=original, at_least=1.3)


def run_others(bench: Bench) -> None:
    """Other queues beside ours, with fewer messages, since some of them take very long.

    Those on SQLite sync each transaction, or the log of several, and cannot do without: compare them on tmpfs.
    """
    for place in bench.places:
        peers = bench.available(OURS, *OTHERS)
        bench.rates("others", place.name, {peer.name: _turn(peer, place, bench.few) for peer in peers})


def run_sync(bench: Bench) -> None:
    for place in bench.places:
        bench.rates(
            "sync",
            place.name,
            {
                sync: _turn(OURS, place, bench.few if sync == "always" else bench.messages, "--sync", sync, move=True)
                for sync in ("off", "batch", "always")
            },
        )
        if place.durable:
            batch, off, always = (f"sync/{place.name}/{sync}" for sync in ("batch", "off", "always"))
            bench.goal("drain, queue_sync=batch: of off", batch, against=off, at_least=0.6)
            bench.goal("drain, queue_sync=batch: of always", batch, against=always, at_least=10)


def _turn(peer: Peer, place: Place, count: int, *more: str, move: bool = False) -> Callable[[], Report]:
    return lambda: drain(peer, place, count, *more, move=move)
