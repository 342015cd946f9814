"""What the screens of `piperctl top` share: a table that one moves in as in htop, and questions before an act."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Input, Static

from piperkit.cli.hands import Act


class Doing(Protocol):
    """Asks whether something is to be done, does it, and says what became of it. done: called after that."""

    def __call__(self, act: Act, question: str, *, asks_why: bool, done: Callable[[], None] = lambda: None) -> None: ...


WORDS = {
    "requeue": "Have tried again",
    "hold": "Hold",
    "release": "Release",
    "banish": "Banish to errors",
    "rm": "Delete for good",
}
ASKS_WHY = ("hold", "banish")


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


def heading(text: str) -> Text:
    return Text(text, style="bold", no_wrap=True, overflow="ellipsis")


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
                yield Input(placeholder="the reason, for others to see; Enter does it, Escape does not", id="why")
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
