"""What operators do with messages: `piperctl queue requeue`, `hold`, `release`, `banish`, `rm` and `mv`.

Each acts on all selected messages and says how many were done, how many were skipped because they have moved on since
they were found, which is not a failure, and how many failed. The exit status is 0 if all were done, 3 if some were, and
1 if none could be. Ctrl-C ends the command between two messages, and it still says what was done. Each command leaves a
line in the system's log.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from piperkit.cli import acting, passing, queues, render, selecting, spools
from piperkit.cli.acts import ACTS
from piperkit.engines import is_address
from piperkit.errors import UsageError
from piperkit.operating import RESTING

Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="Why, for its history.")]


def requeue(
    named: acting.Named,
    part: selecting.Part = None,
    if_passes: Annotated[
        str | None,
        typer.Option(
            metavar="PROGRAM",
            help="Only messages that this daemon program would now process without failing; it tries each.",
        ),
    ] = None,
    *,
    criteria: selecting.Criteria,
    how: acting.How,
) -> None:
    """Try messages again now: dead letters as if they were new, and deferred messages.

    Those in errors and deferred, unless --part names one. A message that was requeued says so in its history.

    Examples:

        piperctl queue requeue QUEUE --reason 'host is down' --dry-run

        piperctl queue requeue QUEUE --part errors --older 1h --rate 100/s

        piperctl queue requeue QUEUE --reason KeyError --if-passes /usr/local/bin/mydaemon

        piperctl queue ls QUEUE errors --ids | grep 2026 | piperctl queue requeue QUEUE -
    """
    passes = passing.by(if_passes) if if_passes is not None else None
    _perform("requeue", named, part, criteria, how, passes=passes)


def hold(
    named: acting.Named,
    part: selecting.Part = None,
    why: Why = "",
    *,
    criteria: selecting.Criteria,
    how: acting.How,
) -> None:
    """Hold waiting messages until they are released. They go to the part hold.

    Those in incoming and deferred, unless --part names one.

    Examples:

        piperctl queue hold QUEUE --where type=test --why 'until the test database is up'

        piperctl queue hold QUEUE 1790000000.123456789.4711.mail
    """
    _perform("hold", named, part, criteria, how, why)


def release(
    named: acting.Named,
    *,
    criteria: selecting.Criteria,
    how: acting.How,
) -> None:
    """Release held messages. Their attempts are still counted.

    Examples:

        piperctl queue release QUEUE --all --rate 50/s
    """
    _perform("release", named, None, criteria, how)


def banish(
    named: acting.Named,
    part: selecting.Part = None,
    why: Why = "",
    *,
    criteria: selecting.Criteria,
    how: acting.How,
) -> None:
    """Make messages dead letters: those in incoming, deferred and hold, unless --part names a part.

    Examples:

        piperctl queue banish QUEUE --where customer=4711 --why 'their disk is broken'
    """
    _perform("banish", named, part, criteria, how, why)


def rm(
    named: acting.Named,
    part: selecting.Part = None,
    *,
    criteria: selecting.Criteria,
    how: acting.How,
) -> None:
    """Delete messages for good: those in errors, unless --part names another part.

    Examples:

        piperctl queue rm QUEUE --older 30d --dry-run

        piperctl queue rm QUEUE --part incoming --where type=test
    """
    _perform("rm", named, part, criteria, how)


def mv(
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="The queue.", show_default=False)],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Another queue.", show_default=False)],
    ids: selecting.Ids = None,
    part: selecting.Part = None,
    *,
    criteria: selecting.Criteria,
    how: acting.How,
) -> None:
    """Move messages to another queue on the same file system: those in errors, unless --part names another part.

    They keep their ids and arrival, and are new there. Between a directory and a database, what has not failed is
    moved by default: in incoming, deferred and hold. Cut off there, do it again: what was on its way is in hold.

    Examples:

        piperctl queue mv QUEUE TARGET --where type=late

        piperctl queue mv QUEUE TARGET --part incoming --all

        piperctl queue mv /var/spool/mail 'postgresql://db1/spool?queue=mail' --all
    """
    if how.spool is not None:
        raise UsageError("--spool does not go with this: name the one queue to move messages out of")
    there, here = _real(queues.view(target).path), _real(spools.path(queue))
    if there == here:
        raise UsageError(f"{render.name(target)} is the queue itself; to have messages tried again: requeue")
    by_default = ("errors",) if is_address(there) == is_address(here) else ("incoming", "deferred", "hold")
    where = _parts(part, by_default)
    named = acting.Named(queue, ids)
    acting.perform("mv", "moved", named, where, criteria, how, lambda operator, entry: operator.move(entry, there))


def _perform(
    name: str,
    named: acting.Named,
    part: str | None,
    criteria: selecting.Criteria,
    how: acting.How,
    why: str = "",
    passes: passing.Passing | None = None,
) -> None:
    kind = ACTS[name]
    where = _parts(part, kind.usual, kind.parts)
    acting.perform(name, kind.word, named, where, criteria, how, lambda at, entry: kind.do(at, entry, why), passes)


def _real(queue: str) -> str:
    return queue if is_address(queue) else os.path.realpath(queue)


def _parts(part: str | None, by_default: tuple[str, ...], allowed: tuple[str, ...] = RESTING) -> tuple[str, ...]:
    if part is None:
        return by_default
    if part not in allowed:
        raise UsageError(f"--part {part}: must be one of {', '.join(allowed)}")
    return (part,)
