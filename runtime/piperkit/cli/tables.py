"""Messages, queues and daemons as tables, for people: each fits its terminal, and is whole for a program or a file."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from piperkit.cli import render
from piperkit.engines import short_name
from piperkit.errors import UsageError
from piperkit.operating import Entry

if TYPE_CHECKING:
    from rich.table import Table

    from piperkit.cli.reasons import Kind
    from piperkit.cli.shapes import Shape

_NO_WIDTH = 1 << 20
#: The least width of a column that may be folded.
_LAST_MIN = 20

#: What the table of messages can show.
COLUMNS = ("queue", "part", "id", "size", "age", "attempts", "due", "reason")
_SORTED: dict[str, Callable[[Entry], Any]] = {
    "part": lambda entry: entry.part,
    "id": lambda entry: entry.id,
    "size": lambda entry: entry.size,
    "age": lambda entry: -entry.arrived,
    "attempts": lambda entry: entry.attempts,
    "due": lambda entry: entry.due or 0.0,
    "reason": lambda entry: entry.reason or "",
}


def columns(given: str | None) -> tuple[str, ...] | None:
    """The columns that are asked for; None: those that are usual. Raises UsageError."""
    if given is None:
        return None
    found = tuple(each.strip() for each in given.split(","))
    for each in found:
        if each not in COLUMNS:
            raise UsageError(f"--columns {given}: {each or 'nothing'} is none of {', '.join(COLUMNS)}")
    return found


@dataclasses.dataclass(frozen=True)
class Order:
    """How messages are sorted."""

    key: Callable[[Entry], Any]
    downward: bool


def order(given: str | None) -> Order | None:
    """The order that is asked for. Raises UsageError."""
    if given is None:
        return None
    key = _SORTED.get(given.removeprefix("-"))
    if key is None:
        raise UsageError(f"--sort {given}: must be one of {', '.join(_SORTED)}, or -size and the like")
    return Order(key, given.startswith("-"))


def entries(found: list[tuple[str, Entry]], left_out: int, shown: tuple[str, ...] | None, *, several: bool) -> None:
    """Print messages, each with the path of its queue, as a table. several: they are of more than one."""
    now = time.time()
    rows = [
        {
            "queue": render.name(short_name(queue)),
            "part": entry.part,
            "id": render.name(entry.id),
            "size": render.size(entry.size),
            "age": render.duration(now - entry.arrived),
            "attempts": str(entry.attempts or ""),
            "due": "" if entry.due is None else render.duration(entry.due - now),
            "reason": render.text(entry.reason or ""),
        }
        for queue, entry in found
    ]
    if shown is None:
        usual = [each for each in COLUMNS if each != "queue" or several]
        shown = tuple(_fitting(usual, rows, ("attempts", "due", "size", "part", "queue", "age"), "reason"))
    table = _table()
    for each in shown:
        right = each in ("size", "age", "attempts", "due")
        heading = "DUE IN" if each == "due" else each.upper()
        folds = each in ("id", "reason")  # whole even where it is too long: an id that is cut cannot be used
        table.add_column(heading, justify="right" if right else "left", no_wrap=not folds, overflow="fold")
    for row in rows:
        table.add_row(*(row[each] for each in shown))
    show(table)
    if left_out:
        print(f"... and {left_out} more; --limit shows more of them")


def _fitting(columns: list[str], rows: list[dict[str, str]], dropped: tuple[str, ...], last: str) -> list[str]:
    """Those of the columns that the terminal has room for; of a program's table all.

    dropped: in this order, until the others fit. last: the one that is folded, and needs some room only.
    """
    width = render.console().width if sys.stdout.isatty() else _NO_WIDTH
    widths = {each: max([len(each) + 2, *(len(row[each]) for row in rows)]) for each in columns}
    widths[last] = min(widths[last], _LAST_MIN)
    kept = list(columns)
    for each in dropped:
        if sum(widths[column] + 2 for column in kept) - 2 <= width:
            break
        if each in kept:
            kept.remove(each)
    return kept


def reasons(kinds: list[Kind], others: int) -> Table:
    """Kinds of reasons as a table; others: messages of those that are not shown."""
    table = _table()
    for heading in ("MESSAGES", "FIRST", "LAST"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("REASON", overflow="fold")
    table.add_column("EXAMPLE", overflow="fold")
    now = time.time()
    for kind in kinds:
        ages = (f"{render.duration(now - moment)} ago" for moment in (kind.first, kind.last))
        table.add_row(str(kind.messages), *ages, render.text(kind.reason), render.name(kind.example))
    if others:
        table.caption = f"... and {render.number(others, 'message')} of other kinds; --limit shows more of them"
        table.caption_justify = "left"
    return table


def counts(rows: list[dict[str, Any]]) -> None:
    """Print the parts of queues as a table."""
    table = _table()
    table.add_column("QUEUE", overflow="fold")
    table.add_column("PART", no_wrap=True)
    for heading in ("MESSAGES", "SIZE", "OLDEST"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        for part, found in row["parts"].items():
            age = "" if found["oldest_age"] is None else render.duration(found["oldest_age"])
            table.add_row(render.text(row["queue"]), part, str(found["messages"]), render.size(found["size"]), age)
    show(table)
    for row in rows:
        if row["paused"] is not None:
            print(f"{render.text(row['queue'])}: {render.text(row['paused'])}")


def found(rows: list[dict[str, Any]]) -> None:
    """Print queues and who works on them as a table."""
    shown = []
    for row in rows:
        parts, there = row["parts"], row["instances"]
        who = "?" if there is None else ", ".join(map(_instance, there)) or "none"
        shown.append(
            {
                "QUEUE": render.name(short_name(row["queue"])),
                "WAIT": str(parts["incoming"]),
                "WORK": str(parts["pending"] + parts["outgoing"]),
                "PUT OFF": str(parts["deferred"]),
                "HELD": str(parts["hold"]),
                "ERRORS": str(parts["errors"]),
                "OLDEST": "" if row["oldest_age"] is None else render.duration(row["oldest_age"]),
                "IN/s": "" if row["in"] is None else f"{row['in']:g}",
                "OUT/s": "" if row["out"] is None else f"{row['out']:g}",
                "INSTANCES": render.text(who) + (" PAUSED" if row["paused"] else ""),
            }
        )
    table = _table()
    columns = _fitting(list(shown[0]), shown, ("WORK", "PUT OFF", "HELD", "IN/s", "OLDEST", "OUT/s"), "INSTANCES")
    for heading in columns:
        folds = heading in ("QUEUE", "INSTANCES")
        table.add_column(heading, justify="left" if folds else "right", no_wrap=not folds, overflow="fold")
    for cells in shown:
        table.add_row(*(cells[heading] for heading in columns))
    show(table)
    for row in rows:
        if row["paused"] is not None:
            print(f"{render.text(row['queue'])}: {render.text(row['paused'])}")


def daemons(rows: list[dict[str, Any]]) -> None:
    """Print the daemons of a pipeline as a table."""
    table = _table()
    table.add_column("DAEMON", overflow="fold")
    for heading in ("RUN", "WAIT", "ERRORS", "OLDEST"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("INSTANCES", overflow="fold")
    for row in rows:
        there = row["instances"]
        run = "?" if there is None else str(len(there))
        who = "only its owner and root can see" if there is None else ", ".join(map(_instance, there)) or "none"
        said = f" PAUSED: {row['paused']}" if row["paused"] else ""
        counts = ("" if row[key] is None else str(row[key]) for key in ("waits", "errors"))
        oldest = "" if row["oldest_age"] is None else render.duration(row["oldest_age"])
        shown = row["wrong"] or f"{who}{said}"
        table.add_row(render.name(row["daemon"]), f"{run}/{row['wanted']}", *counts, oldest, render.text(shown))
    show(table)


def _instance(each: dict[str, Any]) -> str:
    gone = "" if each.get("alive", True) else " (gone)"
    return f"{each['host']}:{each['pid']}{gone}"


def shape(found: Shape, what: str, limit: int) -> Table:
    """Messages by age and something else as a table, each row drawn by what there is of it; with as many columns of
    ages as the terminal has room for.
    """
    from piperkit.cli.shapes import BOUNDS

    rows = list(found.rows())
    first = max([12, *(min(30, len(render.text(name_))) for name_, _ in rows[:limit])])
    total = max(5, len(str(sum(sum(counts) for _, counts in rows))))
    width = render.console().width if sys.stdout.isatty() else _NO_WIDTH
    columns = {step: len(BOUNDS[step - 1 :: step]) + 2 for step in (1, 2, 4)}  # with the total, and what is older
    step = next((step for step, number in columns.items() if first + (total + 2) * number + 14 <= width), len(BOUNDS))
    table = _table()
    table.add_column(render.text(what.upper()), overflow="fold", min_width=min(first, 12))
    table.add_column("TOTAL", justify="right", no_wrap=True)
    for bound in BOUNDS[step - 1 :: step]:
        table.add_column(render.duration(bound).replace(" ", ""), justify="right", no_wrap=True)
    table.add_column("more", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    shown = [(name_, _merged(counts, step)) for name_, counts in rows]
    whole = [sum(column) for column in zip(*(counts for _, counts in shown), strict=True)]
    most = max((max(counts) for _, counts in shown), default=0)
    for name_, counts in [("all", whole), *shown[:limit]] if shown else []:
        cells = (str(each or "·") for each in counts)
        table.add_row(
            render.text(name_), str(sum(counts)), *cells, _drawn(counts, most if name_ != "all" else max(whole))
        )
    if len(rows) > limit:
        left = sum(sum(counts) for _, counts in rows[limit:])
        table.caption = f"... and {render.number(left, 'message')} in {render.number(len(rows) - limit, 'other row')}"
        table.caption_justify = "left"
    return table


def _merged(counts: list[int], step: int) -> list[int]:
    """Some columns in one; the last, of what is older than all, stays for itself, with what does not fill one."""
    ages, older = counts[:-1], counts[-1]
    whole = len(ages) // step * step
    return [*(sum(ages[at : at + step]) for at in range(0, whole, step)), older + sum(ages[whole:])]


def _drawn(counts: list[int], most: int) -> str:
    """A bar for each number."""
    bars = " ▁▂▃▄▅▆▇█"
    return "".join(bars[0 if not each else max(1, round(8 * each / most))] for each in counts)


def _table() -> Table:
    from rich.table import Table  # here: to import it takes longer than most commands

    return Table(box=None, pad_edge=False, header_style="bold")


def show(table: Table) -> None:
    """Print a table: it fits the terminal, and a program or a file gets whole lines, however long they are."""
    console = render.console()
    if not console.is_terminal:
        console.width = _NO_WIDTH
    console.print(table, soft_wrap=not console.is_terminal)
