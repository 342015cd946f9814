"""The dead letters: messages in `errors`, and the JSON beside each that says why.

The sidecar of NAME is NAME.meta. It has a hidden name (no message's name begins with a dot) while the message is on
its way, and for good where NAME.meta would be too long, or could be mistaken, or is a message itself.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from typing import Any

from piperkit import naming
from piperkit.dirq.fs import Directory
from piperkit.dirq.reading import ASIDE, Notices, Unreadable, read_json
from piperkit.errors import InvalidId
from piperkit.naming import NAME_MAX

_SUFFIX = ".meta"


def hidden_sidecar(name: str) -> str:
    """The sidecar's hidden name."""
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:40]}{_SUFFIX}"


def plain_sidecar(name: str) -> str | None:
    """The sidecar's name by the protocol, where the message can have it."""
    fits = len(os.fsencode(name)) + len(_SUFFIX) <= NAME_MAX
    return name + _SUFFIX if fits and not name.endswith(_SUFFIX) else None


def show_sidecar(errors: Directory, name: str) -> None:
    """Give a message's sidecar its plain name, if it can have it; the hidden one is as good. Idempotent."""
    plain = plain_sidecar(name)
    if plain is not None:
        try:
            errors.rename(hidden_sidecar(name), errors, plain)
        except OSError:
            pass


def is_message(errors: str) -> Callable[[str], bool]:
    """Tells messages in that directory from sidecars, by their visible names."""

    def there(name: str) -> bool:
        return os.path.lexists(f"{errors}/{name}")

    return lambda name: not _is_sidecar(name, there)


def messages(names: set[str]) -> set[str]:
    """Of the names of all regular files in `errors`, those of messages."""
    there = names.__contains__
    return {name for name in names if not name.startswith(".") and not _is_sidecar(name, there)}


def _is_sidecar(name: str, there: Callable[[str], bool]) -> bool:
    owner = name.removesuffix(_SUFFIX)
    return (
        owner != name
        and there(owner)
        and not there(hidden_sidecar(name))  # then it is a message, with a sidecar of its own
        and not there(hidden_sidecar(owner))  # then its owner's sidecar is that one
    )


def report(errors: Directory, name: str) -> dict[str, Any] | None:
    """Why the message `name` is in `errors`; None where nothing readable says so."""
    for sidecar in (hidden_sidecar(name), plain_sidecar(name)):
        if sidecar is not None:
            try:
                return read_json(errors, sidecar)
            except (FileNotFoundError, Unreadable):
                continue
    return None


def expire(errors: Directory, found: Iterable[str], before: float, notices: Notices) -> int:
    """Of these files, delete messages that were banished before that moment (seconds since the epoch), with what is
    beside them; returns how many. One that cannot be deleted is said once, and passed by.
    """
    expired = 0
    for name in found:
        # rename(2) sets the ctime, so it is the time of the banishment
        stat = None if name.startswith(".") else errors.stat(name)
        if stat is None or stat.st_ctime >= before or _is_sidecar(name, errors.has):
            continue
        try:
            errors.remove(name)
            errors.remove(hidden_sidecar(name))
            plain = plain_sidecar(name)
            if plain is not None and not errors.has(hidden_sidecar(plain)):  # which would be a message's
                errors.remove(plain)
            expired += 1
        except OSError as error:
            notices.say(errors.at(name), f"it cannot be deleted: {error.strerror}")
    return expired


def tidy(
    errors: Directory, found: Iterable[str], old_enough: Callable[[os.stat_result], bool], notices: Notices
) -> int:
    """Of these files, finish banishments that were cut off: show or remove hidden sidecars; returns how many were
    removed.
    """
    removed = 0
    for sidecar in found:
        if not sidecar.startswith(".") or not sidecar.endswith(_SUFFIX) or sidecar.startswith(ASIDE):
            continue
        try:
            name = naming.check_id(read_json(errors, sidecar).get("id"))
            if hidden_sidecar(name) != sidecar:
                raise Unreadable("it is not named after its message")
        except FileNotFoundError:
            continue
        except (Unreadable, InvalidId) as error:
            notices.move_aside(errors, sidecar, error)
            continue
        if errors.has(name):
            show_sidecar(errors, name)
        elif (stat := errors.stat(sidecar)) is not None and old_enough(stat):
            errors.remove(sidecar)
            removed += 1
    return removed
