"""`piperctl queue`: make queues and put messages into them; `look` and `act` have the other commands."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from piperkit import engines
from piperkit.cli import act, archive, edit, look, pausing, progress, render, sources, spools, watching
from piperkit.cli.completing import queue_names
from piperkit.cli.interrupts import Interrupts
from piperkit.cli.options import Json, composed
from piperkit.cli.put import Putter, open_queue
from piperkit.cli.sources import STDIN
from piperkit.dirq import ensure_queue, is_queue
from piperkit.dirq.fs import display
from piperkit.dirq.layout import DEFAULT_PERMS
from piperkit.dirq.store import Settings
from piperkit.errors import ExitStatus, PiperError, QueueMissing, UsageError

commands = typer.Typer(help="Create queues, put messages into them, look at them, act on them.", no_args_is_help=True)

QueueArgument = Annotated[
    str,
    typer.Argument(
        metavar="QUEUE",
        help="The queue's directory or address, or a bare name for one in the spool.",
        show_default=False,
        autocompletion=queue_names,
    ),
]


def _mode(text: str) -> int:
    try:
        value = int(text.removeprefix("0o"), 8)
    except ValueError:
        value = -1
    if not 0 <= value <= 0o7777:
        raise typer.BadParameter(f"{text!r} is not an octal mode such as 0o770")
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
    """Create a queue, or its missing parts. Running it twice does no harm.

    In a database, the tables are made or brought to this version, and the roles piper_producer, piper_daemon,
    piper_viewer and piper_operator, to be granted to whoever logs in there: `GRANT piper_daemon TO mydaemon`.

    Examples:

        piperctl queue create QUEUE --user mydaemon --group piper

        piperctl queue create 'postgresql://db1/spool?queue=mail'
    """
    path = spools.path(queue, new=True)
    if engines.is_address(path):
        if user is not None or group is not None:
            raise UsageError("--user, --group: rights in a database are given by GRANT; see --help")
        made, left = engines.create(path)
        print(f"{render.name(path)} {'was made' if made else 'is there'}")
        for each in left:
            print(f"piperctl: {render.text(each)}", file=sys.stderr)
        if left:
            raise typer.Exit(ExitStatus.PARTIAL)
        return
    from piperkit.daemon.process import find_group, find_user  # here, since all of the daemon comes with it

    owner = None
    if user is not None or group is not None:
        account = find_user(user) if user is not None else None
        gid = find_group(group).gr_gid if group is not None else account.pw_gid if account else -1
        owner = (account.pw_uid if account else -1, gid)
    ensure_queue(os.path.abspath(path), _mode(perms), owner)


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
    create: Annotated[bool, typer.Option("--create", help="Create the queue if it is missing.")] = False,
    ids: Annotated[bool, typer.Option("--ids", help="Print the id of each message once it is on disk.")] = False,
    message_max: Annotated[
        int, typer.Option(metavar="BYTES", min=0, help="Refuse larger messages; 0: no limit.")
    ] = Settings().message_max,
    json: Json = False,
) -> None:
    """Put messages into a queue. They are on disk when the command ends.

    It stops at the first message that cannot be put, and says how many were put before it.

    With --json, prints one object at the end: queue, messages, bytes. With --ids before it one for each message: id.

    Examples:

        echo hello | piperctl queue put QUEUE

        piperctl queue put QUEUE --lines /var/log/dpkg.log
    """
    inputs = files or [STDIN]
    if inputs.count(STDIN) > 1:
        raise typer.BadParameter("standard input can be read only once")
    shown = render.name(queue)
    path = spools.path(queue, new=create)
    if engines.is_address(path):
        if create:
            engines.create(path)
    elif create:
        path = os.path.abspath(path)
        ensure_queue(path, DEFAULT_PERMS)
    elif not is_queue(path := os.path.abspath(path)):
        raise QueueMissing(f"{shown} is not a queue; make it with: piperctl queue create {shown}")
    # A bar and other text do not share a terminal well.
    typed = STDIN in inputs and progress.is_terminal(sys.stdin)
    visible = progress.is_terminal(sys.stderr) and not typed and not (ids and progress.is_terminal(sys.stdout))
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
        render.as_json({"queue": display(queue), "messages": putter.messages, "bytes": putter.bytes})
    elif not ids:
        skipped = f" ({render.number(putter.blank, 'blank line')} skipped)" if putter.blank else ""
        print(f"{render.number(putter.messages, 'message')} put into {shown}{skipped}")


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


_OTHERS: tuple[Callable[..., None], ...] = (
    *(look.ls, look.show, look.errors, look.stats, look.shape, watching.tap),
    *(act.requeue, act.hold, act.release, act.banish, act.rm, act.mv, edit.edit),
    *(archive.export, archive.import_, pausing.pause, pausing.resume),
)
for _command in _OTHERS:
    commands.command(_command.__name__.rstrip("_"))(composed(_command))
