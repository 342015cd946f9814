"""The scenarios: what the peers are made to do. Each module says what it measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from benchmarks.peers import Peer, Report
from benchmarks.places import Place
from benchmarks.results import Bound, Goal, Series
from benchmarks.rounds import alternate

Sample = TypeVar("Sample")


@dataclasses.dataclass
class Bench:
    """What a scenario is given, and where it puts what it finds.

    rounds: alternating rounds of each measurement.
    messages: how many are drained or enqueued in one.
    backlog: how many wait in the long queue.
    instances: how many share a queue, in turn.
    places: the file systems.
    alone: without the peers that have to be installed.
    """

    rounds: int
    messages: int
    backlog: int
    instances: tuple[int, ...]
    places: list[Place]
    alone: bool = False
    say: Callable[[str], None] = print
    series: list[Series] = dataclasses.field(default_factory=list)
    goals: list[Goal] = dataclasses.field(default_factory=list)
    calls: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)

    @property
    def few(self) -> int:
        """Where messages take very long, one in ten will do."""
        return max(1, self.messages // 10)

    def available(self, *peers: Peer) -> list[Peer]:
        """Those that are there and are to be measured."""
        return [peer for peer in peers if peer.available and not (self.alone and peer.installed)]

    def turns(
        self, scenario: str, place: str, contestants: Mapping[str, Callable[[], Sample]]
    ) -> dict[str, list[Sample]]:
        """Let each contestant have its turn in each round; returns their samples."""
        self.say(f"{scenario}, {place}: {', '.join(contestants)}")
        return alternate(contestants, self.rounds)

    def rates(self, scenario: str, place: str, contestants: Mapping[str, Callable[[], Report]]) -> None:
        """Messages a second of each contestant, in alternating rounds."""
        self.add_rates(scenario, place, self.turns(scenario, place, contestants))

    def add_rates(self, scenario: str, place: str, found: Mapping[str, list[Report]]) -> None:
        for name, reports in found.items():
            cpu = [report.cpu for report in reports]
            self.add(scenario, place, name, "messages/s", [report.rate for report in reports], cpu)

    def add(
        self, scenario: str, place: str, name: str, unit: str, values: list[float], cpu: list[float] | None = None
    ) -> None:
        """A series of values, of which six digits are more than a measurement can give."""
        kept = [[float(f"{value:.6g}") for value in found] for found in (values, cpu or [])]
        self.series.append(Series(scenario, place, name, unit, *kept))

    def goal(self, what: str, series: str, *, against: str | None = None, **bound: Any) -> None:
        """Something to reach: `at_least=LIMIT` or `at_most=LIMIT`, of a series or of its ratio to another."""
        ((kind, limit),) = bound.items()
        self.goals.append(Goal(what, series, Bound(limit, kind == "at_most"), against))
