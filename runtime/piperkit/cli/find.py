"""Finding a message that somebody asks for, in a queue that goes on working meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from piperkit.cli import render
from piperkit.dirq.fs import display
from piperkit.dirq.layout import HOLDING, PROTOCOL, message_names
from piperkit.dirq.view import Entry, QueueView
from piperkit.errors import QueueError, QueueMissing


def open_view(queue: Path) -> QueueView:
    """What is in a queue. Raises QueueMissing, which says what is missing."""
    try:
        return QueueView(queue)
    except QueueMissing:
        shown = render.name(os.fspath(queue))
        if not queue.is_dir():
            raise QueueMissing(f"{shown} is not a queue: there is no such directory") from None
        missing = [part for part in PROTOCOL if not (queue / part).is_dir()]
        raise QueueMissing(f"{shown} is not a queue: it has no directory {', '.join(missing)}") from None


def read(view: QueueView, id: str) -> tuple[Entry, bytes]:
    """A message and its contents; it may move on between the two looks, so both are tried again."""
    for _ in range(5):
        entry = find(view, id)
        try:
            return entry, view.read(entry)
        except FileNotFoundError:
            continue
    raise QueueError(f"the message {render.name(id)} moves faster than it can be read; try again")


def find(view: QueueView, id: str) -> Entry:
    """The message of that id; or else the one whose id is shown like that, since not every id can be typed."""
    try:
        return view.find(id)
    except QueueError:
        for part in HOLDING:
            for name in message_names(view.path, part):
                if id in (display(name), render.name(name)):
                    return view.find(name)
        raise


def history(view: QueueView, entry: Entry, report: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The failed attempts; another program may have written the report, in its own way."""
    if entry.part == "errors":
        found = (report or {}).get("history")
        return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    try:
        return view.history(entry)
    except FileNotFoundError:
        return []  # it has moved on; we have its contents
