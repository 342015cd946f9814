"""`piperctl pipeline`: several daemons as one, by their `pipeline.toml`; see `piperkit.pipeline`."""

from __future__ import annotations

import contextlib
import enum
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from piperkit import engines
from piperkit.cli import pausing, progress, queues, render, spools
from piperkit.cli.options import Json
from piperkit.errors import ConfigError, ExitStatus, PiperError, QueueMissing, UsageError
from piperkit.overview import Overview
from piperkit.pipeline import description
from piperkit.pipeline.description import Pipeline
from piperkit.selection import seconds

if TYPE_CHECKING:
    from piperkit.doctor.finding import Finding
    from piperkit.operating import Operator
    from piperkit.pipeline.draining import Left

commands = typer.Typer(help="Work with a pipeline: several daemons as one.", no_args_is_help=True)

#: Seconds after which it is told again, where nobody looks, what still keeps a pipeline.
_TELL_AGAIN = 10.0
#: Colours of the daemons' names, by their numbers in SGR.
_COLOURS = (36, 33, 32, 35, 34, 31)

File = Annotated[
    Path | None,
    typer.Option(
        "--pipeline",
        metavar="FILE",
        help="Its pipeline.toml, or the directory that it is in; by default the one here or above, or /etc/NAME/.",
        show_default=False,
    ),
]


class From(enum.StrEnum):
    """Where a graph comes from."""

    FILE = "file"
    INSTALLED = "installed"
    HISTORY = "history"


class Form(enum.StrEnum):
    """What a graph is drawn as; as `piperkit.pipeline.drawing.Form`, which is imported when it is needed."""

    TEXT = "text"
    MERMAID = "mermaid"
    DOT = "dot"
    JSON = "json"


def load(given: Path | None, *, installed: bool = False) -> Pipeline:
    """The pipeline that is meant. Raises NoPipeline, ConfigError."""
    return description.load(description.find(given), installed=installed)


