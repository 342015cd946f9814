"""`piperctl pipeline run` and `test`: its daemons as processes of ours, in the foreground."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from piperkit.cli import render
from piperkit.cli.pipeline_file import File, load, tell
from piperkit.errors import ConfigError, ExitStatus, PiperError
from piperkit.pipeline.description import Pipeline

#: Colours of the daemons' names, by their numbers in SGR.
_COLOURS = (36, 33, 32, 35, 34, 31)


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
            tell(finding)
        raise ConfigError(f"{meant.name} is not run: {render.number(len(wrong), 'thing')} to mend")
    print(f"piperctl: {meant.name} starts; Ctrl-C stops it", flush=True)
    with Running(meant, _Lines(meant), only=daemons or ()) as running, running.signals():
        try:
            running.start()
            if running.ready:
                print(f"piperctl: all of {meant.name} runs", flush=True)
            running.run()
        except Ended as error:
            print(f"piperctl: {error}; the others are stopped", file=sys.stderr, flush=True)
            running.stop()
            raise typer.Exit(ExitStatus.FAILURE) from None
        print("piperctl: stopping, sources first; press Ctrl-C again to kill", flush=True)
        bad = running.stop()
    if bad:
        raise PiperError(f"{', '.join(bad)} did not end well")
    print("piperctl: all have ended")


class _Lines:
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


def try_cases(
    cases: Annotated[
        Path, typer.Argument(metavar="CASES", help="A file of tests, or a directory of them.", show_default=False)
    ],
    pipeline: File = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what the daemons print.")] = False,
) -> None:
    """Test a pipeline on queues of its own: which messages go in, and which have to come out at each end.

    The daemons in between run as they would; ends do not, and nothing is fetched. Exit status 0 if all is as it should
    be, else 1.

    A project that piperctl new --pipeline makes has such a file, tests/pipeline.toml; docs/tutorial.md explains it.
    """
    from piperkit.pipeline import cases as loading
    from piperkit.pipeline import trial
    from piperkit.pipeline.running import Ended

    meant = load(pipeline)
    found = loading.load(cases, meant)
    failed = 0
    lines: list[str] = []
    told = _Lines(meant)

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
