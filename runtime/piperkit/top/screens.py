"""The further screens of `piperctl top`: a queue's messages, its kinds of errors, one message; questions, and help."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import DataTable, Footer, Input, Static
from textual.worker import get_current_worker

from piperkit import engines
from piperkit.cli import finding, render
from piperkit.cli.hands import ACTS, Act, Listed, listed
from piperkit.cli.reasons import Kind, Kinds
from piperkit.errors import PiperError
from piperkit.operating import HOLDING, Entry

#: Messages of a part that are listed.
LISTED = 200
#: Times that a listing took for which the next one waits: it takes no more than so much of a processor.
_REUSE = 20.0
_EVERY = 2.0
#: Dead letters between two looks at what was found of them.
_TOGETHER = 2000

Doing = Callable[..., None]

_WORDS = {
    "requeue": "Have tried again",
    "hold": "Hold",
    "release": "Release",
    "banish": "Banish to errors",
    "rm": "Delete for good",
}
_ASKS_WHY = ("hold", "banish", "pause")


class Table(DataTable[Text]):
    """A table of rows, in which one moves as in htop, less and vi.

    Its keys are its own, not its screen's with priority: so they are taken in the order in which they were pressed.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Look into"),
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
        Binding("home,g", "scroll_top", show=False),
        Binding("end,G", "scroll_bottom", show=False),
    ]


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

    def __init__(self, queue: str, *, read_only: bool, act: Doing) -> None:
        super().__init__()
        self._queue = queue
        self._read_only = read_only
        self._act = act
        self._part = "incoming"
        self._entries: list[Entry] = []
        self._marked = set[Listed]()
        self._counts: dict[str, int] = {}

    def compose(self) -> ComposeResult:
        yield Static(_title(render.name(self._queue)), id="title")
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
        self.run_worker(self._list, thread=True, exclusive=True, group="list")

    def _list(self) -> None:
        """In a thread: list the part again and again, until another one is asked for."""
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
                self.app.call_from_thread(self._show, part, counts, entries, wrong)
            end = time.monotonic() + max(_EVERY, _REUSE * (time.monotonic() - began))
            while time.monotonic() < end and not worker.is_cancelled:
                time.sleep(0.05)

    def _show(self, part: str, counts: dict[str, int], entries: list[Entry], wrong: str) -> None:
        if part != self._part or not self.is_mounted:
            return
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
        self.app.push_screen(KindsScreen(self._queue, read_only=self._read_only, act=self._act))

    def action_mark(self) -> None:
        here = self._here()
        if here is not None:
            self._marked ^= {Listed.of(here)}
            self._fill()
            self._table.action_cursor_down()

    def action_mark_all(self) -> None:
        every = {*listed(self._entries)}
        self._marked = set() if every <= self._marked else every
        self._fill()

    def action_act(self, what: str) -> None:
        here = self._here()
        chosen = self._marked or ({Listed.of(here)} if here is not None else set())
        if not chosen or not _may_act(self, self._read_only):
            return
        if self._part not in ACTS[what][0]:
            self.notify(f"{what}: not what is in {self._part}, but in {', '.join(ACTS[what][0])}", severity="warning")
            return
        messages = render.number(len(chosen), "message") + f" of {render.name(engines.short_name(self._queue))}"
        act = Act(self._queue, what, tuple(sorted(chosen, key=lambda each: each.id)))
        self._act(act, f"{_WORDS[what]}: {messages}?", asks_why=what in _ASKS_WHY, done=self._done)

    def _done(self) -> None:
        self._marked.clear()
        if self.is_mounted:
            self._look()

    def action_help(self) -> None:
        self.app.push_screen(Help())