@commands.command()
def check(pipeline: File = None, json: Json = False) -> None:
    """Find what is wrong with a pipeline, and name what mends it.

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
            _tell(finding)
        daemons = render.number(len(meant.members), "daemon")
        print(
            f"{meant.name}, {daemons}: "
            + (f"{render.number(wrong, 'thing')} to mend." if wrong else "nothing is wrong.")
        )
    if wrong:
        raise typer.Exit(ExitStatus.FAILURE)


def _tell(finding: Finding) -> None:
    print(f"{'warning' if finding.warning else 'wrong'}: {render.text(f'{finding.where}: {finding.what}')}")
    print(f"    {render.text(finding.mend)}")


@commands.command()
def graph(
    pipeline: File = None,
    source: Annotated[
        From,
        typer.Option(
            "--from", help="Draw what the file says, what is configured in /etc, or where messages have gone."
        ),
    ] = From.FILE,
    form: Annotated[Form, typer.Option("--format", help="What it is drawn as.")] = Form.TEXT,
    spool: queues.Spool = None,
) -> None:
    """Draw daemons, and the queues between them.

    Of what is installed and of the history, --spool says whose; by default the spool. What the history knows, each
    daemon's key `history` says.

    Examples:

        piperctl pipeline graph

        piperctl pipeline graph --from history --spool /var/spool --format dot | dot -Tsvg
    """
    from piperkit.pipeline import drawing
    from piperkit.pipeline import graph as graphs

    if source is From.FILE:
        if spool is not None:
            raise UsageError("--spool: the file says where its queues are; with --from installed, or history")
        drawn = graphs.of(load(pipeline))
    else:
        where = spool or _spool_of(pipeline)
        drawn = graphs.installed(where) if source is From.INSTALLED else graphs.flowed(queues.views([], where))
        if not drawn.daemons:
            words = "no daemon is configured for any queue" if source is From.INSTALLED else (
                "the history tells of no message that went on; set history to sample or all"
            )  # fmt: skip
            raise QueueMissing(f"{render.name(where)}: {words}")
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    print(drawing.draw(drawn, drawing.Form(form), ascii_only=not encoding.startswith("utf")))


def _spool_of(pipeline: Path | None) -> str:
    if pipeline is not None:
        return load(pipeline).spool
    try:
        return load(None).spool
    except description.NoPipeline:
        return spools.default()


@commands.command()
def units(
    to: Annotated[
        Path,
        typer.Option("--to", metavar="DIR", help="Write them under this directory, as below /.", show_default=False),
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
def run(
    daemons: Annotated[
        list[str] | None, typer.Argument(metavar="[DAEMON]...", help="Only these; by default all.")
    ] = None,
    pipeline: File = None,
) -> None:
    """Run all daemons in the foreground, for development, until Ctrl-C or one of them ends by itself.

    Consumers start first, sources last; one Ctrl-C stops them in the other order, a second one kills. Each line that
    they print has the daemon's name before it.
    """
    from piperkit.pipeline import checks
    from piperkit.pipeline.running import Ended, Running

    meant = load(pipeline)
    wrong = list(checks.startable(meant))
    if wrong:
        for finding in wrong:
            _tell(finding)
        raise ConfigError(f"{meant.name} is not run: {render.number(len(wrong), 'thing')} to mend")
    print(f"piperctl: {meant.name} starts; Ctrl-C stops it", flush=True)
    with Running(meant, _Told(meant), only=daemons or ()) as running, running.signals():
        try:
            running.start()
            if running.ready:
                print(f"piperctl: all of {meant.name} runs", flush=True)
            running.run()
        except Ended as error:
            print(f"piperctl: {error}; the others are stopped", file=sys.stderr, flush=True)
            running.stop()
            raise typer.Exit(ExitStatus.FAILURE) from None
        print("piperctl: stopping, sources first; Ctrl-C once more kills", flush=True)
        bad = running.stop()
    if bad:
        raise PiperError(f"{', '.join(bad)} did not end well")
    print("piperctl: all have ended")


class _Told:
    """Prints lines of daemons, each with its name."""

    def __init__(self, meant: Pipeline) -> None:
        names = [member.name for member in meant.members]
        self._width = max(
            len(name) + 3 * (member.instances > 1) for name, member in zip(names, meant.members, strict=True)
        )
        coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._colours = {name: _COLOURS[at % len(_COLOURS)] for at, name in enumerate(names)} if coloured else {}

    def __call__(self, name: str, line: str) -> None:
        if not name:
            print(f"piperctl: {line}", flush=True)
            return
        colour = self._colours.get(name.partition("@")[0])
        head = f"{name:{self._width}} |"
        head = f"\x1b[{colour}m{head}\x1b[0m" if colour else head
        print(f"{head} {render.text(line)}", flush=True)


@commands.command()
def ps(pipeline: File = None, json: Json = False) -> None:
    """Show the daemons of a pipeline: how many instances of each run, and what is in their queues.

    Instances are seen by their queues, whoever runs them; those of queues in directories by the queue's owner and root.
    Exit status 0 if all run that should, else 3.
    """
    meant = load(pipeline)
    rows = []
    for member in meant.members:
        try:
            state = Overview([engines.view(member.source)]).look()[0]
        except QueueMissing:
            state = None
        wrong = state is None or state.wrong
        there = None if state is None or state.instances is None else [each for each in state.instances if each.alive]
        rows.append(
            {
                "daemon": member.name,
                "queue": member.source,
                "instances": [] if state is None else None if there is None else [_process(each) for each in there],
                "wanted": member.instances,
                "waits": None if wrong or state is None else state.waits,
                "errors": None if wrong or state is None else state.parts.get("errors"),
                "oldest_age": None if state is None or state.oldest is None else round(state.oldest, 3),
                "paused": None if state is None or state.paused is None else str(state.paused),
                "wrong": "there is no such queue yet" if state is None else state.wrong or None,
            }
        )
    if json:
        for row in rows:
            render.as_json(row)
    else:
        render.daemons(rows)
    if any(row["instances"] is not None and len(row["instances"]) < row["wanted"] for row in rows):  # type: ignore[arg-type, operator]
        raise typer.Exit(ExitStatus.NOT_RUNNING)


def _process(each: Any) -> dict[str, Any]:
    return {"host": each.host, "pid": each.pid, "since": render.moment(each.since)}


@commands.command()
def drain(
    pipeline: File = None,
    lasting: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="Give up after this time; by default never.")
    ] = None,
    why: Annotated[str, typer.Option(metavar="TEXT", help="Why, for whoever asks.")] = "the pipeline is drained",
) -> None:
    """Have a pipeline run empty: its sources fetch nothing more, and what is in it arrives; say what keeps it.

    Nothing is stopped, and what its sources fetch stays paused, until: piperctl pipeline resume. Exit status 0 when all
    is empty; 1 after --for, or Ctrl-C.
    """
    from piperkit.pipeline.draining import Draining

    meant = load(pipeline)
    sources = _sources(meant)
    until = None if lasting is None else time.monotonic() + seconds("--for", lasting)
    draining = Draining(meant)

    def act(operator: Operator) -> str:
        operator.pause(None, why, sources_only=True)
        return "nothing more is fetched"

    for source in sources:
        pausing.on_queue(source, True, "drained", act)
    if not sources:
        print("None of its daemons fetches anything: what others put into it keeps coming.")
    left: list[Left] = []
    told = ""
    with contextlib.suppress(KeyboardInterrupt):
        last = 0.0
        for left in draining.wait(until):
            words = "; ".join(_left(each) for each in left)
            # On a terminal as it goes; elsewhere when there is a reason, or another one, and now and then.
            reasons = "; ".join(f"{each.member.name}: {each.why}" for each in left if each.why)
            if progress.is_terminal(sys.stderr):
                print(f"\r\x1b[K{render.text(words)[: _width()]}", end="", file=sys.stderr, flush=True)
            elif left and (reasons != told or time.monotonic() - last > _TELL_AGAIN):
                told, last = reasons, time.monotonic()
                print(f"still there: {render.text(words)}", flush=True)
        if progress.is_terminal(sys.stderr):
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        if not left:
            print(f"{meant.name} is empty. To have it go on: piperctl pipeline resume")
            return
    print(f"{meant.name} is not empty:", file=sys.stderr)
    for each in left:
        print(f"  {render.text(_left(each))}", file=sys.stderr)
    raise typer.Exit(ExitStatus.FAILURE)


@commands.command()
def resume(pipeline: File = None) -> None:
    """Have a drained pipeline go on: its sources fetch again."""
    for source in _sources(load(pipeline)):
        pausing.on_queue(source, True, "resumed", lambda operator: "resumed" if operator.resume() else "was not paused")


def _sources(meant: Pipeline) -> list[str]:
    """The queues of the daemons that fetch; one that is not installed is named, and left out.

    Raises ConfigError where one cannot be asked.
    """
    from piperkit.pipeline import programs

    answers = programs.describe(meant, meant.members)
    for name, answer in answers.items():
        if answer.status == ExitStatus.UNAVAILABLE:
            print(f"warning: {name} is left out: {render.text(answer.wrong)}", file=sys.stderr)
        elif answer.facts is None:
            raise ConfigError(f"{name} cannot be asked whether it fetches: {answer.wrong}")
    return [member.source for member in meant.members if (answers[member.name].facts or {}).get("fetches")]


def _left(each: Left) -> str:
    counts = ", ".join(f"{number} {part}" for part, number in each.counts.items())
    return f"{each.member.name}: {counts}{f' ({each.why})' if each.why else ''}"


def _width() -> int:
    with contextlib.suppress(OSError):
        return os.get_terminal_size(sys.stderr.fileno()).columns - 1
    return 79


@commands.command("test")
def try_cases(
    cases: Annotated[
        Path, typer.Argument(metavar="CASES", help="A file of tests, or a directory of them.", show_default=False)
    ],
    pipeline: File = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what the daemons print.")] = False,
) -> None:
    """Try a pipeline: messages in, and what has to come out at each end, on queues in a directory of its own.

    The daemons in between run as they would; ends do not, and nothing is fetched. Exit status 0 if all is as it should
    be, else 1.

    A test, of which a file has as many as you like:

        [[tests]]
        name = "an alert goes to the pager"

        [[tests.inputs]]
        into = "parser"                  # a daemon
        text = "alert: disk full"        # or json = ..., or base64 = "..."

        [tests.outputs]
        pager = [{ type = "alert", text = "disk full" }]

        [tests.errors]
        parser = ["a part of the reason of a dead letter"]
    """
    from piperkit.pipeline import cases as loading
    from piperkit.pipeline import trial
    from piperkit.pipeline.running import Ended

    meant = load(pipeline)
    found = loading.load(cases, meant)
    failed = 0
    lines: list[str] = []
    told = _Told(meant)

    def tell(name: str, line: str) -> None:
        if verbose:
            told(name, line)
        else:
            lines.append(f"{name} | {render.text(line)}")

    with tempfile.TemporaryDirectory(prefix="piperctl-test-") as directory:
        try:
            for verdict in trial.run(meant, found, Path(directory), tell):
                print(f"{'FAILED' if verdict.wrong else 'passed'}  {render.text(verdict.case.name)}", flush=True)
                for line in verdict.wrong:
                    print(f"        {render.text(line)}")
                failed += bool(verdict.wrong)
        except Ended as error:
            print("\n".join(lines[-20:]), file=sys.stderr)
            raise PiperError(str(error)) from None
    print(f"{len(found) - failed} of {render.number(len(found), 'test')} passed")
    if failed:
        raise typer.Exit(ExitStatus.FAILURE)
