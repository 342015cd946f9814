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
from typing import TYPE_CHECKING, Any

from piperkit.dirq.fs import display
from piperkit.operating import Entry

if TYPE_CHECKING:
    from rich.console import Console

#: Contents of which more than this is not shown, in bytes; --raw gives everything.
SHOWN_MAX = 4096
_HEX_MAX = 256
#: Bytes of contents that a screen or a page shows.
READABLE_MAX = 65536

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


def contents(data: bytes) -> None:
    """Print contents as text, JSON in colours where the terminal has them, or what they look like in hexadecimal; the
    beginning of what is long.
    """
    shown = data[:SHOWN_MAX]
    try:
        # Not to be final lets the cut go through a character.
        found = codecs.getincrementaldecoder("utf-8")().decode(shown, final=len(shown) == len(data))
    except UnicodeDecodeError:
        found = None
    if found is not None and not _UNSAFE.search(re.sub("[\t\r\n]", "", found)):
        seen = found.replace("\r", "\\r")
        if len(shown) == len(data) and sys.stdout.isatty() and _is_object(found):
            from rich.json import JSON

            console().print(JSON(found, ensure_ascii=False))
            return
    else:
        shown = data[:_HEX_MAX]
        seen = "\n".join(hex_lines(shown))
    more = len(data) - len(shown)
    print(seen + (f"\n... and {size(more)} more; --raw prints everything" if more else ""))


def hex_lines(data: bytes) -> list[str]:
    """A dump of bytes, a line for each sixteen."""
    return [_hex(at, data[at : at + 16]) for at in range(0, len(data), 16)]


def readable(data: bytes) -> str:
    """Contents as text: JSON in lines, what is not a text as a dump."""
    shown = data[:READABLE_MAX]
    more = f"\n… and {size(len(data) - len(shown))} more" if len(data) > len(shown) else ""
    try:
        value: Any = json.loads(data) if not more else None
        if isinstance(value, dict | list):
            shown = json.dumps(value, indent=2, ensure_ascii=False).encode(errors="backslashreplace")
    except (ValueError, RecursionError):
        pass
    try:
        found = shown.decode("utf-8", "strict" if not more else "ignore")
    except UnicodeDecodeError:
        return "\n".join(hex_lines(shown[:4096])) + more
    return "\n".join(text(line) for line in found.split("\n")) + more


def _hex(at: int, row: bytes) -> str:
    """A line of a dump: where it begins, the bytes, and what of them is text."""
    seen = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
    return f"{at:08x}  {row.hex(' '):47}  {seen}"


def _is_object(found: str) -> bool:
    try:
        return isinstance(json.loads(found), dict | list)
    except (ValueError, RecursionError):
        return False


def console() -> Console:
    """The terminal, for what rich prints."""
    from rich.console import Console

    # As it is: brackets in a reason are no markup, and colons no emoji. It keeps to NO_COLOR by itself.
    return Console(markup=False, emoji=False, highlight=False)
