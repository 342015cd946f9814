"""A pause: the file `paused` at the queue's root says that nothing is to be claimed, and who said so.

It holds JSON: {"by", "at", "until", "reason"}, times in seconds since the epoch, and "sources_only": true where only
sources are to fetch nothing. A file of that name that holds anything else, such as one that was made by touch(1), means
that nothing is to be claimed. Only the queue's owner, and root, can make it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import time
from typing import Any

from piperkit.dirq import fs
from piperkit.dirq.fs import Directory
from piperkit.dirq.reading import Unreadable, read_json
from piperkit.operating import Paused

_FILE = "paused"


def paused(queue: str) -> Paused | None:
    """Whether the queue at that path is paused now. It may be asked for each batch: it costs a stat(2)."""
    try:
        there = os.lstat(f"{queue}/{_FILE}")
    except OSError:
        return None
    directory = Directory(queue)
    try:
        facts: dict[str, Any] = read_json(directory, _FILE)
    except FileNotFoundError:
        return None
    except (Unreadable, OSError):
        facts = {}
    finally:
        directory.close()
    until = _seconds(facts.get("until"))
    if until is not None and until <= time.time():
        return None
    at = _seconds(facts.get("at")) or there.st_mtime
    by, reason = str(facts.get("by") or f"the file {_FILE}"), str(facts.get("reason") or "")
    return Paused(by, at, until, reason, facts.get("sources_only") is True)


def pause(queue: str, pause: Paused) -> None:
    """Pause the queue, whether or not it is. Atomic. Raises OSError."""
    data = json.dumps(dataclasses.asdict(pause)).encode()
    directory = Directory(queue)
    new = f".{_FILE}.{secrets.token_hex(8)}"
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=directory.fd)
        try:
            os.fchmod(fd, 0o644)  # the queue may be root's, and its daemon has to read it
            fs.write_all(fd, data + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)
        directory.replace(new, directory, _FILE)
        directory.sync()
        with contextlib.suppress(OSError):  # an idle daemon is woken by that, and says that it pauses
            os.utime("incoming", dir_fd=directory.fd, follow_symlinks=False)
    except OSError as error:
        error.filename, error.filename2 = f"{queue}/{_FILE}", None
        with contextlib.suppress(OSError):
            directory.remove(new)
        raise
    finally:
        directory.close()


def resume(queue: str) -> bool:
    """End a pause; returns whether there was one. Raises OSError."""
    directory = Directory(queue)
    try:
        was = paused(queue) is not None
        directory.remove(_FILE)
        directory.sync()
        return was
    finally:
        directory.close()


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
