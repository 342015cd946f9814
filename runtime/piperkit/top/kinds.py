"""Why messages of a queue are in errors, by kind of reason."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Footer, Static
from textual.worker import get_current_worker

from piperkit import engines
from piperkit.cli import render, selecting
from piperkit.cli.hands import Act
from piperkit.cli.reasons import Kind, Kinds
from piperkit.errors import PiperError
from piperkit.selection import Selection
from piperkit.top.message import MessageScreen
from piperkit.top.parts import WORDS, Doing, Table, heading

#: Dead letters between two looks at what was found of them.
_TOGETHER = 2000


class KindsScreen(Screen[None]):
    """Why messages are in errors, by kind of reason."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "app.pop_screen", "Back"),
        Binding("r", "act('requeue')", "Requeue all of them"),
        Binding("d", "act('rm')", "Delete all of them"),
    ]

    def __init__(self, queue: str, act: Doing) -> None:
        super().__init__()
        self._queue = queue
        self._act = act
        self._kinds: list[Kind] = []

    def compose(self) -> ComposeResult:
        yield Static(heading(f"kinds of errors in {render.name(self._queue)}"), id="title")
        yield Static("looking …", id="parts")
        yield Table(cursor_type="row", id="kinds")
        yield Footer()

    def on_mount(self) -> None:
        table = self._table
        for name in ("MESSAGES", "FIRST", "LAST"):
            table.add_column(Text(name, justify="right"))
        table.add_column("REASON")
        table.focus()
        self._look()

    @property
    def _table(self) -> Table:
        return self.query_one("#kinds", Table)

    def _look(self) -> None:
        self.run_worker(partial(self._count, self.app), thread=True, exclusive=True, group="kinds")

    def _count(self, app: App[object]) -> None:
        """In a thread: of many, what was found until then is shown meanwhile.

        app: the screen may have gone meanwhile, and knows it no more.
        """
        worker = get_current_worker()
        kinds, seen = Kinds(), 0
        try:
            with contextlib.closing(engines.view(self._queue)) as view:
                for entry, moment in selecting.banished(view, Selection()):
                    kinds.add(entry, moment)
                    seen += 1
                    if worker.is_cancelled:
                        return
                    if seen % _TOGETHER == 0:
                        app.call_from_thread(self._show, kinds.sorted(), f"{seen} looked at …")
            said = f"{render.number(seen, 'message')} in errors"
        except (OSError, PiperError) as error:
            said = str(error)
        if not worker.is_cancelled:
            app.call_from_thread(self._show, kinds.sorted(), said)

    def _show(self, kinds: list[Kind], said: str) -> None:
        if not self.query("#parts"):
            return  # it is not shown any more
        table, now = self._table, time.time()
        row = table.cursor_row
        self._kinds = kinds
        self.query_one("#parts", Static).update(Text(render.text(said)))
        table.clear()
        for kind in kinds:
            ages = (Text(f"{render.duration(now - at)} ago", justify="right") for at in (kind.first, kind.last))
            table.add_row(Text(str(kind.messages), justify="right"), *ages, Text(render.text(kind.reason)))
        if kinds:
            table.move_cursor(row=min(row, len(kinds) - 1), animate=False)

    def _here(self) -> Kind | None:
        return self._kinds[self._table.cursor_row] if self._kinds else None

    def on_data_table_row_selected(self) -> None:
        here = self._here()
        if here is not None:
            self.app.push_screen(MessageScreen(self._queue, here.example))

    def action_act(self, what: str) -> None:
        here = self._here()
        if here is None:
            return
        question = f"{WORDS[what]}: all that failed with: {render.text(here.reason)}?"
        self._act(Act(self._queue, what, kind=here.reason), question, asks_why=False, done=self._done)

    def _done(self) -> None:
        if self.is_attached:
            self._look()
