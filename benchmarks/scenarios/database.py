"""Queues in a database, from one to the next: claim, read, move on; what is done is on the server's disk.

The server is one of the run's own, with its data on the durable place, and so is the broker's. Beside ours are two
libraries for jobs on PostgreSQL, whose jobs make the next one, and RabbitMQ with confirms and quorum queues. Then ours
with many messages waiting and an old transaction open, which keeps the server from clearing up behind it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from benchmarks import servers
from benchmarks.peers import DATABASE, PGQUEUER, PROCRASTINATE, RABBITMQ, Peer, Report, started
from benchmarks.places import Place
from benchmarks.scenarios import Bench
from benchmarks.scenarios.instances import Shared

SIZE = 1024
#: Messages that wait where a long queue is measured.
WAITING = 200_000


def run_database(bench: Bench) -> None:
    place = next((place for place in bench.places if place.durable), None)
    if place is None or not servers.has_postgresql():
        bench.say("database: left out; it takes the disk, and PostgreSQL")
        return
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(place.workspace())
        url = stack.enter_context(servers.postgresql(directory))
        turns: dict[str, Callable[[], Report]] = {
            f"{DATABASE.name} x {number}": _ours(url, bench.messages, number) for number in (1, 2)
        }
        for peer in bench.available(PROCRASTINATE, PGQUEUER):
            turns[peer.name] = _peer(peer, url, 1000)  # of which each takes long
        if bench.available(RABBITMQ) and servers.has_rabbitmq():
            broker = stack.enter_context(servers.rabbitmq(directory))
            turns[RABBITMQ.name] = _peer(RABBITMQ, broker, bench.messages)
        bench.rates("database", place.name, turns)
        ours = f"database/{place.name}/{DATABASE.name} x"
        bench.goal("database: one instance", f"{ours} 1", at_least=8000)
        bench.goal("database: two instances", f"{ours} 2", at_least=12000)
        for name in turns:
            if not name.startswith(DATABASE.name):
                bench.goal(f"database: of {name}", f"{ours} 1", against=f"database/{place.name}/{name}", at_least=1)
        _long(bench, place, url)


def _long(bench: Bench, place: Place, url: str) -> None:
    """A long queue, and an old transaction: what is left of the rate."""
    _fill(url, WAITING)
    with servers.old_transaction(url):
        name = f"{DATABASE.name}, {WAITING} waiting, an old transaction open"
        found = bench.turns("long database", place.name, {name: lambda: _drain(url, bench.messages, 1, fill=True)})
        bench.add_rates("long database", place.name, found)
    short = f"database/{place.name}/{DATABASE.name} x 1"
    long = f"long database/{place.name}/{name}"
    bench.goal("database: a long queue, of a short one", long, against=short, at_least=0.7)


def _ours(url: str, count: int, number: int) -> Callable[[], Report]:
    return lambda: _drain(url, count, number, fill=True)


def _fill(url: str, count: int) -> None:
    with started(DATABASE, "enqueue", f"{url}&queue=in", "--count", str(count), "--size", str(SIZE)) as filler:
        filler.go()
        filler.report()


def _drain(url: str, count: int, number: int, *, fill: bool) -> Report:
    """Messages of ours, moved on by so many instances, each of which takes its share."""
    servers.empty(url, "out")
    _fill(url, count)
    with contextlib.ExitStack() as stack:
        command = ("drain", f"{url}&queue=in", "--out", f"{url}&queue=out", "--count", str(count // number))
        running = [stack.enter_context(started(DATABASE, *command)) for _ in range(number)]
        for each in running:
            each.go()
        return Shared([each.report() for each in running]).together


def _peer(peer: Peer, address: str, count: int) -> Callable[[], Report]:
    def turn() -> Report:
        with started(peer, "enqueue", address, "--count", str(count), "--size", str(SIZE)) as filler:
            filler.go()
            filler.report()
        with started(peer, "drain", address, "--count", str(count)) as mover:
            mover.go()
            return mover.report()

    return turn
