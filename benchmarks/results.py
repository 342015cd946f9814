"""What a run has found: series of values, and what the runtime has to reach.

A series holds one value a round. A comparison divides two series round by round, so that what slows the whole machine
down for a while slows down both; its figure is the median of the ratios. A bound is reached if that median does.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Spread:
    """The median of some values, and how far they lie apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Raises ValueError where there are no values."""
        if not values:
            raise ValueError("no values")
        return cls(statistics.median(values), min(values), max(values))


@dataclasses.dataclass(frozen=True)
class Series:
    """What one contestant did in each round."""

    scenario: str
    place: str
    contestant: str
    unit: str
    values: list[float]
    cpu: list[float] = dataclasses.field(default_factory=list)  #: microseconds a message, where that means something

    @property
    def key(self) -> str:
        return f"{self.scenario}/{self.place}/{self.contestant}"

    @property
    def spread(self) -> Spread:
        return Spread.of(self.values)


@dataclasses.dataclass(frozen=True)
class Bound:
    """What is to be reached: `at least` or `at most` a limit."""

    limit: float
    at_most: bool = False

    def reached(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit


@dataclasses.dataclass(frozen=True)
class Goal:
    """One thing to reach: a value of a series, or its ratio to another series, and the bound."""

    what: str
    series: str  #: its key
    bound: Bound
    against: str | None = None  #: the key of the series that it is divided by; None: the value itself is bound


@dataclasses.dataclass(frozen=True)
class Results:
    """All that a run has found."""

    machine: dict[str, str]
    options: dict[str, object]
    series: list[Series]
    goals: list[Goal]
    calls: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)  #: system calls of a message, by peer

    def over(self, earlier: Results) -> Results:
        """These, and what an earlier run has found of other things; what both found is as it is here."""
        series = {each.key: each for each in (*earlier.series, *self.series)}
        goals = {(each.what, each.series): each for each in (*earlier.goals, *self.goals)}
        calls = earlier.calls | self.calls
        return Results(earlier.machine, self.options, [*series.values()], [*goals.values()], calls)

    def find(self, key: str) -> Series | None:
        return next((series for series in self.series if series.key == key), None)

    def measured(self, goal: Goal) -> Spread | None:
        """What is bound by a goal, or None where it was not measured."""
        ours = self.find(goal.series)
        if ours is None or not ours.values:
            return None
        if goal.against is None:
            return ours.spread
        other = self.find(goal.against)
        return None if other is None or not other.values else Spread.of(ratios(ours.values, other.values))

    def cpu_ratio(self, goal: Goal) -> float | None:
        """How much more processor time the other takes for a message: the ratio that a busy machine leaves alone."""
        ours = self.find(goal.series)
        other = self.find(goal.against) if goal.against else None
        if ours is None or other is None or not other.cpu or not ours.cpu or not all(ours.cpu):
            return None
        return statistics.median(ratios(other.cpu, ours.cpu))

    def verdict(self, goal: Goal) -> str:
        """`reached`, `not reached`, or `not measured`."""
        found = self.measured(goal)
        if found is None:
            return "not measured"
        return "reached" if goal.bound.reached(found.median) else "not reached"


def ratios(ours: Sequence[float], others: Sequence[float]) -> list[float]:
    """Round by round. Raises ValueError where the rounds are not as many."""
    return [mine / theirs for mine, theirs in zip(ours, others, strict=True)]


def to_json(results: Results) -> dict[str, object]:
    return dataclasses.asdict(results)


def from_json(found: dict[str, object]) -> Results:
    """The results that `to_json` has made. Raises KeyError or TypeError for anything else."""
    given: dict[str, list[dict[str, object]]] = found  # type: ignore[assignment]
    return Results(
        machine=found["machine"],  # type: ignore[arg-type]
        options=found["options"],  # type: ignore[arg-type]
        series=[Series(**each) for each in given["series"]],  # type: ignore[arg-type]
        goals=[Goal(**{**each, "bound": Bound(**each["bound"])}) for each in given["goals"]],  # type: ignore[arg-type, dict-item]
        calls=found["calls"],  # type: ignore[arg-type]
    )
