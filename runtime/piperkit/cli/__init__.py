"""`piperctl`, the runtime's command line: queues by hand.

What a command prints for its user goes to standard output, what went wrong to standard error, in one line. The exit
status is one of `piperkit.errors.ExitStatus`, or 130 after Ctrl-C. A reader that has seen enough (`| head`) is not an
error to report.
"""

from __future__ import annotations

import atexit
import enum
import gc
import io
import sys
from typing import Annotated

import typer

from piperkit.cli import check, doctor, new, pipeline, queue, render, seeing, trace, upgrade, watching
from piperkit.cli.options import composed
from piperkit.errors import ExitStatus, PiperError

#: What typer says of a command line that cannot be used; ours has the name and number of sysexits(3). A status that a
#: command gives is a member of an enumeration where it might be taken for it.
_TYPER_USAGE = 2

cli = typer.Typer(
    name="piperctl",
    help="Work with the queues of piper daemons.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli.add_typer(queue.commands, name="queue")
cli.add_typer(pipeline.commands, name="pipeline")
cli.command()(new.new)
cli.add_typer(new.add, name="add")
cli.command()(upgrade.upgrade)
cli.command()(doctor.doctor)
cli.command()(composed(watching.find))
cli.command()(seeing.top)
cli.command()(seeing.web)
cli.command()(composed(check.check))
cli.command()(composed(trace.trace))


def _version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        print(f"piperctl {importlib.metadata.version('piperkit')}")
        raise typer.Exit


@cli.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Work with the queues of piper daemons."""


def app() -> None:
    """Run the command line; what goes wrong is told in one line, and is the exit status."""
    # Or the interpreter looks for cycles in all that was loaded, which takes a quarter of a short command.
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where the caller has closed it
            stream.reconfigure(errors="backslashreplace")  # a name or reason may hold what the locale cannot say
    try:
        try:
            cli()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where what goes wrong can still be told
    except SystemExit as end:
        unusable = end.code == _TYPER_USAGE and not isinstance(end.code, enum.Enum)
        sys.exit(ExitStatus.USAGE if unusable else end.code)
    except PiperError as error:
        # Further lines are indented, so that none can be taken for another message.
        first, *more = map(render.text, str(error).split("\n"))
        print("\n".join([f"piperctl: {first}", *(f"  {line.strip()}" for line in more)]), file=sys.stderr)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        render.end_output()
        sys.exit(ExitStatus.FAILURE)
    except OSError as error:
        print(f"piperctl: {render.reason(error)}", file=sys.stderr)
        render.end_output()
        sys.exit(ExitStatus.FAILURE)
