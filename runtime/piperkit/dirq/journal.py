"""What became of messages, as far as it is kept: lines of JSON in `history`, appended by all who work on the queue.

It is never the truth, only told for people: nothing is read from it but by `piperctl trace`, nothing is synced, and
what cannot be written is left out. A line is written whole (O_APPEND); a file that has grown to FILE_MAX gets the time
in its name, and those that are too many or too old are removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from piperkit.dirq import fs
from piperkit.dirq.fs import Directory
from piperkit.errors import QueueError

#: Bytes after which a new file is begun.
FILE_MAX = 16 << 20
#: Files that are kept besides the one that is written to.
FILES_MAX = 15
#: Seconds after which such a file is removed.
AGE_MAX = 30 * 86400.0
_NOW = "log"
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Journal:
    """Appends to the history of a queue.

    directory: of its files.
    """

    def __init__(self, directory: Callable[[], Directory]) -> None:
        self._directory = directory

    def append(self, lines: list[bytes]) -> None:
        """Write lines, each with its end. Raises nothing for the sake of a history."""
        with contextlib.suppress(OSError, QueueError):
            directory = self._directory()
            fd = os.open(_NOW, _FLAGS, 0o600, dir_fd=directory.fd)
            try:
                fs.write_all(fd, b"".join(lines))
                full = os.fstat(fd).st_size >= FILE_MAX
            finally:
                os.close(fd)
            if full:
                self._begin_anew(directory)

    def _begin_anew(self, directory: Directory) -> None:
        stat = directory.stat(_NOW)
        if stat is not None and stat.st_size >= FILE_MAX:  # unless another one has done it just now
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                directory.rename(_NOW, directory, f"{_NOW}.{time.time_ns()}")
        self.expire()

    def expire(self) -> None:
        """Remove what is too much, or too old."""
        with contextlib.suppress(OSError, QueueError):
            directory = self._directory()
            files = sorted(name for name in directory.names() if name.startswith(f"{_NOW}."))
            for name in files[:-FILES_MAX]:
                directory.remove(name)
            for name in files[-FILES_MAX:]:
                stat = directory.stat(name)
                if stat is not None and stat.st_mtime < time.time() - AGE_MAX:
                    directory.remove(name)


def lines(path: str, containing: bytes = b"") -> Iterator[dict[str, Any]]:
    """The lines of the history in the directory `path` that have these bytes in them, file by file, the oldest first.

    Raises OSError where it cannot be read; what is no line of a history is left out.
    """
    try:
        names = sorted(os.listdir(path), key=lambda name: (name == _NOW, name))
    except FileNotFoundError:
        return
    for name in names:
        if name != _NOW and not name.startswith(f"{_NOW}."):
            continue
        with contextlib.suppress(FileNotFoundError), open(f"{path}/{name}", "rb") as file:
            for line in file:
                found = _parsed(line) if containing in line else None
                if found is not None:
                    yield found


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