class KindsScreen(Screen[None]):
    """Why messages are in errors, by kind of reason."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "app.pop_screen", "Back"),
        Binding("r", "act('requeue')", "Requeue all of them"),
        Binding("d", "act('rm')", "Delete all of them"),
    ]

    def __init__(self, queue: str, *, read_only: bool, act: Doing) -> None:
        super().__init__()
        self._queue = queue
        self._read_only = read_only
        self._act = act
        self._kinds: list[Kind] = []

    def compose(self) -> ComposeResult:
        yield Static(_title(f"kinds of errors in {render.name(self._queue)}"), id="title")
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
        self.run_worker(self._count, thread=True, exclusive=True, group="kinds")

    def _count(self) -> None:
        """In a thread: of many, what was found until then is shown meanwhile."""
        worker = get_current_worker()
        kinds, seen = Kinds(), 0
        try:
            with contextlib.closing(engines.view(self._queue)) as view:
                for entry in view.each("errors"):
                    try:
                        kinds.add(entry, view.banished(entry))
                    except FileNotFoundError:
                        continue  # it has moved on
                    seen += 1
                    if worker.is_cancelled:
                        return
                    if seen % _TOGETHER == 0:
                        self.app.call_from_thread(self._show, kinds.sorted(), f"{seen} looked at …")
            said = f"{render.number(seen, 'message')} in errors"
        except (OSError, PiperError) as error:
            said = str(error)
        if not worker.is_cancelled:
            self.app.call_from_thread(self._show, kinds.sorted(), said)

    def _show(self, kinds: list[Kind], said: str) -> None:
        if not self.is_mounted:
            return
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
        if here is None or not _may_act(self, self._read_only):
            return
        question = f"{_WORDS[what]}: all that failed with: {render.text(here.reason)}?"
        self._act(Act(self._queue, what, kind=here.reason), question, asks_why=False, done=self._done)

    def _done(self) -> None:
        if self.is_mounted:
            self._look()


class MessageScreen(Screen[None]):
    """One message: what is known of it, and its contents."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "app.pop_screen", "Back", priority=True)]

    def __init__(self, queue: str, id: str) -> None:
        super().__init__()
        self._queue = queue
        self._message = id

    def compose(self) -> ComposeResult:
        yield Static(_title(render.name(self._message)), id="title")
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


def _title(text: str) -> Text:
    return Text(text, style="bold", no_wrap=True, overflow="ellipsis")


def _may_act(screen: Screen[Any], read_only: bool) -> bool:
    if read_only:
        screen.notify("This is read-only: start it without --read-only to act.", severity="warning")
    return not read_only


class Ask(ModalScreen[str | None]):
    """A question before something is done; the answer is why, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,n", "no", "No"), Binding("enter,y", "yes", "Yes")]

    def __init__(self, question: str, *, asks_why: bool) -> None:
        super().__init__()
        self._question = question
        self._asks_why = asks_why

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static(Text(self._question))
            if self._asks_why:
                yield Input(placeholder="why, for whoever asks; Enter does it, Escape does not", id="why")
            else:
                yield Static(Text("Enter or y does it, Escape or n does not", style="dim"))

    def action_yes(self) -> None:
        if not self._asks_why:
            self.dismiss("")

    def action_no(self) -> None:
        self.dismiss(None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)


HELP = """\
All queues
  Enter      look into the queue           p      pause it, or have it go on
  1 … 9, 0   sort by that column           i      the other way round
  /          only queues with that name    q      quit

A queue
  Tab        the next part                 Enter  show the message
  Space, a   mark one, or all that are listed; acts are on what is marked, or on the one
  r          have tried again              h, l   hold, and release
  b          banish to errors              d      delete
  e          kinds of errors

Arrows, PgUp, PgDn, Home, End and j, k move. Escape goes back.

WAIT is incoming, WORK what somebody works on, LATER what was put off. IN/s and OUT/s are messages
a second that arrived and were settled, LATELY is OUT/s at the last looks, WHO the instances.
"""


class Help(ModalScreen[None]):
    """What the keys do."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter,question_mark", "app.pop_screen", "Back")]

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="box"):
            yield Static(Text(HELP))
