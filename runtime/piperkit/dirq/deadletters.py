"""The dead letters: messages in `errors`, and the JSON beside each that says why.

The sidecar of NAME is NAME.meta. It has a hidden name (no message's name begins with a dot) while the message is on
its way, and for good where NAME.meta would be too long, or could be mistaken, or is a message itself.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

from piperkit.dirq import fs
from piperkit.dirq.names import NAME_MAX

_SUFFIX = ".meta"


def hidden_sidecar(name: str) -> str:
    """The sidecar's hidden name."""
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:40]}{_SUFFIX}"


def plain_sidecar(name: str) -> str | None:
    """The sidecar's name by the protocol, where the message can have it."""
    fits = len(os.fsencode(name)) + len(_SUFFIX) <= NAME_MAX
    return name + _SUFFIX if fits and not name.endswith(_SUFFIX) else None


def show_sidecar(errors: str, name: str) -> None:
    """Give a message's sidecar its plain name, if it can have it; the hidden one is as good. Idempotent."""
    plain = plain_sidecar(name)
    if plain is not None:
        try:
            fs.rename_exclusive(os.path.join(errors, hidden_sidecar(name)), os.path.join(errors, plain))
        except OSError:
            pass


def messages(names: set[str]) -> set[str]:
    """Of the names of all regular files in `errors`, those of messages."""

    def is_sidecar(name: str) -> bool:
        owner = name.removesuffix(_SUFFIX)
        return (
            owner != name
            and owner in names
            and hidden_sidecar(name) not in names  # then it is a message, with a sidecar of its own
            and hidden_sidecar(owner) not in names  # then its owner's sidecar is that one
        )

    return {name for name in names if not name.startswith(".") and not is_sidecar(name)}


def report(errors: str, name: str) -> dict[str, Any] | None:
    """Why the message `name` is in `errors`; None where nothing (readable) says so."""
    for sidecar in (hidden_sidecar(name), plain_sidecar(name)):
        if sidecar is not None:
            found = _read(os.path.join(errors, sidecar))
            if found is not None:
                return found
    return None


def expire(errors: str, before: float) -> int:
    """Delete the messages that were banished before that moment (seconds since the epoch); returns how many."""
    with os.scandir(errors) as entries:
        names = {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}
    found = messages(names)
    expired = 0
    for name in found:
        path = os.path.join(errors, name)
        try:
            if os.stat(path, follow_symlinks=False).st_ctime >= before:
                continue  # rename(2) sets the ctime, so it is the time of the banishment
        except FileNotFoundError:
            continue
        fs.unlink_if_there(path)
        for sidecar in (hidden_sidecar(name), plain_sidecar(name)):
            if sidecar is not None and sidecar not in found:
                fs.unlink_if_there(os.path.join(errors, sidecar))
        expired += 1
    return expired


def tidy(errors: str, old_enough: Callable[[os.stat_result], bool]) -> int:
    """Finish banishments that were cut off: show or remove hidden sidecars; returns how many were removed."""
    removed = 0
    with os.scandir(errors) as entries:
        hidden = [entry for entry in entries if entry.name.startswith(".") and entry.name.endswith(_SUFFIX)]
    for entry in hidden:
        name = (_read(entry.path) or {}).get("id")
        if not isinstance(name, str) or hidden_sidecar(name) != entry.name:
            continue
        if os.path.lexists(os.path.join(errors, name)):
            show_sidecar(errors, name)
        else:
            stat = fs.status(entry)
            if stat is not None and old_enough(stat):
                fs.unlink_if_there(entry.path)
                removed += 1
    return removed


def _read(path: str) -> dict[str, Any] | None:
    try:
        fd = fs.open_message(path)
    except OSError:
        return None
    try:
        found = json.loads(fs.read_all(fd, os.fstat(fd).st_size))
    except ValueError:
        return None
    finally:
        os.close(fd)
    return found if isinstance(found, dict) else None
