"""How sizes, ages and messages are shown.

Names, reasons and contents come from anywhere. For people they are shown so that none of them can give orders to a
terminal or break a line; for programs as JSON, where a name's bytes that are not UTF-8 are written \\xNN.
"""

from __future__ import annotations

import codecs
import datetime
import json
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any

from piperkit.dirq.fs import display
from piperkit.dirq.view import Entry

if TYPE_CHECKING:
    from rich.table import Table

    from piperkit.cli.reasons import Kind

#: Contents of which more than this is not shown, in bytes; --raw gives everything.
SHOWN_MAX = 4096
_HEX_MAX = 256
_NO_WIDTH = 1 << 20

#: Control characters, line ends and the marks that turn the direction of writing; halves of surrogate pairs.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def text(value: str) -> str:
    """Text for one line of a terminal: what could do harm there is written as \\xNN or \\uNNNN."""

    def escaped(found: re.Match[str]) -> str:
        code = ord(found[0])
        if 0xDC80 <= code <= 0xDCFF:
            code -= 0xDC00  # a byte that is not UTF-8, as os.fsdecode gives it
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    return _UNSAFE.sub(escaped, value)


def name(value: str) -> str:
    """A file name for people."""
    return text(display(value))


def reason(error: OSError) -> str:
    """What the system said, and of which file."""
    said = error.strerror or str(error)
    return text(f"{display(os.fspath(error.filename))}: {said}" if isinstance(error.filename, str) else said)


def number(count: int, word: str) -> str:
    """A count with its word: 1 message, 2 messages."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def size(length: int) -> str:
    """Bytes as people read them: 999 B, 1.2 KiB, 64 MiB."""
    value, units = float(length), iter(("B", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while value >= 1024 and unit != "TiB":
        value, unit = value / 1024, next(units)
    return f"{length} B" if unit == "B" else f"{value:.{1 if value < 10 else 0}f} {unit}"


def duration(seconds: float) -> str:
    """A length of time in its largest unit: 5 s, 3 min, 2 h, 4 d; none where the clock was set back meanwhile."""
    seconds = max(0.0, seconds)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def moment(seconds: float | None) -> str | None:
    """ISO 8601 in UTC; None also for a time that has no date there, as a file's can be after the year 9999."""
    if seconds is None:
        return None
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return None


def as_json(data: Any) -> None:
    """Print one JSON value on a line of its own."""
    print(json.dumps(data, default=str))


def end_output() -> None:
    """Send what is still written to standard output nowhere; Python would fail on it once more when it ends."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
    table = _table()
    for heading in ("PART", "ID"):
        table.add_column(heading, no_wrap=True)
    for heading in ("SIZE", "AGE", "ATTEMPTS", "DUE IN"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("REASON", overflow="fold")
    now = time.time()
    for entry in found:
        due = "" if entry.due is None else duration(entry.due - now)
        table.add_row(
            entry.part,
            name(entry.id),
            size(entry.size),
            duration(now - entry.arrived),
            str(entry.attempts or ""),
            due,
            text(entry.reason or ""),
        )
    _print(table)
    if left_out:
        print(f"... and {left_out} more; --limit shows more of them")


def reasons(kinds: list[Kind], others: int) -> None:
    """Print kinds of reasons as a table; others: messages of those that are not shown."""
    table = _table()
    for heading in ("MESSAGES", "FIRST", "LAST"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("REASON", overflow="fold")
    table.add_column("EXAMPLE", overflow="fold")
    now = time.time()
    for kind in kinds:
        ages = (f"{duration(now - moment)} ago" for moment in (kind.first, kind.last))
        table.add_row(str(kind.messages), *ages, text(kind.reason), name(kind.example))
    _print(table)
    if others:
        print(f"... and {number(others, 'message')} of other kinds; --limit shows more of them")


def counts(rows: list[dict[str, Any]]) -> None:
    """Print the parts of queues as a table."""
    table = _table()
    table.add_column("QUEUE", no_wrap=True)
    table.add_column("PART", no_wrap=True)
    for heading in ("MESSAGES", "SIZE", "OLDEST"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        for part, found in row["parts"].items():
            age = "" if found["oldest_age"] is None else duration(found["oldest_age"])
            table.add_row(text(row["queue"]), part, str(found["messages"]), size(found["size"]), age)
    _print(table)


def contents(data: bytes) -> str:
    """Contents as text, or what they look like in hexadecimal; the beginning of what is long."""
    shown = data[:SHOWN_MAX]
    try:
        # Not to be final lets the cut go through a character.
        found = codecs.getincrementaldecoder("utf-8")().decode(shown, final=len(shown) == len(data))
    except UnicodeDecodeError:
        found = None
    if found is not None and not _UNSAFE.search(re.sub("[\t\r\n]", "", found)):
        seen = found.replace("\r", "\\r")
    else:
        shown = data[:_HEX_MAX]
        seen = "\n".join(f"{at:08x}  {shown[at : at + 16].hex(' ')}" for at in range(0, len(shown), 16))
    more = len(data) - len(shown)
    return seen + (f"\n... and {size(more)} more; --raw prints everything" if more else "")


def _table() -> Table:
    from rich.table import Table  # here: to import it takes longer than most commands

    return Table(box=None, pad_edge=False, header_style="bold")


def _print(table: Table) -> None:
    from rich.console import Console

    # As it is: brackets in a reason are no markup, and colons no emoji.
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _NO_WIDTH  # a program or a file gets whole lines, however long they are
    console.print(table, soft_wrap=not console.is_terminal)
