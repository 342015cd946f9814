"""`piperctl queue edit`: mend a message that is held or a dead letter, and have it tried again."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from piperkit.cli import acting, completing, finding, passing, queues, render
from piperkit.cli.acting import Result
from piperkit.errors import PiperError, QueueError, UsageError
from piperkit.message import Reject, text_of
from piperkit.operating import Entry


def edit(
    queue: Annotated[
        str,
        typer.Argument(metavar="QUEUE", help="The queue.", show_default=False, autocompletion=completing.queue_names),
    ],
    id: Annotated[
        str,
        typer.Argument(metavar="ID", help="The message's id.", show_default=False, autocompletion=completing.ids),
    ],
    contents: Annotated[
        str | None,
        typer.Option("--with", metavar="FILE", help="File with its new contents; -: standard input."),
    ] = None,
    if_passes: Annotated[
        str | None,
        typer.Option(metavar="PROGRAM", help="Only if this daemon program would process it without failing."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it where it is; do not requeue it.")] = False,
) -> None:
    """Edit a message in $VISUAL or $EDITOR, and try it again. It must be held, or a dead letter.

    JSON has to stay JSON, and text text that says something; otherwise nothing is changed.

    Examples:

        piperctl queue edit QUEUE 1790000000.123456789.4711.mail

        piperctl queue edit QUEUE 1790000000.123456789.4711.mail --with mended.json
    """
    view = queues.view(queue)
    entry, old = finding.read(view, id)
    if entry.part not in ("hold", "errors"):
        raise QueueError(f"{render.name(id)} is in {entry.part}; hold it before you edit it: piperctl queue hold")
    program = None if if_passes is None else passing.found(if_passes)
    new = _given(contents) if contents is not None else _edited(old)
    if new == old:
        print("Its contents are the same; nothing was changed")
        return
    _check(old, new)

    def work() -> tuple[Result, bool]:
        if program is not None and not _would_pass(program, entry, new):
            raise PiperError(f"{render.name(id)} would still fail; nothing was changed")
        operator = acting.operator_of(view.path)
        try:
            with operator.batch():
                operator.replace(entry, new)
            if not keep:
                with operator.batch():
                    operator.requeue(view.entry(entry.part, entry.id))
        except FileNotFoundError:
            raise QueueError(f"{render.name(id)} has moved on meanwhile; see piperctl trace") from None
        return Result(done=1), False

    acting.as_owner(view.path, False, work)
    acting.leave_a_line(f"the message {render.name(id)} of {render.name(view.path)} changed", 1)
    print("1 message changed" if keep else "1 message changed and requeued")


def _would_pass(program: str, entry: Entry, new: bytes) -> bool:
    with tempfile.TemporaryDirectory(prefix="piperctl-") as directory:
        path = Path(directory, entry.id)
        path.write_bytes(new)
        return passing.tried(program, [str(path)])[0]


def _given(path: str) -> bytes:
    return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()


def _edited(old: bytes) -> bytes:
    """What an editor makes of it. Raises UsageError, PiperError where there is none, or it fails."""
    if not sys.stdin.isatty():
        raise UsageError("an editor needs a terminal; give the new contents with --with FILE")
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    suffix = ".json" if _is_json(old) else ".txt"
    with tempfile.TemporaryDirectory(prefix="piperctl-") as directory:
        path = Path(directory, f"message{suffix}")
        path.write_bytes(old)
        try:
            done = subprocess.run([*shlex.split(command), path], check=False)
        except OSError as error:
            raise PiperError(f"the editor {command} cannot be run: {error.strerror}; set EDITOR") from None
        if done.returncode:
            raise PiperError(f"the editor {command} ended with status {done.returncode}; nothing was changed")
        new = path.read_bytes()
    # Editors end a file with a newline.
    return new.removesuffix(b"\n") if not old.endswith(b"\n") else new


def _check(old: bytes, new: bytes) -> None:
    """Raises PiperError where a message would become what cannot be meant."""
    try:
        if _is_json(old):
            json.loads(text_of(new))
        elif _is_text(old):
            text_of(new)
    except (ValueError, RecursionError, Reject) as error:
        kind = "JSON" if _is_json(old) else "text"
        raise PiperError(f"it was {kind} and no longer is: {error}; nothing was changed") from None


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _is_text(data: bytes) -> bool:
    try:
        text_of(data)
    except Reject:
        return False
    return True
