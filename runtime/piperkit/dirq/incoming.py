"""Which message to claim next: the oldest, without every instance running for the same one.

The directory is the truth; the sorted window kept here is a hint, so that a queue of a million messages is neither
listed for each claim nor held in memory. The window is the oldest names of a listing, and is listed anew when it is
used up, or old.

A part of each window is of others: of foreign names, which do not say how old they are, and of names that are dated in
the future. They come by name after ours where there are few of either, and else one after each `_OTHERS - 1` of ours,
going round by name; so nothing waits for ever behind a backlog.

Instances share the work out without talking to each other. Each knows how many there are and which of them it is (see
`instances`), and first takes its own part of the names, by a checksum of the name. What others have left lying since an
earlier window (they are busy, or dead) anybody takes. Who finds nothing else helps the others: there too each has a
part of its own, so that those who help meet nobody but the one who is helped, and they begin at the far end. One
instance alone takes everything, the oldest first.
"""

from __future__ import annotations

import itertools
import os
import random
import time
import zlib
from collections.abc import Callable, Iterable

from piperkit.dirq.fs import Directory, encode
from piperkit.dirq.reading import Notices
from piperkit.naming import is_ours, sort_key

#: Seconds until another look at messages that were skipped because somebody else was at them.
SOON = 0.02
#: Names in a window; each takes about 100 bytes. To list a million names costs as much as to pass on some 20,000.
WINDOW = 150_000
#: Names that are sorted in together.
_SOME = 4096
#: Of a window, and of messages that are claimed one after the other, one in so many may be of others.
_OTHERS = 8
#: Seconds by which a producer's clock may be ahead.
_AHEAD = 60
#: A window is listed anew after this many seconds, or this many times what its listing took.
_FRESH, _FRESH_TIMES = 1.0, 50.0
#: Names that are taken at once of what is in nobody's part but another's.
_HELP = 32
#: Names in a row that others have taken, after which the window is listed anew.
_MISSES = 4
#: Names that are left alone at a time, and the seconds until what could not be moved, and the rest, is tried again.
_LEFT_MAX, _LEFT_AGAIN, _LEFT_LONG = 1000, 20.0, 300.0

#: Which of how many instances this one is, from 0.
Share = tuple[int, int]


