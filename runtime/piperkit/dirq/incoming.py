"""Which message to claim next: the oldest, without every instance running for the same one.

The directory is the truth; the sorted window kept here is a hint, so that a queue of a million messages is neither
listed for each claim nor held in memory. The window is the oldest names of a listing, and is listed anew when it is
used up, or old.

Instances share the work out without talking to each other. Each knows how many there are and which of them it is (see
`instances`), and first takes its own part of the names, by a checksum of the name. What others have left lying since an
earlier window (they are busy, or dead) anybody takes. Who finds nothing else helps the others: there too each has a
part of its own, so that those who help meet nobody but the one who is helped, and they begin at the far end. One
instance alone takes everything, the oldest first.
"""

from __future__ import annotations

import itertools
import logging
import os
import random
import time
import zlib
from collections.abc import Callable

from piperkit.dirq.fs import Directory, display, encode
from piperkit.dirq.names import is_ours, sort_key

#: Seconds until another look at messages that were skipped because somebody else was at them.
SOON = 0.02
#: Names in a window; each takes about 100 bytes. To list a million names costs as much as to pass on some 20,000.
WINDOW = 150_000
#: A window is listed anew after this many seconds, or this many times what its listing took.
_FRESH, _FRESH_TIMES = 1.0, 50.0
#: Names that are taken at once of what is in nobody's part but another's.
_HELP = 32
#: Names in a row that others have taken, after which the window is listed anew.
_MISSES = 4
_REPORTS_MAX = 1000

#: Which of how many instances this one is, from 0.
Share = tuple[int, int]


class Incoming:
    """The candidates in `incoming`, oldest first; `share` says which of how many instances this is."""

    def __init__(self, path: str, logger: logging.Logger, share: Callable[[], Share]) -> None:
        self.directory = Directory(path)
        self._logger = logger
        self._share = share
        self._window: list[str] = []  # the oldest last
        self._stale = float("-inf")  #: when the window is old
        self._helping = False  #: what is in the window is in no part of ours
        self._last = ""  #: the last candidate of our own part
        self._reach = ("", "")  #: how far that went in the last two windows
        self._misses = 0
        self._reported: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._window)

    def pop(self) -> str | None:
        """The next candidate; None where the window is used up."""
        if not self._window:
            return None
        name = self._window.pop()
        if not self._helping:
            self._last = name
        return name

    def refresh(self) -> None:
        """Forget a window that is old: there may be older messages by now."""
        if self._window and time.monotonic() > self._stale:
            self._window = []

    def missed(self) -> None:
        """Somebody else has taken the candidate."""
        self._misses += 1
        if self._misses >= _MISSES:
            self._window = []

    def clear(self) -> None:
        """Forget the candidates: the next look lists the directory anew."""
        self._window.clear()

    def scan(self) -> None:
        """List the directory anew."""
        began = time.monotonic()
        which, many = self._share()
        earlier = self._reach[0]
        self._reach, self._last = (self._reach[1], self._last), ""
        oldest = Oldest(WINDOW)
        left = False  #: something to others
        with os.scandir(self.directory.path) as entries:
            for entry in entries:
                name = entry.name
                if name > oldest.limit:
                    continue
                if many > 1 and name > earlier and _checksum(name) % many != which:
                    left = True
                elif self._is_message(entry):
                    oldest.add(name)
        names = oldest.names()
        self._helping = not names
        if self._helping and left:
            names = self._of_others(which, many)
        names.reverse()
        self._window = names
        self._misses = 0
        now = time.monotonic()
        self._stale = now + max(_FRESH, _FRESH_TIMES * (now - began))

    def _of_others(self, which: int, many: int) -> list[str]:
        """What this one takes of what is in the parts of others, the newest first."""
        with os.scandir(self.directory.path) as entries:
            others = [entry.name for entry in itertools.islice(filter(self._is_message, entries), WINDOW)]
        names = [name for name in others if _checksum(name) // many % many == which]
        if others and not names:
            start = random.randrange(len(others))
            names = others[start : start + _HELP]
        return sorted(names, key=sort_key, reverse=True)

    def _is_message(self, entry: os.DirEntry[str]) -> bool:
        """Whether it can be a message; what is none is reported once."""
        if entry.name[0] == ".":
            self.report(entry.name, "its name begins with a dot")
        elif entry.is_file(follow_symlinks=False):
            return True
        else:
            self.report(entry.name, "it is not a regular file")
        return False

    def report(self, name: str, why: str) -> None:
        """Say once that something in the directory is no message, and is left alone."""
        if name not in self._reported:
            if len(self._reported) >= _REPORTS_MAX:
                self._reported.clear()
            self._reported.add(name)
            self._logger.warning("%s: left alone, since %s", display(self.directory.at(name)), why)


def _checksum(name: str) -> int:
    return zlib.crc32(encode(name))


class Oldest:
    """The `size` oldest of the names that are added, in room for a quarter more."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._new: list[str] = []
        self._ours: list[str] = []
        self._foreign: list[str] = []
        #: What is later than this, as text, cannot be among them.
        self.limit = "\U0010ffff"

    def add(self, name: str) -> None:
        self._new.append(name)
        if 4 * len(self._new) >= self._size:
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
