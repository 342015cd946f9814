"""`piperctl queue requeue`, `rm` and `mv`: act on all messages that are meant, and say what became of each.

Done are those on which the act has taken effect; skipped those that have moved on since they were found, which is no
failure; failed those on which it could not. The exit status is 0 where all were done, 3 where some were, 1 where none
could be. Ctrl-C ends it between two messages, and what was done is told.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import pwd
import signal
import sys
import syslog
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from piperkit.cli import find, render, selecting
from piperkit.cli.interrupts import Interrupts
from piperkit.dirq.acts import RESTING, Operator
from piperkit.dirq.fs import display
from piperkit.dirq.view import Entry
from piperkit.errors import ExitStatus, PiperError, UsageError
from piperkit.selection import Selection

#: Some of the messages could be acted on, and some could not; as rabbitmqadmin has it.
PARTIAL = 3
#: Messages whose acts become durable together.
GROUP = 200

All = Annotated[bool, typer.Option("--all", help="All messages there: needed where nothing else is said.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Change nothing, and show which messages are meant.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@dataclasses.dataclass
class Result:
    """How many messages."""

    done: int = 0
    skipped: int = 0
    failed: int = 0


def requeue(
    queue: Annotated[Path, typer.Argument(metavar="QUEUE", help="The queue's directory.", show_default=False)],
    ids: selecting.Ids = None,
    part: selecting.Part = None,
    older: selecting.Older = None,
    newer: selecting.Newer = None,
    attempts: selecting.Attempts = None,
    reason: selecting.Reason = None,
    where: selecting.Where = None,
    limit: selecting.Limit = None,
    all: All = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Have messages tried again now: dead letters as if they were new, and what was put off.

    Those in errors and deferred, unless --part names one. A message that was requeued says so in its history.

    Examples:

        piperctl queue requeue QUEUE --reason 'host is down' --dry-run

        piperctl queue requeue QUEUE --part errors --older 1h --limit 100

        piperctl queue ls QUEUE errors --ids | grep 2026 | piperctl queue requeue QUEUE -
    """
    chosen = selecting.selection(ids, older, newer, attempts, reason, where)
    parts = _parts(part, ("errors", "deferred"), ("errors", "deferred"))
    _act("requeue", "requeued", queue, parts, chosen, limit, all, dry_run, json, lambda operator: operator.requeue)


