"""One message: what is known of it, and its contents, as text that no terminal obeys."""

from __future__ import annotations

import contextlib
import time
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static

from piperkit import engines
from piperkit.cli import finding, render
from piperkit.errors import PiperError
from piperkit.top.parts import heading


class MessageScreen(Screen[None]):
    """One message: what is known of it, and its contents."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "app.pop_screen", "Back", priority=True)]

    def __init__(self, queue: str, id: str) -> None:
        super().__init__()
        self._queue = queue
        self._message = id

    def compose(self) -> ComposeResult:
        yield Static(heading(render.name(self._message)), id="title")
        yield Static("", id="facts")
        with VerticalScroll(id="contents"):
            yield Static("", id="text")
        yield Footer()

    def on_mount(self) -> None:
        facts, text = about(self._queue, self._message)
        self.query_one("#facts", Static).update(Text(facts))
        self.query_one("#text", Static).update(Text(text))
        self.query_one("#contents").focus()


def about(queue: str, id: str) -> tuple[str, str]:
    """What is known of a message, and its contents, as text that no terminal obeys."""
    try:
        with contextlib.closing(engines.view(queue)) as view:
            entry, data = finding.read(view, id)
            history = finding.history(view, entry, view.report(entry) if entry.part == "errors" else None)
    except (OSError, PiperError) as error:
        return render.text(str(error)), ""
    age = render.duration(time.time() - entry.arrived)
    lines = [f"{entry.part}, {render.size(entry.size)}, arrived {age} ago, {entry.attempts} failed attempts"]
    lines += [f"reason: {render.text(entry.reason)}"] if entry.reason else []
    for each in history:
        lines.append(f"  {render.text(str(each.get('time', '')))}  {render.text(str(each.get('reason', '')))}")
    return "\n".join(lines), render.readable(data)
