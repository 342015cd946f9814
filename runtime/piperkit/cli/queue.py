"""`piperctl queue`: make queues, put messages into them, and see what is in them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from piperkit.cli import act, find, progress, reasons, render, selecting, sources
from piperkit.cli.interrupts import Interrupts
from piperkit.cli.put import Putter, open_queue
from piperkit.cli.sources import STDIN
from piperkit.dirq import ensure_queue, is_queue
from piperkit.dirq.fs import display
from piperkit.dirq.layout import HOLDING
from piperkit.dirq.store import Settings
from piperkit.dirq.view import Entry
from piperkit.errors import ExitStatus, PiperError, QueueMissing

DEFAULT_PERMS = 0o770
#: Messages of a part that `ls` shows to people.
LIMIT = 100

commands = typer.Typer(help="Make queues, put messages into them, and see what is in them.", no_args_is_help=True)

QueueArgument = Annotated[Path, typer.Argument(metavar="QUEUE", help="The queue's directory.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def _mode(text: str) -> int:
    try:
        value = int(text.removeprefix("0o"), 8)
    except ValueError:
        value = -1
    if not 0 <= value <= 0o7777:
        raise typer.BadParameter(f"{text!r} is no octal mode such as 0o770")
    return value


@commands.command()
def create(
    queue: QueueArgument,
    perms: Annotated[
        str,
        typer.Option(
            metavar="MODE",
            help="Octal mode of tmp and incoming: who may put messages there. All else is the owner's alone.",
        ),
    ] = f"{DEFAULT_PERMS:#o}",
    user: Annotated[
        str | None, typer.Option(help="User that owns it, and so takes messages out of it (root only).")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Group that may put messages there; by default the user's own.")
    ] = None,
) -> None:
    """Make a queue, or what is missing of one. Doing it twice does no harm."""
    from piperkit.daemon.process import find_group, find_user  # here, since all of the daemon comes with it

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
        bool,
        typer.Option(
            "--lines",
            help="Each line is one message, without its newline (a carriage return before it is kept)."
            " Blank lines are skipped.",
        ),
    ] = False,
    create: Annotated[bool, typer.Option("--create", help="Make the queue where it is missing.")] = False,
    ids: Annotated[bool, typer.Option("--ids", help="Print the id of each message, once it is on the disk.")] = False,
    message_max: Annotated[
        int, typer.Option(metavar="BYTES", min=0, help="Put no message that is larger; 0: no limit.")
    ] = Settings().message_max,
    json: Json = False,
) -> None:
    """Put messages into a queue. What was put is on the disk when the command ends.

    It stops at the first message that cannot be put, and says how many were put before it.

    With --json, prints one object at the end: queue, messages, bytes. With --ids before it one for each message: id.
    """
    inputs = files or [STDIN]
    if inputs.count(STDIN) > 1:
        raise typer.BadParameter("standard input can be read only once")
    shown = render.name(os.fspath(queue))
    path = os.path.abspath(queue)
    if create:
        ensure_queue(path, DEFAULT_PERMS)
    elif not is_queue(path):
        raise QueueMissing(f"{shown} is not a queue; make it with: piperctl queue create {shown}")
    # A bar and other text do not share a terminal well.
    typed = STDIN in inputs and _is_terminal(sys.stdin)
    visible = _is_terminal(sys.stderr) and not typed and not (ids and _is_terminal(sys.stdout))
    failure: BaseException | None = None
    where = ""
    with (
        open_queue(path, message_max) as target,
        Interrupts() as interrupts,
        progress.shown(visible, sources.total(inputs) if visible else None) as advance,
    ):
        putter = Putter(target, message_max, interrupts, advance, _teller(ids, json))
        try:
            try:
                for source in inputs:
                    where = sources.title(source)
                    (putter.lines if lines else putter.file)(source)
            finally:
                putter.flush()
        except (KeyboardInterrupt, PiperError, OSError) as error:
            failure = error
    were_put = (
        f"{render.number(putter.messages, 'message')} {'was' if putter.messages == 1 else 'were'} put into {shown}"
    )
    if isinstance(failure, KeyboardInterrupt):
        print(f"piperctl: interrupted; {were_put}", file=sys.stderr)
        raise typer.Exit(128 + signal.SIGINT)
    if failure is not None:
        at = f"{where}, line {putter.line}" if putter.line else where
        said = failure.strerror if isinstance(failure, OSError) and failure.strerror else failure
        print(f"piperctl: {at}: {render.text(str(said))}; before it {were_put}", file=sys.stderr)
        raise typer.Exit(getattr(failure, "exit_status", ExitStatus.FAILURE))
    if json:
        render.as_json({"queue": display(os.fspath(queue)), "messages": putter.messages, "bytes": putter.bytes})
    elif not ids:
        skipped = f" ({render.number(putter.blank, 'blank line')} skipped)" if putter.blank else ""
        print(f"{render.number(putter.messages, 'message')} put into {shown}{skipped}")


def _is_terminal(stream: IO[str] | None) -> bool:
    return stream is not None and stream.isatty()


def _teller(ids: bool, json: bool) -> Callable[[list[str]], None]:
    """What prints ids. A reader of them that goes away does not keep the messages from being put."""
    if not ids:
        return lambda found: None

    def tell(found: list[str]) -> None:
        try:
            for id in found:
                if json:
                    render.as_json({"id": display(id)})
                else:
                    print(display(id))
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:
            render.end_output()

    return tell


@commands.command()
def ls(
    queue: QueueArgument,
    part: Annotated[
        str | None, typer.Argument(help=f"One of {', '.join(HOLDING)}; by default all.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=0,
            help=f"Messages of each part that are shown; 0: all. By default {LIMIT}, with --json all.",
            show_default=False,
        ),
    ] = None,
    older: selecting.Older = None,
    newer: selecting.Newer = None,
    attempts: selecting.Attempts = None,
    reason: selecting.Reason = None,
    where: selecting.Where = None,
    ids: Annotated[bool, typer.Option("--ids", help="Print the ids only, for another command; all of them.")] = False,
    json: Json = False,
) -> None:
    """List messages, oldest first. With --json, one object a line; sizes are in bytes.

    Examples:

        piperctl queue ls QUEUE errors --reason 'host is down' --newer 1h

        piperctl queue ls QUEUE --where Source.0.IP4=192.0.2.7 --ids
    """
    if part is not None and part not in HOLDING:
        raise typer.BadParameter(f"{part!r} is no part of a queue; it must be one of {', '.join(HOLDING)}")
    if limit is None:
        limit = 0 if json or ids else LIMIT
    chosen = selecting.selection(None, older, newer, attempts, reason, where)
    view = find.open_view(queue)
    left_out = 0
    shown: list[Entry] = []
    for each in HOLDING if part is None else (part,):
        found, more = selecting.oldest(view, each, chosen, limit)
        left_out += more
        if not json and not ids:
            shown += found
            continue
        for entry in found:
            print(render.name(entry.id)) if ids else render.as_json(render.facts(entry))
    if not json and not ids:
        render.entries(shown, left_out)


@commands.command()
def errors(
    queue: QueueArgument,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Kinds that are shown.")] = 20,
    older: selecting.Older = None,
    newer: selecting.Newer = None,
    where: selecting.Where = None,
    json: Json = False,
) -> None:
    """Why messages are in errors: one line for each kind of reason, with its number, first and last time, an example.

    Reasons that differ in numbers or quoted words only are one kind; the dead letters of one are shown by ls --reason.
    """
    view = find.open_view(queue)
    chosen = selecting.selection(None, older, newer, None, None, where)
    found = reasons.grouped(selecting.banished(view, chosen))
    if json:
        for kind in found[:limit]:
            moments = {"first": render.moment(kind.first), "last": render.moment(kind.last)}
            facts = {"reason": kind.reason, "messages": kind.messages, **moments, "example": display(kind.example)}
            render.as_json(facts)
    else:
        render.reasons(found[:limit], sum(kind.messages for kind in found[limit:]))


@commands.command()
def show(
    queue: QueueArgument,
    id: Annotated[str, typer.Argument(metavar="ID", help="The message's id, also as ls shows it.", show_default=False)],
    raw: Annotated[bool, typer.Option("--raw", help="Print the contents, byte for byte, and nothing else.")] = False,
    json: Json = False,
) -> None:
    """Show one message: where it is, its history, why it failed, and its contents.

    With --json, contents are text, or {"hex": ...} where they are not UTF-8.
    """
    if raw and json:
        raise typer.BadParameter("--raw and --json exclude each other")
    view = find.open_view(queue)
    entry, data = find.read(view, id)
    if raw:
        sys.stdout.buffer.write(data)
        return
    report = view.report(entry) if entry.part == "errors" else None
    history = find.history(view, entry, report)
    if json:
        render.as_json({**render.facts(entry), "report": report, "history": history, "contents": _jsonable(data)})
        return
    for key, value in render.facts(entry).items():
        if value is not None:
            print(f"{key + ':':10} {render.size(value) if key == 'size' else render.text(str(value))}")
    for failure in history:
        print(f"{'failed:':10} " + render.text(f"{failure.get('time')}  {failure.get('reason')}"))
    trace = (report or {}).get("traceback")
    if isinstance(trace, str):
        for line in trace.splitlines():
            print(f"    {render.text(line)}")
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
        view = find.open_view(queue)
        parts: dict[str, dict[str, Any]] = {}
        for part in HOLDING:
            number, total, oldest = view.measure(part)
            age = None if oldest is None else round(now - oldest, 3)
            parts[part] = {"messages": number, "size": total, "oldest_age": age}
        rows.append({"queue": display(os.fspath(queue)), "parts": parts})
    if json:
        for row in rows:
            render.as_json(row)
    else:
        render.counts(rows)


commands.command()(act.requeue)
commands.command()(act.rm)
commands.command()(act.mv)
