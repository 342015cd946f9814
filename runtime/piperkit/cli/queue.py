"""`piperctl queue`: make queues, put messages into them, and see what is in them."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from piperkit.cli import render
from piperkit.daemon.process import find_group, find_user
from piperkit.dirq import DirectoryQueue, ensure_queue, is_queue
from piperkit.dirq.fs import display
from piperkit.dirq.layout import HOLDING
from piperkit.dirq.view import Entry, QueueView
from piperkit.errors import ExitStatus, PiperError, QueueMissing

#: Messages that become durable together.
BATCH = 256

commands = typer.Typer(help="Make queues, put messages into them, and see what is in them.", no_args_is_help=True)

QueueArgument = Annotated[Path, typer.Argument(metavar="QUEUE", help="The queue's directory.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def _mode(text: str) -> int:
    try:
        value = int(text.removeprefix("0o"), 8)
    except ValueError:
        value = -1
    if not 0 <= value <= 0o7777:
        raise typer.BadParameter(f"{text!r} is no octal mode such as 0o775")
    return value


@commands.command()
def create(
    queue: QueueArgument,
    perms: Annotated[str, typer.Option(metavar="MODE", help="Octal mode of its directories.")] = "0o775",
    user: Annotated[str | None, typer.Option(help="User that is to own it (root only).")] = None,
    group: Annotated[str | None, typer.Option(help="Group that is to own it; by default the user's own.")] = None,
) -> None:
    """Make a queue, or what is missing of one. Doing it twice does no harm."""
    owner = None
    if user is not None or group is not None:
        account = find_user(user) if user is not None else None
        gid = find_group(group).gr_gid if group is not None else account.pw_gid if account else -1
        owner = (account.pw_uid if account else -1, gid)
    ensure_queue(os.path.abspath(queue), _mode(perms), owner)


@commands.command()
def put(
    queue: QueueArgument,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Files; each is one message. None, or -: standard input."),
    ] = None,
    lines: Annotated[
        bool, typer.Option("--lines", help="Each line is one message, without its newline. Empty lines are skipped.")
    ] = False,
    create: Annotated[bool, typer.Option("--create", help="Make the queue where it is missing.")] = False,
    ids: Annotated[bool, typer.Option("--ids", help="Print the id of each message.")] = False,
    json: Json = False,
) -> None:
    """Put messages into a queue. What was put is on the disk when the command ends.

    With --json, prints one object at the end: queue, messages, bytes.
    """
    if not create and not is_queue(os.fspath(queue)):
        raise QueueMissing(f"{queue} is not a queue; make it with: piperctl queue create {queue}")
    sources = files or [Path("-")]
    with DirectoryQueue(queue, create=create) as target, _progress(sources) as progress:
        done = _Put(target, progress, print if ids else lambda _: None)
        where = ""
        try:
            for source in sources:
                where = "standard input" if str(source) == "-" else str(source)
                if lines:
                    with _opened(source) as file:
                        done.lines(file)
                elif str(source) == "-":
                    done.message(sys.stdin.buffer.read())
                else:
                    done.file(source)
            done.flush()
        except KeyboardInterrupt:
            done.flush()
            print(f"piperctl: interrupted; {done.messages} messages were put into {queue}", file=sys.stderr)
            raise typer.Exit(130) from None
        except (PiperError, OSError) as error:
            done.flush()
            line = f", line {done.line}" if lines else ""
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            print(
                f"piperctl: {where}{line}: {reason}; {done.messages} messages before it were put into {queue}",
                file=sys.stderr,
            )
            raise typer.Exit(getattr(error, "exit_status", ExitStatus.FAILURE)) from None
    if json:
        render.as_json({"queue": str(queue), "messages": done.messages, "bytes": done.bytes})
    elif not ids:
        print(f"{done.messages} messages put into {queue}")


class _Put:
    """Puts messages into a queue, some of them at a time."""

    def __init__(self, queue: DirectoryQueue, progress: Callable[[int, int], None], tell: Callable[[str], Any]) -> None:
        self._queue = queue
        self._progress = progress
        self._tell = tell
        self._batch = contextlib.ExitStack()
        self._batched: list[str] = []
        self.messages = 0
        self.bytes = 0
        self.line = 0

    def lines(self, file: IO[bytes]) -> None:
        self.line = 0
        for line in file:
            self.line += 1
            text = line.removesuffix(b"\n")
            if text:
                self.message(text, len(line))
            else:
                self._progress(0, len(line))

    def message(self, data: bytes, read: int | None = None) -> None:
        self._begin()
        self._done(self._queue.enqueue(data), len(data), len(data) if read is None else read)

    def file(self, path: Path) -> None:
        self._begin()
        length = path.stat().st_size
        self._done(self._queue.enqueue_file(path), length, length)

    def _begin(self) -> None:
        if not self._batched:
            self._batch.enter_context(self._queue.batch())

    def _done(self, id: str, length: int, read: int) -> None:
        self.messages += 1
        self.bytes += length
        self._batched.append(id)
        self._progress(1, read)
        if len(self._batched) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """What was put is on the disk, and is told."""
        batched, self._batched = self._batched, []
        self._batch.close()
        for id in batched:
            self._tell(display(id))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if str(path) == "-":
        yield sys.stdin.buffer
    else:
        with path.open("rb") as file:
            yield file


@contextlib.contextmanager
def _progress(sources: list[Path]) -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal how far it is: call it with messages put and bytes read since the last call."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda messages, read: None
        return
    known = all(source.is_file() for source in sources)
    total = sum(source.stat().st_size for source in sources) if known else None
    percent = [TextColumn("{task.percentage:>3.0f} %")] if known else []
    columns = (TextColumn("{task.fields[messages]} messages"), BarColumn(), *percent, TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total, messages=0)
        count = pending = 0
        shown = 0.0

        def advance(messages: int, read: int) -> None:
            nonlocal count, shown, pending
            count += messages
            pending += read
            if time.monotonic() - shown >= 0.05:
                bar.update(task, advance=pending, messages=count)
                shown, pending = time.monotonic(), 0

        yield advance
        bar.update(task, advance=pending, messages=count)


@commands.command()
def ls(
    queue: QueueArgument,
    part: Annotated[
        str | None, typer.Argument(help=f"One of {', '.join(HOLDING)}; by default all.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Messages of each part that are shown; 0: all.")] = 100,
    json: Json = False,
) -> None:
    """List messages, oldest first. With --json, one object a line."""
    if part is not None and part not in HOLDING:
        raise typer.BadParameter(f"{part!r} is no part of a queue; it must be one of {', '.join(HOLDING)}")
    view = QueueView(queue)
    shown: list[Entry] = []
    left_out = 0
    for each in HOLDING if part is None else (part,):
        found = view.entries(each)
        shown += found[: limit or None]
        left_out += max(0, len(found) - limit) if limit else 0
    if json:
        for entry in shown:
            render.as_json(render.facts(entry))
    else:
        render.entries(shown, left_out)


@commands.command()
def show(
    queue: QueueArgument,
    id: Annotated[str, typer.Argument(metavar="ID", help="The message's id.", show_default=False)],
    raw: Annotated[bool, typer.Option("--raw", help="Print the contents, byte for byte, and nothing else.")] = False,
    json: Json = False,
) -> None:
    """Show one message: where it is, its history, why it failed, and its contents."""
    view = QueueView(queue)
    entry = view.find(id)
    data = view.read(entry)
    if raw:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    report, history = view.report(entry), view.history(entry)
    if json:
        render.as_json({**render.facts(entry), "report": report, "history": history, "contents": _jsonable(data)})
        return
    for key, value in render.facts(entry).items():
        if value is not None:
            print(f"{key + ':':10} {render.size(value) if key == 'size' else value}")
    for failure in history:
        print(f"{'failed:':10} {failure.get('time')}  {failure.get('reason')}")
    if report and report.get("traceback"):
        print(report["traceback"].rstrip())
    print()
    print(render.contents(data))


def _jsonable(data: bytes) -> str | dict[str, str]:
    """Text as text, anything else as {"hex": ...}."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"hex": data.hex()}


@commands.command()
def stats(
    queues: Annotated[list[Path], typer.Argument(metavar="QUEUE...", help="Queues.", show_default=False)],
    json: Json = False,
) -> None:
    """Count messages: how many there are in each part, how large, and how old the oldest is.

    With --json, one object a line for each queue; ages are in seconds, sizes in bytes.
    """
    now = time.time()
    rows = []
    for queue in queues:
        view = QueueView(queue)
        parts: dict[str, dict[str, Any]] = {}
        for part in HOLDING:
            number, total, oldest = view.measure(part)
            age = None if oldest is None else round(now - oldest, 3)
            parts[part] = {"messages": number, "size": total, "oldest_age": age}
        rows.append({"queue": str(queue), "parts": parts})
    if json:
        for row in rows:
            render.as_json(row)
    else:
        render.counts(rows)
