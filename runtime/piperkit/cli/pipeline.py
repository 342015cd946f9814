"""`piperctl pipeline`: several daemons as one, by their `pipeline.toml`; see `piperkit.pipeline`."""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from piperkit import engines
from piperkit.cli import pipeline_drain, pipeline_foreground, queues, render, spools, tables, watching
from piperkit.cli.options import Json
from piperkit.cli.pipeline_file import File, load, tell
from piperkit.engines import short_name
from piperkit.errors import ExitStatus, QueueMissing, UsageError
from piperkit.overview import Overview, QueueState
from piperkit.pipeline import description, drawing
from piperkit.pipeline import graph as graphs
from piperkit.pipeline.description import Member
from piperkit.pipeline.graph import Graph

commands = typer.Typer(help="Work with a pipeline: several daemons as one.", no_args_is_help=True)


class From(enum.StrEnum):
    """Where a graph comes from."""

    FILE = "file"
    INSTALLED = "installed"
    HISTORY = "history"


@commands.command()
def check(pipeline: File = None, json: Json = False) -> None:
    """Find what is wrong with a pipeline, and what fixes it.

    Each daemon's own configuration; queues that nobody reads or writes; loops; accounts, file systems, formats and
    versions that do not go together; queues that were left behind, and ways of messages that the file does not know.
    Each daemon is asked, with --action describe. Exit status 0 if nothing is wrong, else 1; warnings do not
    count.
    """
    from piperkit.pipeline import checks

    meant = load(pipeline)
    found = list(checks.examine(meant))
    wrong = sum(not finding.warning for finding in found)
    if json:
        render.as_json(
            {
                "pipeline": meant.name,
                "daemons": [member.name for member in meant.members],
                "findings": [
                    {
                        "check": each.check,
                        "where": each.where,
                        "what": each.what,
                        "mend": each.mend,
                        "warning": each.warning,
                    }
                    for each in found
                ],
            }
        )
    else:
        for finding in found:
            tell(finding)
        daemons = render.number(len(meant.members), "daemon")
        print(
            f"{meant.name}, {daemons}: "
            + (f"{render.number(wrong, 'thing')} to mend." if wrong else "nothing is wrong.")
        )
    if wrong:
        raise typer.Exit(ExitStatus.FAILURE)


@commands.command()
def graph(
    pipeline: File = None,
    source: Annotated[
        From,
        typer.Option(
            "--from", help="Draw what the file says, what is configured in /etc, or where messages have gone."
        ),
    ] = From.FILE,
    form: Annotated[drawing.Form, typer.Option("--format", help="What it is drawn as.")] = drawing.Form.TEXT,
    spool: queues.Spool = None,
) -> None:
    """Draw the daemons and the queues between them.

    Of what is installed and of the history, --spool says whose; by default the spool. What the history knows, each
    daemon's key `history` says.

    Examples:

        piperctl pipeline graph

        piperctl pipeline graph --from history --spool /var/spool --format dot | dot -Tsvg
    """
    if source is From.FILE:
        if spool is not None:
            raise UsageError("--spool: the file says where its queues are; with --from installed, or history")
        drawn = graphs.of(load(pipeline))
    else:
        where, drawn = _found(source, pipeline, spool)
        if not drawn.daemons:
            words = "no daemon is configured for any queue" if source is From.INSTALLED else (
                "the history has no message that was passed on; set history to sample or all"
            )  # fmt: skip
            raise QueueMissing(f"{render.name(where)}: {words}")
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    print(drawing.draw(drawn, form, ascii_only=not encoding.startswith("utf")))


def _found(source: From, pipeline: Path | None, spool: str | None) -> tuple[str, Graph]:
    """The graph of a spool, and which one that is: of the pipeline, where there is one."""
    try:
        meant = load(pipeline) if spool is None else None
    except description.NoPipeline:
        if pipeline is not None:
            raise
        meant = None
    where = spool or (meant.spool if meant is not None else spools.default())
    if source is From.INSTALLED:
        from piperkit.pipeline.installed import installed  # here: the daemon comes with it

        return where, installed(where)
    # A queue of the pipeline is called by its daemon.
    names = {graphs.place(member.source): member.name for member in (meant.members if meant is not None else ())}
    views = queues.views([], where)
    return where, graphs.flowed({names.get(graphs.place(view.path), short_name(view.path)): view for view in views})


@commands.command()
def units(
    to: Annotated[
        Path,
        typer.Option(
            "--to",
            metavar="DIR",
            help="Write them under this root directory; / installs them here.",
            show_default=False,
        ),
    ],
    pipeline: File = None,
) -> None:
    """Write what systemd needs to run a pipeline: a target, a slice, drop-ins, sysusers, tmpfiles, and each daemon's
    queues.

    Of a project, they are for its daemons as `make install` installs them, on the queues in /var/spool. The daemons'
    own units stay as they are. Doing it again changes what has changed in the file, and nothing else.

    Examples:

        sudo piperctl pipeline units --to /

        piperctl pipeline units --to build/root
    """
    from piperkit.pipeline import units as making

    meant = load(pipeline, installed=True)
    written, removed = making.write(meant, to)
    for path in written:
        print(f"  {path}")
    for path in removed:
        print(f"  {path}   removed")
    print(
        f"\nNext, as root:\n\n"
        f"    systemd-sysusers pipeline-{meant.name}.conf\n"
        f"    systemd-tmpfiles --create pipeline-{meant.name}.conf\n"
        f"    systemctl daemon-reload\n"
        f"    systemctl enable --now {meant.name}.target"
    )


@commands.command()
def ps(pipeline: File = None, json: Json = False) -> None:
    """Show the daemons of a pipeline: how many instances of each are running, and what is in their queues.

    Instances are seen by their queues, whoever runs them; those of queues in directories by the queue's owner and root.
    Exit status 0 if all run that should, else 3.
    """
    meant = load(pipeline)
    views = [engines.view(member.source) for member in meant.members if engines.exists(member.source)]
    states = {state.queue: state for state in Overview(views).look()}
    rows = [_row(member, states.get(member.source)) for member in meant.members]
    if json:
        for row in rows:
            render.as_json(row)
    else:
        tables.daemons(rows)
    if any(row["instances"] is not None and len(row["instances"]) < row["wanted"] for row in rows):
        raise typer.Exit(ExitStatus.NOT_RUNNING)


def _row(member: Member, state: QueueState | None) -> dict[str, Any]:
    """A daemon as a program reads it; state: of its queue, None where there is none."""
    known = state is not None and not state.wrong
    there = None if state is None or state.instances is None else [each for each in state.instances if each.alive]
    return {
        "daemon": member.name,
        "queue": member.source,
        "instances": [] if state is None else None if there is None else [*map(watching.instance, there)],
        "wanted": member.instances,
        "waits": state.waits if state is not None and known else None,
        "errors": state.parts["errors"] if state is not None and known else None,
        "oldest_age": None if state is None or state.oldest is None else round(state.oldest, 3),
        "paused": None if state is None or state.paused is None else str(state.paused),
        "wrong": "there is no such queue yet" if state is None else state.wrong or None,
    }


for _command in (pipeline_foreground.run, pipeline_drain.drain, pipeline_drain.resume):
    commands.command()(_command)
commands.command("test")(pipeline_foreground.try_cases)
