"""Finding a message that somebody asks for, in a queue that goes on working meanwhile."""

from __future__ import annotations

from typing import Any

from piperkit.cli import render
from piperkit.dirq.fs import display
from piperkit.errors import QueueError
from piperkit.operating import HOLDING, Entry, View


def read(view: View, id: str) -> tuple[Entry, bytes]:
    """A message and its contents; it may move on between the two looks, so both are tried again."""
    for _ in range(5):
        entry = find(view, id)
        try:
            return entry, view.read(entry)
        except FileNotFoundError:
            continue
    raise QueueError(f"the message {render.name(id)} moves faster than it can be read; try again")


def find(view: View, id: str) -> Entry:
    """The message of that id; or else the one whose id is shown like that, since not every id can be typed."""
    try:
        return view.find(id)
    except QueueError:
        for part in HOLDING:
            for entry in view.each(part):
                if id in (display(entry.id), render.name(entry.id)):
                    return entry
        raise


def history(view: View, entry: Entry, report: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The failed attempts; another program may have written the report, in its own way."""
    if entry.part == "errors":
        found = (report or {}).get("history")
        return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    try:
        return view.history(entry)
    except FileNotFoundError:
        return []  # it has moved on; we have its contents