class Incoming:
    """The candidates in `incoming`, oldest first; `share` says which of how many instances this is."""

    def __init__(self, directory: Callable[[], Directory], notices: Notices, share: Callable[[], Share]) -> None:
        self._directory = directory
        self._notices = notices
        self._share = share
        self._window: list[str] = []  # the oldest last
        self._stale = float("-inf")  #: when the window is old
        self._helping = False  #: what is in the window is in no part of ours
        self._last = ""  #: the last candidate of our own part
        self._reach = ("", "")  #: how far that went in the last two windows
        self._round = ""  #: the last of the other names in the last window: the next one goes on there
        self._misses = 0
        #: What is left alone: when its status changed last, and until when it is left alone whatever happens.
        self._left: dict[str, tuple[int, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._window)

    def pop(self, most: int) -> list[str]:
        """The next candidates, up to `most`; none where the window is used up."""
        names = self._window[: -most - 1 : -1] if most > 0 else []
        if names:
            del self._window[-most:]
            if not self._helping:
                self._last = next(filter(_looks_ours, reversed(names)), self._last)
        return names

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
        oldest = Oldest(WINDOW, time.time(), self._round)
        left = False  #: something to others
        found: list[str] = []
        limit, future = oldest.limit, oldest.future
        with self._directory().entries() as entries:
            for entry in entries:
                name = entry.name
                # What `is_ours` says, as far as it takes no time: a million names are asked.
                if limit < name < future and name[10:11] == "." and name[:10].isdigit():
                    continue
                if many > 1 and name > earlier and _checksum(name) % many != which:
                    left = True
                elif (name[0] != "." and not self._left and entry.is_file(follow_symlinks=False)) or self._is_message(
                    entry
                ):
                    found.append(name)
                    if len(found) == _SOME:
                        oldest.add(found)
                        found.clear()
                        limit = oldest.limit
        oldest.add(found)
        names = oldest.names()
        self._round = oldest.reached
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
        with self._directory().entries() as entries:
            others = [entry.name for entry in itertools.islice(filter(self._is_message, entries), WINDOW)]
        names = [name for name in others if _checksum(name) // many % many == which]
        if others and not names:
            start = random.randrange(len(others))
            names = others[start : start + _HELP]
        return sorted(names, key=sort_key, reverse=True)

    # -- what is not a message ----------------------------------------------------------------------------------

    def _is_message(self, entry: os.DirEntry[str]) -> bool:
        """Whether it can be a message; what is none is reported once."""
        if entry.name[0] == ".":
            self._report(entry.name, "its name begins with a dot")
        elif entry.is_file(follow_symlinks=False):
            return not self._left or not self._is_left(entry.name)
        else:
            self._report(entry.name, "it is not a regular file")
        return False

    def leave(self, directory: Directory, name: str, why: str, *, until_changed: bool) -> None:
        """Leave a file alone that cannot be claimed or read, say so once, and claim others.

        until_changed: its owner, mode or name has to change first; otherwise it is tried again, and at once then.
        """
        self._notices.say(directory.at(name), f"left alone, since {why}")
        if len(self._left) >= _LEFT_MAX:
            self._left.clear()
        there = directory.stat(name)
        # Not for ever: it may have been changed just before this look.
        until = time.monotonic() + (_LEFT_LONG if until_changed else _LEFT_AGAIN)
        self._left[name] = (there.st_ctime_ns if there else 0, until)

    def _is_left(self, name: str) -> bool:
        if name not in self._left:
            return False
        changed, until = self._left[name]
        there = self._directory().stat(name)
        if there is not None and there.st_ctime_ns == changed and time.monotonic() < until:
            return True
        del self._left[name]
        return False

    def _report(self, name: str, why: str) -> None:
        self._notices.say(self._directory().at(name), f"left alone, since {why}")


def _checksum(name: str) -> int:
    return zlib.crc32(encode(name))


def _looks_ours(name: str) -> bool:
    """What `is_ours` says, as far as it takes no time; a million names are asked."""
    return name[10:11] == "." and name[:10].isdigit()


class Oldest:
    """The `size` oldest of the names that are added, in room for a quarter more, with some of others among them.

    now: seconds since the epoch; names that are dated later are others', as foreign ones are.
    after: of the others, those that come after this name come first, if there are more than fit in.
    """

    def __init__(self, size: int, now: float, after: str = "") -> None:
        self._size = size
        self.future = f"{int(now) + _AHEAD:010d}"  #: names of ours that are later, as text, are others'
        self._after = after
        self._new: list[str] = []
        self._ours: list[str] = []
        self._others: list[tuple[bool, str]] = []  #: whether it is before `after`, and the name
        self._left_out = False  #: some of the others
        #: What is later than this, as text, and is ours cannot be among them.
        self.limit = "\U0010ffff"
        self.reached = ""  #: the last of the others, where there are more

    def add(self, names: Iterable[str]) -> None:
        self._new += names
        if 4 * len(self._new) >= self._size:
            self._sort()

    def names(self) -> list[str]:
        """They, the oldest first."""
        self._sort()
        others = [name for _, name in self._others]
        self.reached = others[-1] if self._left_out else ""
        if not self._left_out:
            others.sort(key=sort_key)
        ours, every = self._ours, _OTHERS - 1
        mixed = min(len(others), -(-len(ours) // every))
        result: list[str] = []
        for position in range(mixed):
            result += ours[position * every : (position + 1) * every]
            result.append(others[position])
        return result + ours[mixed * every :] + others[mixed:]

    def _sort(self) -> None:
        new, self._new = self._new, []
        ours = [name for name in new if is_ours(name) and name < self.future]
        if len(ours) < len(new):
            among = set(ours)
            self._others += [(name <= self._after, name) for name in new if name not in among]
            self._others.sort()
        self._ours += ours
        self._ours.sort()
        del self._ours[self._size :]
        room = max(1, self._size // _OTHERS, self._size - len(self._ours))
        if len(self._others) > room:
            self._left_out = True
            del self._others[room:]
        if len(self._ours) == self._size:
            self.limit = self._ours[-1]
