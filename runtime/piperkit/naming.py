"""What may be a message's name, how ours are made, and how names sort.

An id is the message's file name and stays the same from queue to queue. Ours are

    SECONDS.NANOSECONDS.PID.HOST      e.g. 1790000000.123456789.4711.mail

the moment of their making (since the epoch), so that they sort by arrival as text until the year 2286; within
a process no two have the same moment, and no two processes have the same pid on one host at one moment. Where
hosts or containers share a queue under one host name, a name that is taken is never replaced: the next is used.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable

from piperkit.errors import InvalidId

#: The longest name, in bytes, that Linux file systems take (NAME_MAX, limits.h).
NAME_MAX = 255

#: Whether (truth) a name is one that `Ids` makes.
is_ours = re.compile(r"[0-9]{10}\.[0-9]{9}\.[0-9]+\.[^/]+").fullmatch


def check_id(name: object) -> str:
    """Return `name` if it can be a message's; raises InvalidId otherwise. Call it before making a path of it."""
    if not isinstance(name, str):
        raise InvalidId(f"a message id is text, not {type(name).__name__}")
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise InvalidId(f"{name!r} cannot be a message's id: it must not be empty, begin with a dot or hold a slash")
    try:
        size = len(os.fsencode(name))
    except UnicodeEncodeError:
        raise InvalidId(f"{name!r} cannot be a message's id: it stands for no bytes") from None
    if size > NAME_MAX:
        raise InvalidId(f"a message id of {size} bytes is longer than {NAME_MAX}")
    return name


def sort_key(name: str) -> tuple[bool, str]:
    """Oldest first: ours by arrival, then foreign names by name."""
    return is_ours(name) is None, name


def moment(name: str) -> float:
    """When a message with a name of ours was made, in seconds since the epoch."""
    seconds, nanoseconds, _ = name.split(".", 2)
    return int(seconds) + int(nanoseconds) / 1e9


class First:
    """The first of many names, in the order of `sort_key`; few names are looked at more closely than as text."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ours: list[str] = []
        self._foreign: list[str] = []
        self.number = 0  #: of all names

    def add(self, found: list[str]) -> None:
        """See these, too."""
        self.number += len(found)
        if len(self._ours) == self._limit:
            last = self._ours[-1]
            found = [name for name in found if name < last]
        ours: list[str] = []
        foreign: list[str] = []
        for name in sorted(found):
            if is_ours(name):
                ours.append(name)
                if len(ours) == self._limit:
                    break  # those that follow, ours or not, come after these
            else:
                foreign.append(name)
        self._ours = sorted(self._ours + ours)[: self._limit]
        self._foreign = sorted(self._foreign + foreign)[: self._limit]

    def names(self) -> list[str]:
        """The first ones, in order."""
        return (self._ours + self._foreign)[: self._limit]


class Ids:
    """Makes ids that are unique per host, process and time."""

    def __init__(
        self, host: str | None = None, pid: int | None = None, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self.host = re.sub(r"[^A-Za-z0-9_-]", "-", host or socket.gethostname())[:64] or "localhost"
        self._pid = pid
        self._clock = clock
        self._last = 0

    def new(self) -> str:
        """A new id, later than every one before it, even where the clock was set back."""
        self._last = max(self._last + 1, self._clock())
        seconds, nanoseconds = divmod(self._last, 1_000_000_000)
        # The pid is asked for each time: a queue may be made before a daemon forks into the background.
        return f"{seconds:010d}.{nanoseconds:09d}.{self._pid or os.getpid()}.{self.host}"
