"""The first screen of `piperctl top`: all queues, what flows between them, and what is wrong."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from piperkit.cli import hands, render
from piperkit.cli.hands import Act
from piperkit.errors import PiperError
from piperkit.feed import Feed, Moment
from piperkit.operating import View
from piperkit.overview import QueueState
from piperkit.pipeline.graph import Graph
from piperkit.top.parts import Ask, Help, Table
from piperkit.top.queue import QueueScreen

_BARS = " ▁▂▃▄▅▆▇█"


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column of the table of queues."""

    name: str
    key: Callable[[QueueState], Any]  #: what it is sorted by
    right: bool = True


COLUMNS = (
    Column("QUEUE", lambda state: state.name, right=False),
    Column("WAIT", lambda state: state.waits),
    Column("WORK", lambda state: state.works),
    Column("LATER", lambda state: state.parts.get("deferred", 0)),
    Column("HELD", lambda state: state.parts.get("hold", 0)),
    Column("ERRORS", lambda state: state.failed),
    Column("OLDEST", lambda state: state.oldest or 0.0),
    Column("IN/s", lambda state: state.came or 0.0),
    Column("OUT/s", lambda state: state.went or 0.0),
    Column("WHO", lambda state: len(state.alive or ())),
)


class Overall(Screen[None]):
    """All queues."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "Pause/resume"),
        Binding("slash", "filter", "Filter"),
        Binding("i", "invert", "Invert"),
        Binding("question_mark", "help", "Help"),
        Binding("q,f10", "app.quit", "Quit"),
        *(Binding(str(number), f"sort({number})", show=False) for number in range(10)),
    ]

    def __init__(self, feed: Feed, title: str) -> None:
        super().__init__()
        self._feed = feed
        self._heading = title
        self._sorted = 0
        self._inverted = False
        self._wanted = ""
        self._moment: Moment | None = None
        self._ready = False

    def compose(self) -> ComposeResult:
        yield Static("", id="title")
        yield Static("looking …", id="graph")
        yield Table(cursor_type="row", id="queues")
        yield Input(placeholder="a part of a queue's name", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        table = self._table
        for number, column in enumerate(COLUMNS):
            table.add_column(Text(column.name, justify="right" if column.right else "left"), key=str(number))
        table.add_column("LATELY", key="lately")
        self.query_one("#filter").display = False
        table.focus()
        self._ready = True
        if self._moment is not None:
            self.show(self._moment)

    @property
    def _table(self) -> Table:
        return self.query_one("#queues", Table)

    def show(self, moment: Moment) -> None:
        """A look was taken."""
        self._moment = moment
        if not self._ready or not self.query("#title"):
            return  # its columns are not there yet, or it is gone
        clock = time.strftime("%H:%M:%S", time.localtime(moment.at))
        head = Text(
            f"{clock}  {moment.waits} wait, {moment.failed} in errors  ",
            style="bold",
            no_wrap=True,
            overflow="ellipsis",
        )
        head.append(self._heading)
        if moment.wrong:
            head.append(f"  no rates: {render.text(moment.wrong)}", style="red")
        self.query_one("#title", Static).update(head)
        self._draw(moment)
        self._fill(moment)

    def _draw(self, moment: Moment) -> None:
        widget = self.query_one("#graph", Static)
        if self._feed.graph is None:
            widget.display = False
            return
        text = Text(no_wrap=True, overflow="ellipsis")
        for line in self._feed.drawn(moment).split("\n"):
            text.append(line + "\n", style="red" if "(paused" in line or "nobody)" in line else "")
        text.rstrip()
        widget.update(text)

    def _fill(self, moment: Moment) -> None:
        table = self._table
        at = self._here()
        column = COLUMNS[self._sorted]
        states = [state for state in moment.states if self._wanted in state.name]
        downward = self._inverted != (self._sorted > 0)  # what is most comes first
        states.sort(key=lambda state: (column.key(state), state.name), reverse=downward)
        table.clear()
        for state in states:
            table.add_row(*self._cells(state), key=state.queue)
        if at is not None and any(state.queue == at for state in states):
            table.move_cursor(row=table.get_row_index(at), animate=False)

    def _cells(self, state: QueueState) -> list[Text]:
        if state.wrong:
            blanks = [Text("")] * (len(COLUMNS) - 1)
            return [Text(render.name(state.name), style="red"), *blanks, Text(render.text(state.wrong), style="red")]
        who = "?" if state.alive is None else str(len(state.alive))
        colour = {"critical": "red", "warning": "yellow"}.get(state.lateness, "")
        cells = {
            "QUEUE": Text(render.name(state.name), style="bold"),
            "ERRORS": Text(str(state.failed or ""), style="red"),
            "OLDEST": Text("" if state.oldest is None else render.duration(state.oldest), style=colour),
            "IN/s": Text("" if state.came is None else f"{state.came:g}"),
            "OUT/s": Text("" if state.went is None else f"{state.went:g}"),
            "WHO": Text(who, style="red" if who == "0" else ""),
        }
        found = []
        for column in COLUMNS:
            cell = cells.get(column.name) or Text(str(column.key(state) or ""))
            cell.justify = "right" if column.right else "left"
            found.append(cell)
        lately = Text(_sparks([*self._feed.lately.get(state.queue, ())]), style="green")
        if state.paused is not None:
            lately = Text(f"PAUSED {render.text(str(state.paused))}", style="yellow")
        return [*found, lately]

    def _here(self) -> str | None:
        """The queue that the cursor is on."""
        table = self._table
        if not table.row_count:
            return None
        return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value

    # -- what keys do ----------------------------------------------------------------------------------------

    def on_input_submitted(self) -> None:
        self._end_filter()

    def on_data_table_row_selected(self) -> None:
        queue = self._here()
        if queue is not None:
            self.app.push_screen(QueueScreen(queue, self._top.act))

    def action_pause(self) -> None:
        queue = self._here()
        state = None if queue is None or self._moment is None else self._moment.state(queue)
        if queue is None or state is None:
            return
        name = render.name(state.name)
        if state.paused is not None:
            self._top.act(Act(queue, "resume"), f"Have {name} go on?", asks_why=False)
        else:
            self._top.act(Act(queue, "pause"), f"Pause {name}: nothing is claimed until it is resumed.", asks_why=True)

    def action_sort(self, number: int) -> None:
        at = (number - 1) % 10
        if at < len(COLUMNS):
            self._inverted = not self._inverted if at == self._sorted else False
            self._sorted = at
            self._again()

    def action_invert(self) -> None:
        self._inverted = not self._inverted
        self._again()

    def action_filter(self) -> None:
        found = self.query_one("#filter", Input)
        found.display = True
        found.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._wanted = event.value
        self._again()

    def key_escape(self) -> None:
        found = self.query_one("#filter", Input)
        found.value = ""
        self._end_filter()

    def _end_filter(self) -> None:
        found = self.query_one("#filter", Input)
        found.display = bool(found.value)
        self._table.focus()

    def action_help(self) -> None:
        self.app.push_screen(Help())

    def _again(self) -> None:
        if self._moment is not None:
            self._fill(self._moment)

    @property
    def _top(self) -> Top:
        assert isinstance(self.app, Top)
        return self.app


class Top(App[None]):
    """The application. views: the queues; every: seconds between looks; graph: of the daemons, if it is known."""

    TITLE = "piperctl top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #title { height: 1; }
    #graph { height: auto; max-height: 9; margin: 0 0 1 0; }
    #queues, #messages, #kinds { height: 1fr; }
    #filter { height: 3; }
    #facts { height: auto; max-height: 40%; }
    #contents { height: 1fr; overflow: auto; }
    Ask, Help { align: center middle; }
    #box { width: 70; max-width: 95%; height: auto; max-height: 95%; border: round $primary; padding: 0 1; }
    """

    def __init__(
        self,
        views: Sequence[View],
        title: str,
        *,
        every: float = 2.0,
        read_only: bool = False,
        graph: Graph | None = None,
    ) -> None:
        super().__init__()
        self._read_only = read_only
        self.feed = Feed(views, every, self._told, graph)
        self._first = Overall(self.feed, f"{'read-only  ' if read_only else ''}{title}")

    def on_mount(self) -> None:
        self.push_screen(self._first)
        self.feed.start()

    def on_unmount(self) -> None:
        self.feed.stop()

    def _told(self, moment: Moment) -> None:
        """In the feed's thread."""
        try:
            self.call_from_thread(self._first.show, moment)
        except RuntimeError:
            pass  # it is ending

    def act(self, act: Act, question: str, *, asks_why: bool, done: Callable[[], None] = lambda: None) -> None:
        """Ask, do it in the background, and say what became of it; read-only, say only that. done: called after it."""
        if self._read_only:
            self.notify("This is read-only: start it without --read-only to act.", severity="warning")
            return

        def answered(why: str | None) -> None:
            if why is None:
                return
            self.run_worker(lambda: self._perform(dataclasses.replace(act, why=why), done), thread=True, group="acts")

        self.push_screen(Ask(question, asks_why=asks_why), answered)

    def _perform(self, act: Act, done: Callable[[], None]) -> None:
        try:
            said = hands.perform(act)
        except PiperError as error:
            self.call_from_thread(self.notify, render.text(str(error)), severity="error", markup=False, timeout=10)
        else:
            self.call_from_thread(self.notify, render.text(said), markup=False)
        self.feed.now()
        self.call_from_thread(done)


def _sparks(values: Sequence[float]) -> str:
    most = max(values, default=0.0)
    return "".join(_BARS[0 if not value else max(1, round(8 * value / most))] for value in values)
