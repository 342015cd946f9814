"""`piperctl pipeline drain` and `resume`: a pipeline runs empty, and goes on."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from piperkit.cli import pausing, progress, render
from piperkit.cli.pipeline_file import File, load
from piperkit.errors import ConfigError, ExitStatus
from piperkit.pipeline.description import Pipeline
from piperkit.selection import seconds

if TYPE_CHECKING:
    from piperkit.operating import Operator
    from piperkit.pipeline.draining import Left

#: Seconds after which it is told again, where nobody looks, what still keeps a pipeline.
_TELL_AGAIN = 10.0


def drain(
    pipeline: File = None,
    lasting: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="Give up after this time; by default never.")
    ] = None,
    why: Annotated[
        str, typer.Option(metavar="TEXT", help="Reason, shown to whoever looks.")
    ] = "the pipeline is drained",
) -> None:
    """Drain a pipeline: its sources stop fetching, and everything in it arrives. Says what it is waiting for.

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


def resume(pipeline: File = None) -> None:
    """Resume a drained pipeline: its sources fetch again."""
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