def rm(
    queue: Annotated[Path, typer.Argument(metavar="QUEUE", help="The queue's directory.", show_default=False)],
    ids: selecting.Ids = None,
    part: selecting.Part = None,
    older: selecting.Older = None,
    newer: selecting.Newer = None,
    attempts: selecting.Attempts = None,
    reason: selecting.Reason = None,
    where: selecting.Where = None,
    limit: selecting.Limit = None,
    all: All = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Delete messages for good. Those in errors, unless --part names another part.

    Examples:

        piperctl queue rm QUEUE --older 30d --dry-run

        piperctl queue rm QUEUE --part incoming --where type=test
    """
    chosen = selecting.selection(ids, older, newer, attempts, reason, where)
    parts = _parts(part, ("errors",))
    _act("rm", "deleted", queue, parts, chosen, limit, all, dry_run, json, lambda operator: operator.remove)


def mv(
    queue: Annotated[Path, typer.Argument(metavar="QUEUE", help="The queue's directory.", show_default=False)],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="Another queue's directory.", show_default=False)],
    ids: selecting.Ids = None,
    part: selecting.Part = None,
    older: selecting.Older = None,
    newer: selecting.Newer = None,
    attempts: selecting.Attempts = None,
    reason: selecting.Reason = None,
    where: selecting.Where = None,
    limit: selecting.Limit = None,
    all: All = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Move messages to another queue on the same file system. Those in errors, unless --part names another part.

    They keep their ids and arrival, and are new there.

    Examples:

        piperctl queue mv QUEUE TARGET --where type=late

        piperctl queue mv QUEUE TARGET --part incoming --all
    """
    chosen = selecting.selection(ids, older, newer, attempts, reason, where)
    parts = _parts(part, ("errors",))
    there = os.path.realpath(find.open_view(target).path)
    if there == os.path.realpath(queue):
        raise UsageError(f"{render.name(os.fspath(target))} is the queue itself; to have messages tried again: requeue")

    def move(operator: Operator) -> Callable[[Entry], None]:
        return lambda entry: operator.move(entry, there)

    _act("mv", "moved", queue, parts, chosen, limit, all, dry_run, json, move)


def _parts(part: str | None, by_default: tuple[str, ...], allowed: tuple[str, ...] = RESTING) -> tuple[str, ...]:
    if part is None:
        return by_default
    if part not in allowed:
        raise UsageError(f"--part {part}: must be one of {', '.join(allowed)}")
    return (part,)


def _act(
    command: str,
    word: str,
    queue: Path,
    parts: tuple[str, ...],
    chosen: Selection,
    limit: int | None,
    all: bool,
    dry_run: bool,
    json: bool,
    act: Callable[[Operator], Callable[[Entry], None]],
) -> None:
    if chosen.everything and limit is None and not all:
        raise UsageError(f"say which messages to {command}, or --all; --dry-run shows which are meant")
    view = find.open_view(queue)
    if dry_run:
        number = 0
        for entry in selecting.meant(view, parts, chosen, limit):
            number += 1
            render.as_json(render.facts(entry)) if json else print(_line(entry))
        if not json:
            print(f"{render.number(number, 'message')} would be {word}; nothing was changed")
        return
    who = _who()
    _become_owner(view.path)
    result = Result()
    interrupted = False
    absent = 0
    operator = Operator(view.path, who)
    with Interrupts() as interrupts:
        try:
            found = selecting.meant(view, parts, chosen, limit, interrupts.check)
            while group := list(itertools.islice(found, GROUP)):
                with operator.batch():
                    for entry in group:
                        interrupts.check()
                        _one(act(operator), entry, result)
            if limit is None:
                absent = max(0, len(chosen.ids) - result.done - result.skipped - result.failed)
        except KeyboardInterrupt:
            interrupted = True
    result.failed += absent
    if absent:
        where = ", ".join(parts)
        words = f"{render.number(absent, 'id')} named no message in {where} that meets all criteria"
        print(f"piperctl: {words}", file=sys.stderr)
    _tell(command, word, view.path, who, result, interrupted, json)


def _one(act: Callable[[Entry], None], entry: Entry, result: Result) -> None:
    try:
        act(entry)
        result.done += 1
    except FileNotFoundError:
        result.skipped += 1
    except (OSError, PiperError) as error:
        result.failed += 1
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        print(f"piperctl: {render.name(entry.id)}: {render.text(said)}", file=sys.stderr)


def _tell(command: str, word: str, path: str, who: str, result: Result, interrupted: bool, json: bool) -> None:
    if result.done:
        shown = render.name(path)
        syslog.openlog("piperctl")
        syslog.syslog(syslog.LOG_NOTICE, f"{who}: {render.number(result.done, 'message')} of {shown} {word}")
    if json:
        render.as_json({"queue": display(path), "act": command, **dataclasses.asdict(result)})
    else:
        parts = [f"{render.number(result.done, 'message')} {word}"]
        parts += [f"{result.skipped} skipped, since they have moved on"] if result.skipped else []
        parts += [f"{result.failed} could not be"] if result.failed else []
        print("; ".join(parts))
    if interrupted:
        print("piperctl: interrupted", file=sys.stderr)
        raise typer.Exit(128 + signal.SIGINT)
    if result.failed:
        raise typer.Exit(PARTIAL if result.done else ExitStatus.FAILURE)


def _line(entry: Entry) -> str:
    reason = f"  {render.text(entry.reason)}" if entry.reason else ""
    return f"{entry.part}  {render.name(entry.id)}{reason}"


def _who() -> str:
    """Who acts: the name of the account, and of the one that sudo(8) was called by."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"#{os.getuid()}"
    by = os.environ.get("SUDO_USER") if os.geteuid() == 0 else None
    return f"{name} ({render.text(by)})" if by else name


def _become_owner(path: str) -> None:
    """As root, become the account that works on the queue: what is written there has to belong to it."""
    if os.geteuid() == 0:
        from piperkit.doctor import subjects  # here: the daemon comes with it

        account = subjects.owner(path)
        if account is not None and account.uid > 0:
            account.become()
    if not os.access(f"{path}/errors", os.W_OK | os.X_OK, effective_ids=True):
        raise PiperError(f"you may not act on the messages of {render.name(path)}: do it as its owner, or with sudo")
