"""`piperctl top` and `piperctl web`: which queues they show, and how they are started."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from piperkit import engines
from piperkit.cli import queues, render, spools
from piperkit.errors import ConfigError, PiperError, QueueMissing, UsageError
from piperkit.operating import View
from piperkit.pipeline import description
from piperkit.pipeline import graph as graphs
from piperkit.pipeline.description import NoPipeline
from piperkit.pipeline.graph import Graph
from piperkit.selection import seconds

File = Annotated[
    Path | None,
    typer.Option(
        "--pipeline",
        metavar="FILE",
        help="Show this pipeline, and its daemons as a graph; by default the one here, if --spool says nothing.",
        show_default=False,
    ),
]
ReadOnly = Annotated[bool, typer.Option("--read-only", help="Change nothing.")]


def shown(given: list[str] | None, spool: str | None, pipeline: Path | None) -> tuple[list[View], Graph | None, str]:
    """The queues that are meant, the graph of their daemons as far as it is known, and what they are called together.

    Raises UsageError, QueueMissing, ConfigError.
    """
    if given or spool is not None:
        if pipeline is not None:
            raise UsageError("--pipeline: its queues are shown; leave QUEUE and --spool out")
        found = queues.views(given or [], spool)
        if spool is None:
            return found, None, render.number(len(found), "queue")
        return found, _configured(spool), render.name(spool)
    try:
        meant = description.load(description.find(pipeline))
    except NoPipeline:
        if pipeline is not None:
            raise
        where = spools.default()
        return queues.views([], where), _configured(where), render.name(where)
    views = []
    for queue in meant.queues():
        try:
            views.append(engines.view(queue))
        except QueueMissing:
            continue  # its daemon has not run yet
    if not views:
        raise QueueMissing(f"{meant.path}: none of its queues is there yet; start it, or: piperctl pipeline check")
    return views, graphs.of(meant), meant.name


def _configured(spool: str) -> Graph | None:
    """The daemons that are installed for a spool, where some of them pass messages on."""
    from piperkit.pipeline.installed import installed  # here: the daemon comes with it

    try:
        found = installed(spool)
    except (OSError, PiperError):
        return None  # what is wrong with their configuration, they say themselves
    return found if found.edges else None


def top(
    given: queues.Queues = None,
    every: Annotated[str, typer.Option(metavar="TIME", help="Refresh interval.")] = "2s",
    read_only: ReadOnly = False,
    pipeline: File = None,
    spool: queues.Spool = None,
) -> None:
    """Show queues and daemons live on a terminal; look into them, and act. The key ? explains the keys.

    Examples:

        piperctl top

        piperctl top --spool /var/spool --read-only
    """
    try:
        from piperkit.top.app import Top
    except ImportError as error:
        raise ConfigError(f"piperctl top needs textual ({error}): pip install 'piperkit[top]'") from None
    length = _every(every)
    views, graph, title = shown(given, spool, pipeline)
    Top(views, title, every=length, read_only=read_only, graph=graph).run()


def web(
    given: queues.Queues = None,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Address to listen on.")] = "127.0.0.1:8642",
    acts: Annotated[bool, typer.Option("--acts", help="Let the page act on messages and queues.")] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="File that holds the token, created if missing; by default a new token each time."
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            metavar="HOST",
            help="Another host name that browsers use for it, for example a proxy's; may be repeated.",
        ),
    ] = None,
    every: Annotated[str, typer.Option(metavar="TIME", help="Refresh interval.")] = "2s",
    pipeline: File = None,
    spool: queues.Spool = None,
) -> None:
    """Show queues and daemons on a web page, as `piperctl top` does, until Ctrl-C.

    It prints the address to open, which has a token: whoever knows that sees what messages hold. It changes nothing
    without --acts. It speaks no TLS: for others than this machine, put a proxy that does before it, and name that with
    --name.

    Examples:

        piperctl web

        sudo piperctl web --spool /var/spool --acts
    """
    try:
        from piperkit.web import app, guard
    except ImportError as error:
        raise ConfigError(f"piperctl web needs Starlette and others ({error}): pip install 'piperkit[web]'") from None
    host, port = _place(listen)
    views, graph, title = shown(given, spool, pipeline)
    token = guard.new_token() if token_file is None else guard.token_of(token_file)
    known = {host if ":" not in host else f"[{host}]", *(names or ())}
    if host in LOOPBACK:
        known |= {"localhost", "127.0.0.1", "[::1]"}

    def announce(port: int) -> None:
        hosts.update({f"{each}:{port}" for each in known}, known if names else ())
        where = f"http://{host if ':' not in host else f'[{host}]'}:{port}/"
        if token_file is None:
            print(f"Open {where}?token={token}", flush=True)
        else:
            print(f"Open {where}?token=TOKEN; the token is in {render.name(str(token_file))}", flush=True)
        if not acts:
            print("It is read-only: with --acts, it acts.", flush=True)

    hosts: set[str] = set()
    page = app.Web(views, title, token, hosts, every=_every(every), acts=acts, graph=graph)
    app.serve(page, host, port, announce)


#: What only this machine reaches.
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _place(listen: str) -> tuple[str, int]:
    """HOST:PORT, or PORT. Raises UsageError."""
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--listen {listen}: must be HOST:PORT, [IPV6]:PORT or PORT")
    return "127.0.0.1" if host == "localhost" else host, int(port)


def _every(every: str) -> float:
    length = seconds("--every", every)
    if not 0.1 <= length <= 3600:
        raise UsageError("--every: must be from 0.1s to an hour")
    return length
