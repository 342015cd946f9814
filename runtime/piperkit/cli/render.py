"""How sizes, ages and messages are shown."""

from __future__ import annotations

import datetime
import json
import time
from typing import Any

from rich.console import Console
from rich.table import Table

from piperkit.dirq.fs import display
from piperkit.dirq.view import Entry

#: Contents of which more than this is not shown, in bytes; --raw gives everything.
SHOWN_MAX = 4096


def size(number: int) -> str:
    """Bytes as people read them: 999 B, 1.2 KiB, 64 MiB."""
    value, units = float(number), iter(("B", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while value >= 1024 and unit != "TiB":
        value, unit = value / 1024, next(units)
    return f"{number} B" if unit == "B" else f"{value:.{1 if value < 10 else 0}f} {unit}"


def duration(seconds: float) -> str:
    """A length of time in its largest unit: 5 s, 3 min, 2 h, 4 d."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def moment(seconds: float | None) -> str | None:
    """ISO 8601 in UTC."""
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds")


def as_json(data: Any) -> None:
    """Print one JSON value on a line of its own."""
    print(json.dumps(data, default=str))


def facts(entry: Entry) -> dict[str, Any]:
    """A message as a program reads it."""
    return {
        "id": display(entry.id),
        "part": entry.part,
        "size": entry.size,
        "arrived": moment(entry.arrived),
        "attempts": entry.attempts,
        "due": moment(entry.due),
        "reason": entry.reason,
        "path": display(entry.path),
    }


def entries(found: list[Entry], left_out: int) -> None:
    """Print messages as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("PART", "ID"):
        table.add_column(heading, no_wrap=True)
    for heading in ("SIZE", "AGE", "ATTEMPTS", "DUE IN"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("REASON", overflow="fold")
    now = time.time()
    for entry in found:
        due = "" if entry.due is None else duration(max(0.0, entry.due - now))
        table.add_row(
            entry.part,
            display(entry.id),
            size(entry.size),
            duration(now - entry.arrived),
            str(entry.attempts or ""),
            due,
            entry.reason or "",
        )
    _print(table)
    if left_out:
        print(f"... and {left_out} more; --limit shows more of them")


def counts(rows: list[dict[str, Any]]) -> None:
    """Print the parts of queues as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("QUEUE", no_wrap=True)
    table.add_column("PART", no_wrap=True)
    for heading in ("MESSAGES", "SIZE", "OLDEST"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        for part, found in row["parts"].items():
            age = "" if found["oldest_age"] is None else duration(found["oldest_age"])
            table.add_row(display(row["queue"]), part, str(found["messages"]), size(found["size"]), age)
    _print(table)


def contents(data: bytes) -> str:
    """Contents as text, or what they look like in hexadecimal; the beginning of what is long."""
    shown = data[:SHOWN_MAX]
    try:
        text = data.decode()
        printable = all(each.isprintable() or each in "\r\n\t" for each in text)
    except UnicodeDecodeError:
        printable = False
    if printable:
        text = shown.decode(errors="ignore").replace("\r", "\\r")
    else:
        text = "\n".join(
            f"{offset:08x}  {shown[offset : offset + 16].hex(' ')}" for offset in range(0, min(len(shown), 256), 16)
        )
        shown = shown[:256]
    more = len(data) - len(shown)
    return text + (f"\n... and {size(more)} more; --raw prints everything" if more else "")


def _print(table: Table) -> None:
    # A program or a file on the other end gets whole lines, however long they are.
    console = Console()
    console = console if console.is_terminal else Console(width=1000)
    console.print(table, soft_wrap=not console.is_terminal)
