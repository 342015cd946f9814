"""Reading the small files of a queue that others may have written, and what becomes of those that make no sense.

There is one reader. It opens regular files only, reads a bounded number of bytes, and can say one thing besides their
contents: `Unreadable`. Such a file stops nothing; it is moved aside, to a hidden name where it is, and said once.
"""

from __future__ import annotations

import json
import logging
import os
from typing import Any

from piperkit.dirq import fs
from piperkit.dirq.fs import Directory
from piperkit.errors import QueueError

#: Bytes that a record or a sidecar may have: our own are far smaller.
RECORD_MAX = 4 << 20
#: What the name of a file begins with that was moved aside.
ASIDE = ".unreadable."
#: Things that are remembered as said.
_SAID_MAX = 1000


class Unreadable(QueueError):
    """A file that is not what should be there, whatever else it is."""


def read_small(directory: Directory, name: str, most: int = RECORD_MAX) -> bytes:
    """The contents of a regular file of up to `most` bytes.

    Raises FileNotFoundError, Unreadable, and OSError for what is no fault of the file's, such as EMFILE.
    """
    try:
        try:
            fd = directory.open(name, os.O_NOATIME)  # a record's access time says when its message was put off
        except PermissionError:
            fd = directory.open(name)  # somebody else's
        try:
            stat = os.fstat(fd)
            if stat.st_uid not in (0, os.geteuid(), os.fstat(directory.fd).st_uid):
                raise Unreadable(f"{fs.display(directory.at(name))} is of uid {stat.st_uid}, who has no say here")
            data = os.read(fd, most + 1) if stat.st_size <= most else None
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno not in fs.NO_MESSAGE and error.errno not in fs.OF_ONE_FILE:
            raise
        raise Unreadable(f"{fs.display(directory.at(name))}: {error.strerror}") from error
    if data is None or len(data) > most:
        raise Unreadable(f"{fs.display(directory.at(name))} has more than {most} bytes")
    return data


def read_json(directory: Directory, name: str) -> dict[str, Any]:
    """A small file's JSON object. Raises FileNotFoundError, Unreadable."""
    data = read_small(directory, name)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{fs.display(directory.at(name))} is not JSON: {type(error).__name__}") from error
    if not isinstance(value, dict):
        raise Unreadable(f"{fs.display(directory.at(name))} holds no JSON object")
    return value


def json_object(data: bytes) -> dict[str, Any] | None:
    """The JSON object that these bytes are; None where they are none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class Notices:
    """Says what is wrong with files, once for each, and moves aside what cannot be read."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._said: set[str] = set()

    def say(self, path: str, text: str, level: int = logging.WARNING) -> None:
        """Log a text about a file, unless the same was said of it before."""
        line = f"{fs.display(path)}: {text}"
        if line not in self._said:
            if len(self._said) >= _SAID_MAX:
                self._said.clear()
            self._said.add(line)
            self._logger.log(level, "%s", line)

    def move_aside(self, directory: Directory, name: str, why: Exception) -> None:
        """Give an unreadable file a hidden name, so that it is met no more; where that cannot be, it is passed by."""
        hidden = f"{ASIDE}{os.fsencode(name)[:200].decode('utf-8', 'replace').lstrip('.')}"
        try:
            directory.rename(name, directory, hidden)
        except FileExistsError:
            try:  # what has been there longest is kept; there cannot be more and more of them
                directory.unlink(name)
            except OSError as error:
                self.say(directory.at(name), f"it cannot be removed: {error.strerror}; it is passed by")
            return
        except FileNotFoundError:
            return
        except OSError as error:
            self.say(directory.at(name), f"unreadable ({why}), and it cannot be moved aside: {error.strerror}")
            return
        self.say(directory.at(name), f"unreadable, and moved aside as {fs.display(hidden)}: {why}")
