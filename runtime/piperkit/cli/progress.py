"""How far a command is, on a terminal: messages put or acted on, or looked at, with what was found until now."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING

import typer

from piperkit.cli import tables
from piperkit.cli.interrupts import Interrupts
from piperkit.cli.put import Advance

if TYPE_CHECKING:
    from rich.table import Table

#: Seconds between two updates.
_PAUSE = 0.05
#: Seconds until a look that takes long says how far it is, and between two updates.
_PATIENCE, _LOOK_PAUSE = 1.0, 0.5


def is_terminal(stream: IO[str] | None) -> bool:
    """Whether somebody looks at it."""
    return stream is not None and stream.isatty()


@contextlib.contextmanager
def shown(visible: bool, total: int | None) -> Iterator[Advance]:
    """A bar on standard error while the block runs; call what this gives with messages put and bytes read.

    total: the bytes there are to read; None: nobody knows.
    """
    if not visible:
        yield lambda messages, read: None
        return
    from rich.console import Console  # here: to import it takes longer than to put some messages
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    percent = [] if total is None else [TextColumn("{task.percentage:>3.0f} %")]
    columns = (TextColumn("{task.fields[messages]} messages"), BarColumn(), *percent, TimeElapsedColumn())
    # Without its redirections: they would send our standard output, the ids, to standard error.
    with Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    ) as bar:
        task = bar.add_task("", total=total, messages=0)
        count = pending = 0
        last = 0.0

        def advance(messages: int, read: int) -> None:
            nonlocal count, last, pending
            count += messages
            pending += read
            if time.monotonic() - last >= _PAUSE:
                bar.update(task, advance=pending, messages=count)
                last, pending = time.monotonic(), 0

        yield advance
        bar.update(task, advance=pending, messages=count)


@contextlib.contextmanager
def looking(table: Callable[[], Table] | None = None) -> Iterator[Callable[[int], None]]:
    """A look at messages: call what this gives with the number of those that are looked at.

    If it takes long, their number is shown on standard error, and what was found until then. Ctrl-C ends the look; what
    was found is shown then, too.

    table: what was found until now.
    """
    seen = unasked = 0
    began = last = time.monotonic()
    live = None
    with Interrupts() as interrupts:

        def look(number: int) -> None:
            nonlocal seen, last, live, unasked
            interrupts.check()
            seen += number
            unasked += number
            if unasked < 256 or not is_terminal(sys.stderr):
                return
            unasked = 0
            now = time.monotonic()
            if now - began < _PATIENCE or now - last < _LOOK_PAUSE:
                return
            last = now
            from rich.console import Console, Group
            from rich.live import Live

            if live is None:
                live = Live(
                    console=Console(stderr=True, markup=False, emoji=False, highlight=False),
                    transient=True,
                    auto_refresh=False,
                    redirect_stdout=False,
                    redirect_stderr=False,
                    vertical_overflow="crop",
                )
                live.start()
            count = f"{seen} looked at"
            live.update(Group(table(), count) if table is not None else count, refresh=True)

        def end() -> None:
            if live is not None:
                live.stop()

        try:
            yield look
            end()
        except KeyboardInterrupt:
            end()

            if table is not None:
                tables.show(table())
            print(f"piperctl: interrupted; {seen} were looked at", file=sys.stderr)
            raise typer.Exit(128 + signal.SIGINT) from None
        except BaseException:
            end()
            raise
