"""What became of messages, as far as it is kept: lines of JSON in `history`, appended by all who work on the queue.

It is never the truth, only told for people: nothing is read from it but by `piperctl trace`, nothing is synced, and
what cannot be written is left out. A line is written whole (O_APPEND); a file that has grown to FILE_MAX, or was begun
a day ago, gets the time in its name, and those that are too many or too old are removed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from piperkit.dirq import fs
from piperkit.dirq.fs import Directory
from piperkit.dirq.reading import json_object
from piperkit.errors import QueueError

#: Bytes and seconds after which a new file is begun.
FILE_MAX = 16 << 20
FILE_AGE = 86400.0
#: Seconds between looks at how old it is.
_LOOK = 600.0
#: Files that are kept besides the one that is written to.
FILES_MAX = 15
#: Seconds after which such a file is removed.
AGE_MAX = 30 * 86400.0
_NOW = "log"
_LINE_MAX = 1 << 16
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Journal:
    """Appends to the history of a queue.

    directory: of its files.
    """

    def __init__(self, directory: Callable[[], Directory]) -> None:
        self._directory = directory
        self._look = 0.0  #: monotonic time of the next look at its age

    def append(self, lines: list[bytes]) -> None:
        """Write lines, each with its end. Raises nothing for the sake of a history."""
        with contextlib.suppress(OSError, QueueError):
            directory = self._directory()
            if time.monotonic() >= self._look:
                self._look = time.monotonic() + _LOOK
                if _begun(directory) < time.time() - FILE_AGE:
                    self._begin_anew(directory)
            fd = os.open(_NOW, _FLAGS, 0o600, dir_fd=directory.fd)
            try:
                fs.write_all(fd, b"".join(lines))
                full = os.fstat(fd).st_size >= FILE_MAX
            finally:
                os.close(fd)
            # Unless another one has done it just now.
            if full and (stat := directory.stat(_NOW)) is not None and stat.st_size >= FILE_MAX:
                self._begin_anew(directory)

    def _begin_anew(self, directory: Directory) -> None:
        """Begin a new file, and remove those that are too many or too old."""
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            directory.rename(_NOW, directory, f"{_NOW}.{time.time_ns()}")
        files = sorted(name for name in directory.names() if name.startswith(f"{_NOW}."))
        for name in files[:-FILES_MAX]:
            directory.remove(name)
        for name in files[-FILES_MAX:]:
            stat = directory.stat(name)
            if stat is not None and stat.st_mtime < time.time() - AGE_MAX:
                directory.remove(name)


def _begun(directory: Directory) -> float:
    """When the file that is written to was begun, by its first line, in seconds since the epoch; now if it is not."""
    try:
        fd = directory.open(_NOW)
    except FileNotFoundError:
        return time.time()
    with os.fdopen(fd, "rb") as file:
        first = json_object(file.readline(_LINE_MAX)) or {}
    moment = first.get("t")
    return float(moment) if isinstance(moment, int | float) else 0.0


def lines(path: str, containing: bytes = b"") -> Iterator[dict[str, Any]]:
    """The lines of the history in the directory `path` that have these bytes in them, file by file, the oldest first.

    Raises OSError where it cannot be read; what is not a line of a history is left out.
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
                found = json_object(line) if containing in line else None
                if found is not None:
                    yield found
