"""`piperctl`, the runtime's command line: queues by hand."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from typing import Annotated

import typer

from piperkit.cli import queue
from piperkit.errors import ExitStatus, PiperError

cli = typer.Typer(
    name="piperctl",
    help="Work with the queues of piper daemons.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli.add_typer(queue.commands, name="queue")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"piperctl {importlib.metadata.version('piperkit')}")
        raise typer.Exit


@cli.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version, and end.")
    ] = False,
) -> None:
    """Work with the queues of piper daemons."""


def app() -> None:
    """Run the command line; what goes wrong is told in one line, and is the exit status."""
    try:
        cli()
    except PiperError as error:
        print(f"piperctl: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        # The reader has seen enough. Python would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"piperctl: {error.filename or ''}: {error.strerror or error}".replace(": :", ":"), file=sys.stderr)
        sys.exit(ExitStatus.FAILURE)
