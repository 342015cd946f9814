"""A real component: JSON in, a field added by orjson, JSON out, to an output queue.

What the runtime may add to it is a quarter of the component's own time and that of moving a message, together. The own
time is that of the same function in a loop, with nothing around it.
"""

from __future__ import annotations

from benchmarks.peers import ORIGINAL, OURS, PYTHON, Report, run
from benchmarks.places import Place, fill
from benchmarks.scenarios import Bench
from benchmarks.scenarios.drain import drain


def own(place: Place, count: int) -> Report:
    """The component's own work."""
    with place.workspace() as directory:
        fill(directory / "in", 1)
        (message,) = (directory / "in/incoming").iterdir()
        return run(OURS, "work", message, "--count", count)


def run_component(bench: Bench) -> None:
    for place in bench.places:
        contestants = {
            "component": lambda place=place: drain(OURS, place, bench.messages, "--work", "json", move=True),
            "own time": lambda place=place: own(place, bench.messages),
            "move": lambda place=place: drain(OURS, place, bench.messages, move=True),
        }
        for peer in bench.available(ORIGINAL, PYTHON):
            contestants[peer.name] = lambda place=place, peer=peer: drain(
                peer, place, bench.messages, "--work", "json", move=True
            )
        found = bench.turns("component", place.name, contestants)
        bench.add_rates("component", place.name, found)
        rounds = zip(found["component"], found["own time"], found["move"], strict=True)
        times = [1 / real.rate / (1 / alone.rate + 1 / move.rate) for real, alone, move in rounds]
        bench.add("component time", place.name, "of own and move", "x", times)
        bench.goal(
            "a component of JSON: of its own time and the move's",
            f"component time/{place.name}/of own and move",
            at_most=1.25,
        )
