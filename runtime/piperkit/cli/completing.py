"""What a shell offers for a word that is being typed: queues, parts and ids. Whatever fails, nothing is offered."""

from __future__ import annotations

import contextlib
import itertools
import os

import typer

from piperkit import engines
from piperkit.cli import spools
from piperkit.dirq.fs import display
from piperkit.dirq.layout import each_message, is_queue
from piperkit.errors import PiperError
from piperkit.operating import HOLDING, RESTING

#: Ids that are offered of a part.
_MOST = 200


def queue_names(incomplete: str) -> list[str]:
    """Queues in the spool by their names, and directories that are queues or lead to some."""
    found: list[str] = []
    with contextlib.suppress(OSError, PiperError):
        if "/" not in incomplete:
            names = map(engines.short_name, engines.spool(spools.default()))
            found += [name for name in names if name.startswith(incomplete)]
    with contextlib.suppress(OSError):
        above, beginning = os.path.split(incomplete)
        for entry in os.scandir(above or "."):
            if entry.name.startswith(beginning) and entry.is_dir():
                shown = os.path.join(above, entry.name)
                found.append(shown if is_queue(entry.path) else f"{shown}/")
    return sorted(set(found))


def parts(incomplete: str) -> list[str]:
    """The parts of a queue in which messages are."""
    return [part for part in HOLDING if part.startswith(incomplete)]


def resting(incomplete: str) -> list[str]:
    """Those in which nobody works on them."""
    return [part for part in RESTING if part.startswith(incomplete)]


def ids(context: typer.Context, incomplete: str) -> list[str]:
    """Messages of the queue that is named before."""
    with contextlib.suppress(OSError, PiperError, TypeError, AttributeError):
        where = spools.path(context.params["queue"])
        found = itertools.chain.from_iterable(each_message(where, part) for part in reversed(HOLDING))
        return sorted(itertools.islice((display(id) for id in found if id.startswith(incomplete)), _MOST))
    return []
