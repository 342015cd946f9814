"""The table that a run prints."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from benchmarks.results import Goal, Results, Series, Spread


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(found: Spread) -> str:
    """Median, lowest and highest."""
    return f"{number(found.median)} ({number(found.low)} to {number(found.high)})"


def goal_row(results: Results, goal: Goal) -> list[str]:
    """One goal: what, where, value or ratio, ratio by processor time, bound, verdict."""
    series = results.find(goal.series)
    found = results.measured(goal)
    unit = " x" if goal.against else f" {series.unit}" if series else ""
    cpu = results.cpu_ratio(goal)
    return [
        goal.what,
        goal.series.split("/")[1],
        spread(found) + unit if found else "",
        f"{number(cpu)} x" if cpu else "",
        f"{'at most' if goal.bound.at_most else 'at least'} {number(goal.bound.limit)}{unit}",
        results.verdict(goal),
    ]


GOAL_HEADINGS = ["what", "where", "measured: median (lowest to highest)", "by CPU time", "to reach", "verdict"]


def series_row(series: Series) -> list[str]:
    """One series: scenario, where, who, values, processor time."""
    cpu = number(Spread.of(series.cpu).median) if series.cpu else ""
    return [series.scenario, series.place, series.contestant, f"{spread(series.spread)} {series.unit}", cpu]


SERIES_HEADINGS = ["scenario", "where", "who", "median (lowest to highest)", "CPU, us a message"]


def call_rows(results: Results) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: system calls of a message, a column for each peer and kind of work."""
    names = sorted({name for found in results.calls.values() for name in found})
    rows = [[name, *(_calls(found.get(name)) for found in results.calls.values())] for name in names]
    total = ["all", *(_calls(sum(found.values())) for found in results.calls.values())]
    return ["call", *results.calls], [*rows, total]


def _calls(count: float | None) -> str:
    return f"{count:.2f}".rstrip("0").rstrip(".") if count else ""


def show(results: Results, console: Console) -> None:
    """Print everything."""
    _table(console, "What is to be reached", GOAL_HEADINGS, [goal_row(results, goal) for goal in results.goals])
    _table(console, "What was measured", SERIES_HEADINGS, [series_row(each) for each in results.series])
    if results.calls:
        _table(console, "System calls of a message", *call_rows(results))


def _table(console: Console, title: str, headings: list[str], rows: list[list[str]]) -> None:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print()
