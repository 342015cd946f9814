"""The chart of the docs: bars for the rates of some scenarios, as an SVG that needs nothing else."""

from __future__ import annotations

from html import escape

from benchmarks.report import number
from benchmarks.results import Results, Series

#: What the chart shows, a panel for each: scenario, place, title.
PANELS = (
    ("delete", "tmpfs", "One daemon drains a queue: delete, tmpfs"),
    ("delete", "disk", "One daemon drains a queue: delete, disk"),
    ("move", "tmpfs", "Move to an output queue, tmpfs"),
    ("move", "disk", "Move to an output queue, disk"),
    ("instances", "tmpfs", "Several instances on one queue, tmpfs"),
)
WIDTH, LABEL, VALUE = 760, 150, 130
BAR, GAP, TITLE = 18, 6, 34
#: Ours stands out; the others are one grey.
OURS, OTHERS, SPREAD, TEXT = "#2f6fa8", "#b8bec6", "#30363d", "#1f2328"


def panels(results: Results) -> list[tuple[str, list[Series]]]:
    """Title and series of each panel for which there is something to show."""
    found = [
        (title, [each for each in results.series if (each.scenario, each.place) == (scenario, place)])
        for scenario, place, title in PANELS
    ]
    return [(title, series) for title, series in found if series]


def svg(results: Results) -> str:
    """The chart: each bar is a median, the line across its end reaches from the lowest to the highest round."""
    parts: list[str] = []
    top = GAP
    for title, series in panels(results):
        parts.append(_text(GAP, top + TITLE / 2 + 4, f"{title} ({series[0].unit})", weight="bold"))
        top += TITLE
        longest = max(each.spread.high for each in series)
        for each in series:
            parts.extend(_bar(each, top, longest))
            top += BAR + GAP
    size = f'viewBox="0 0 {WIDTH} {top + GAP}" width="{WIDTH}" height="{top + GAP}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13" role="img">'
    background = f'<rect width="{WIDTH}" height="{top + GAP}" fill="#ffffff"/>'
    return "\n".join([head, "<title>Messages a second</title>", background, *parts, "</svg>", ""])


def _bar(series: Series, top: float, longest: float) -> list[str]:
    scale = (WIDTH - LABEL - VALUE) / longest
    found = series.spread
    end, low, high = (LABEL + value * scale for value in (found.median, found.low, found.high))
    middle = top + BAR / 2
    colour = OURS if series.contestant.startswith("piperkit") else OTHERS
    return [
        _text(LABEL - 8, middle + 4, series.contestant, anchor="end"),
        f'<rect x="{LABEL}" y="{top}" width="{end - LABEL:.1f}" height="{BAR}" fill="{colour}"/>',
        f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="{SPREAD}" stroke-width="1.5"/>',
        _text(high + 8, middle + 4, number(found.median)),
    ]


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    style = f'fill="{TEXT}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
