"""How far `piperctl queue put` is, on a terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from piperkit.cli.put import Advance

#: Seconds between two updates.
_PAUSE = 0.05


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
