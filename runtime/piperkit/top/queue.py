"""One queue: its messages, by part, and what is done with them."""

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
from piperkit.cli import render
from piperkit.cli.acts import ACTS
from piperkit.cli.hands import Act, Listed
from piperkit.errors import PiperError
from piperkit.operating import HOLDING, Entry
from piperkit.top.kinds import KindsScreen
from piperkit.top.message import MessageScreen
from piperkit.top.parts import ASKS_WHY, WORDS, Doing, Help, Table, heading

#: Messages of a part that are listed.
LISTED = 200
#: Times that a listing took for which the next one waits: it takes no more than so much of a processor.
_REUSE = 20.0
_EVERY = 2.0


class Messages(Table):
    """The messages of a part; Tab shows the next one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "screen.part(1)", "Part"),
        Binding("shift+tab", "screen.part(-1)", show=False),
    ]


class QueueScreen(Screen[None]):
    """The messages of a queue, by part."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "app.pop_screen", "Back"),
        Binding("space", "mark", "Mark"),
        Binding("a", "mark_all", "All"),
        Binding("e", "kinds", "Error kinds"),
        Binding("r", "act('requeue')", "Requeue"),
        Binding("h", "act('hold')", "Hold"),
        Binding("l", "act('release')", "Release"),
        Binding("b", "act('banish')", "Banish"),
        Binding("d", "act('rm')", "Delete"),
        Binding("question_mark", "help", "Help"),
    ]

    def __init__(self, queue: str, act: Doing) -> None:
        super().__init__()
        self._queue = queue
        self._act = act
        self._part = "incoming"
        self._entries: list[Entry] = []
        self._marked = set[Listed]()
        self._counts: dict[str, int] = {}

    def compose(self) -> ComposeResult:
        yield Static(heading(render.name(self._queue)), id="title")
        yield Static("", id="parts")
        yield Messages(cursor_type="row", id="messages")
        yield Footer()

    def on_mount(self) -> None:
        table = self._table
        for name, right in (
            ("", False),
            ("ID", False),
            ("SIZE", True),
            ("AGE", True),
            ("TRIED", True),
            ("REASON", False),
        ):
            table.add_column(Text(name, justify="right" if right else "left"))
        table.focus()
        self._look()

    @property
    def _table(self) -> Table:
        return self.query_one("#messages", Table)

    def _look(self) -> None:
        self.run_worker(partial(self._list, self.app), thread=True, exclusive=True, group="list")

    def _list(self, app: App[object]) -> None:
        """In a thread: list the part again and again, until another one is asked for.

        app: the screen may have gone meanwhile, and knows it no more.
        """
        worker = get_current_worker()
        while not worker.is_cancelled:
            began, part = time.monotonic(), self._part
            try:
                with contextlib.closing(engines.view(self._queue)) as view:
                    counts = view.counts()
                    entries, _ = view.oldest(part, LISTED)
                wrong = ""
            except (OSError, PiperError) as error:
                counts, entries, wrong = {}, [], str(error)
            if not worker.is_cancelled:
                app.call_from_thread(self._show, part, counts, entries, wrong)
            end = time.monotonic() + max(_EVERY, _REUSE * (time.monotonic() - began))
            while time.monotonic() < end and not worker.is_cancelled:
                time.sleep(0.05)

    def _show(self, part: str, counts: dict[str, int], entries: list[Entry], wrong: str) -> None:
        if part != self._part or not self.query("#parts"):
            return  # another one is shown now, or none
        self._counts, self._entries = counts, entries
        head = Text(no_wrap=True, overflow="ellipsis")
        for each in HOLDING:
            head.append(f" {each} {counts.get(each, 0)} ", style="reverse" if each == part else "")
        if wrong:
            head = Text(render.text(wrong), style="red")
        self.query_one("#parts", Static).update(head)
        self._fill()

    def _fill(self) -> None:
        table, now = self._table, time.time()
        row = table.cursor_row
        here = self._here()
        table.clear()
        for entry in self._entries:
            mark = "*" if Listed.of(entry) in self._marked else " "
            table.add_row(
                Text(mark),
                Text(render.name(entry.id)),
                Text(render.size(entry.size), justify="right"),
                Text(render.duration(now - entry.arrived), justify="right"),
                Text(str(entry.attempts or ""), justify="right"),
                Text(render.text(entry.reason or "")),
                key=entry.id,
            )
        if here is not None and any(entry.id == here.id for entry in self._entries):
            table.move_cursor(row=table.get_row_index(here.id), animate=False)
        elif self._entries:
            table.move_cursor(row=min(row, len(self._entries) - 1), animate=False)

    def _here(self) -> Entry | None:
        table = self._table
        if not table.row_count:
            return None
        id = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
        return next((entry for entry in self._entries if entry.id == id), None)

    # -- what keys do ----------------------------------------------------------------------------------------

    def action_part(self, step: int) -> None:
        self._part = HOLDING[(HOLDING.index(self._part) + step) % len(HOLDING)]
        self._marked.clear()
        self._entries = []
        self._show(self._part, self._counts, [], "")
        self._look()

    def on_data_table_row_selected(self) -> None:
        here = self._here()
        if here is not None:
            self.app.push_screen(MessageScreen(self._queue, here.id))

    def action_kinds(self) -> None:
        self.app.push_screen(KindsScreen(self._queue, self._act))

    def action_mark(self) -> None:
        here = self._here()
        if here is not None:
            self._marked ^= {Listed.of(here)}
            self._fill()
            self._table.action_cursor_down()

    def action_mark_all(self) -> None:
        every = {*map(Listed.of, self._entries)}
        self._marked = set() if every <= self._marked else every
        self._fill()

    def action_act(self, what: str) -> None:
        here = self._here()
        chosen = self._marked or ({Listed.of(here)} if here is not None else set())
        if not chosen:
            return
        if self._part not in ACTS[what].parts:
            self.notify(
                f"{what}: not what is in {self._part}, but in {', '.join(ACTS[what].parts)}", severity="warning"
            )
            return
        messages = render.number(len(chosen), "message") + f" of {render.name(engines.short_name(self._queue))}"
        act = Act(self._queue, what, tuple(sorted(chosen, key=lambda each: each.id)))
        self._act(act, f"{WORDS[what]}: {messages}?", asks_why=what in ASKS_WHY, done=self._done)

    def _done(self) -> None:
        self._marked.clear()
        if self.is_attached:
            self._look()

    def action_help(self) -> None:
        self.app.push_screen(Help())
