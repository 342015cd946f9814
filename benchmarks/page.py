"""`make bench-docs`: the figures of docs/performance.md, from docs/performance.json.

The page's prose is written by hand and names no figure; what stands between `<!-- NAME -->` and `<!-- end -->` is made
here. A test holds that page and JSON agree.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import chart, report, sizing
from benchmarks.report import number, spread
from benchmarks.results import Results, from_json

DOCS = Path(__file__).parents[1] / "docs"
PAGE, DATA, CHART = DOCS / "performance.md", DOCS / "performance.json", DOCS / "performance.svg"
NOT_MEASURED = "Not measured."
_BLOCK = re.compile(r"<!-- ([\w-]+) -->\n.*?<!-- end -->", re.DOTALL)


def render(page: str, results: Results) -> str:
    """The page with every block made anew. Raises KeyError for a block that nothing here makes."""
    return _BLOCK.sub(lambda found: f"<!-- {found[1]} -->\n{BLOCKS[found[1]](results)}\n<!-- end -->", page)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _machine(results: Results) -> str:
    machine = "; ".join(f"{key} {value}" for key, value in results.machine.items())
    options = ", ".join(f"{value:,} {key}" for key, value in results.options.items() if isinstance(value, int))
    return f"Measured on: {machine}. {options}."


def _goals(results: Results) -> str:
    return table(report.GOAL_HEADINGS, [report.goal_row(results, goal) for goal in results.goals])


def _rates(scenario: str) -> Callable[[Results], str]:
    """A table of one scenario: who, and at each place the rate and the processor time."""

    def block(results: Results) -> str:
        series = [each for each in results.series if each.scenario == scenario]
        if not series:
            return NOT_MEASURED
        return table(report.SERIES_HEADINGS[1:], [report.series_row(each)[1:] for each in series])

    return block


def _floors(results: Results) -> str:
    """Messages a second and processor's time of the daemons and of the floors beneath them."""
    found = [each for each in results.series if each.scenario in ("delete", "move", "component")]
    return table(report.SERIES_HEADINGS, [report.series_row(each) for each in found])


def _calls(results: Results) -> str:
    headings, rows = report.call_rows(results)
    return table(headings, [[f"`{name}`" if name != "all" else name, *cells] for name, *cells in rows])


def _instances(results: Results) -> str:
    """How rate, shares and failed claims change with the number of instances."""
    rows = []
    for series in (each for each in results.series if each.scenario == "instances"):
        peer, _, _ = series.contestant.rpartition(" x ")
        one = results.find(f"instances/{series.place}/{peer} x 1")
        shares = results.find(f"shares/{series.place}/{series.contestant}")
        failed = results.find(f"failed claims/{series.place}/{series.contestant}")
        rows.append(
            [
                series.place,
                series.contestant,
                f"{spread(series.spread)} {series.unit}",
                f"{number(series.spread.median / one.spread.median)} x" if one else "",
                f"{number(shares.spread.median)} x" if shares else "",
                number(failed.spread.median) if failed else "",
            ]
        )
    headings = ["where", "instances", "together", "of one", "largest of smallest share", "failed claims a message"]
    return table(headings, rows)


def _backlog(results: Results) -> str:
    """Rate, first message and memory, with many messages waiting and with few."""
    rows = []
    for series in (each for each in results.series if each.scenario == "backlog"):
        peer = series.contestant.partition(",")[0]
        first = results.find(f"backlog first/{series.place}/{series.contestant}")
        memory = results.find(f"backlog memory/{series.place}/{peer}") if series.contestant.endswith("long") else None
        rows.append(
            [
                series.place,
                series.contestant,
                f"{spread(series.spread)} {series.unit}",
                f"{number(first.spread.median)} {first.unit}" if first else "",
                f"{number(memory.spread.median)} {memory.unit}" if memory else "",
            ]
        )
    return table(["where", "who", "rate from the first message on", "first message after", "memory on top"], rows)


def _aside(results: Results) -> str:
    """Rate, and what else was measured, beside many messages that are set aside and beside none."""
    headings = {"latency": "one by one", "start": "CPU time of the start", "memory": "memory on top"}
    rows = []
    for series in (each for each in results.series if each.scenario == "aside"):
        found = [results.find(f"aside {what}/{series.place}/{series.contestant}") for what in headings]
        more = [f"{number(each.spread.median)} {each.unit}" if each else "" for each in found]
        rows.append([series.place, series.contestant, f"{spread(series.spread)} {series.unit}", *more])
    return table(["where", "beside", "at once", *headings.values()], rows) if rows else NOT_MEASURED


def _sizing(results: Results) -> str:
    model = sizing.Model.of(results)
    if model is None:
        return NOT_MEASURED
    lines = [
        f"*c* is {number(model.cpu)} us, *w* is {number(model.wait)} us: "
        f"{model.instances_a_core} instances keep a core busy. Messages per second, with enough instances:",
        "",
        table(*sizing.guide(model)),
        "",
        "Several instances of one daemon on this machine, with `queue_sync=batch` on one disk:",
        "",
        table(*sizing.check(model, results)),
    ]
    return "\n".join(lines)


def _waits(results: Results) -> str:
    """What a message waits for the disk: time that no processor works."""
    rows = []
    for series in (each for each in results.series if each.scenario in ("sync", "enqueue durable")):
        if series.place == "disk" and series.cpu:
            whole, cpu = 1e6 / series.spread.median, statistics.median(series.cpu)
            what = f"drain, {series.contestant}" if series.scenario == "sync" else f"enqueue, {series.contestant}"
            rows.append([what, number(whole), number(cpu), number(max(0.0, whole - cpu))])
    return table(["work", "us a message", "of it CPU", "of it waiting"], rows)


BLOCKS: dict[str, Callable[[Results], str]] = {
    "machine": _machine,
    "goals": _goals,
    "floors": _floors,
    "calls": _calls,
    "others": _rates("others"),
    "library": _rates("library"),
    "instances": _instances,
    "backlog": _backlog,
    "aside": _aside,
    "sizes": _rates("sizes"),
    "waits": _waits,
    "sizing": _sizing,
}


def main() -> int:
    results = from_json(json.loads(DATA.read_text()))
    PAGE.write_text(render(PAGE.read_text(), results))
    CHART.write_text(chart.svg(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
