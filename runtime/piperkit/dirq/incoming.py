"""Which message to claim next: the oldest, without every instance running for the same one.

The directory is the truth; the sorted window kept here is a hint, so that a queue of a million messages is neither
listed for each claim nor held in memory. The window is the oldest names of a listing, and is listed anew when it is
used up, or old.

Instances share the work out without talking to each other. Each knows how many there are and which of them it is (see
`instances`), and first takes its own part of the names, by a checksum of the name. What others have left lying since an
earlier window (they are busy, or dead) anybody takes. Who finds nothing else takes of another's part, from its far
end. One instance alone takes everything, the oldest first.
"""

from __future__ import annotations

import logging
import os
import random
import time
import zlib
from collections.abc import Callable

from piperkit.dirq.fs import display
from piperkit.dirq.names import is_ours, sort_key

#: Seconds until another look at messages that were skipped because somebody else was at them.
SOON = 0.02
#: Names in a window; each takes about 100 bytes. To list a million names costs as much as to pass on some 10,000.
WINDOW = 50_000
#: A window is listed anew after this many seconds, or this many times what its listing took.
_FRESH, _FRESH_TIMES = 1.0, 50.0
#: Names of another instance's part that are taken at once, out of so many that are looked at.
_STOLEN, _LOOKED_AT = 32, 1000
#: Names in a row that others have taken, after which the window is listed anew.
_MISSES = 4
_REPORTS_MAX = 1000

#: Which of how many instances this one is, from 0.
Share = tuple[int, int]


class Incoming:
    """The candidates in `incoming`, oldest first; `share` says which of how many instances this is."""

    def __init__(self, path: str, logger: logging.Logger, share: Callable[[], Share]) -> None:
        self.path = path
        self._logger = logger
        self._share = share
        self._window: list[str] = []  # the oldest last
        self._stale = float("-inf")  #: when the window is old
        self._reach = ("", "")  #: the last names of the last two windows
        self._misses = 0
        self._reported: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._window)

    def pop(self) -> str:
        """The next candidate; there has to be one."""
        return self._window.pop()

    def refresh(self) -> None:
        """Forget a window that is old: there may be older messages by now."""
        if self._window and time.monotonic() > self._stale:
            self._window = []

    def missed(self) -> None:
        """Somebody else has taken the candidate."""
        self._misses += 1
        if self._misses >= _MISSES:
            self._window = []

    def scan(self) -> None:
        """List the directory anew."""
        began = time.monotonic()
        which, many = self._share()
        earlier, self._reach = self._reach[0], (self._reach[1], "")
        oldest = Oldest(WINDOW)
        others: list[str] = []
        with os.scandir(self.path) as entries:
            for entry in entries:
                name = entry.name
                if name > oldest.limit:
                    continue
                if name.startswith("."):
                    self.report(name, "its name begins with a dot")
                elif not entry.is_file(follow_symlinks=False):
                    self.report(name, "it is not a regular file")
                elif many == 1 or name <= earlier or zlib.crc32(os.fsencode(name)) % many == which:
                    oldest.add(name)
                elif len(others) < _LOOKED_AT:
                    others.append(name)
        names = oldest.names()
        if names:
            self._reach = (self._reach[0], names[-1])
        elif others:
            # Far from where its own instance is, and not where the next one who has nothing to do begins.
            others.sort(key=sort_key)
            start = random.randrange(len(others) // 2, len(others))
            names = others[start : start + _STOLEN]
        names.reverse()
        self._window = names
        self._misses = 0
        now = time.monotonic()
        self._stale = now + max(_FRESH, _FRESH_TIMES * (now - began))

    def report(self, name: str, why: str) -> None:
        """Say once that something in the directory is no message, and is left alone."""
        if name not in self._reported:
            if len(self._reported) >= _REPORTS_MAX:
                self._reported.clear()
            self._reported.add(name)
            self._logger.warning("%s: left alone, since %s", display(os.path.join(self.path, name)), why)


class Oldest:
    """The `size` oldest of the names that are added, in room for twice as many."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._new: list[str] = []
        self._ours: list[str] = []
        self._foreign: list[str] = []
        #: What is later than this, as text, cannot be among them.
        self.limit = "\U0010ffff"

    def add(self, name: str) -> None:
        self._new.append(name)
        if len(self._new) >= self._size:
            self._sort()

    def names(self) -> list[str]:
        """They, the oldest first."""
        self._sort()
        return self._ours + self._foreign

    def _sort(self) -> None:
        new, self._new = self._new, []
        ours = list(filter(is_ours, new))
        if len(ours) < len(new):
            self._foreign += [name for name in new if not is_ours(name)]
        self._ours += ours
        self._ours.sort()
        del self._ours[self._size :]
        self._foreign.sort()
        del self._foreign[self._size - len(self._ours) :]
        if len(self._ours) == self._size:
            self.limit = self._ours[-1]
