"""Files of no use that dead writers and messages leave behind. Nothing here is a message, or known to be wanted."""

from __future__ import annotations

import os
from collections.abc import Callable

from piperkit.dirq import deadletters, earlier, fs
from piperkit.dirq.fs import Directory, Walk
from piperkit.dirq.layout import Parts
from piperkit.dirq.reading import Notices

#: Seconds after which a file in `tmp` that nobody has touched is litter: maildir(5) gives it 36 hours.
LITTER_AGE = 36 * 3600.0
#: Files that are looked at in each part in one go.
LOOKED_AT = 1000


class Litter:
    """Looks through `tmp`, `state` and `errors`, a part of each at a time."""

    def __init__(self, parts: Parts, orphan_age: float, clock: Callable[[], int], notices: Notices) -> None:
        self._parts = parts
        self._orphan_age = orphan_age
        self._clock = clock
        self._notices = notices
        self._walks = [Walk(lambda: parts.tmp), Walk(lambda: parts.state), Walk(lambda: parts.errors)]
        self.earlier = True  #: there may be records of 0.4 in `state`

    def remove(self) -> int:
        """Remove what is of no use; returns how much that was. What cannot be removed is said once."""
        tmp, state, errors = (walk.some(LOOKED_AT) for walk in self._walks)
        self.earlier = self.earlier or any(map(earlier.is_record, state))
        parts, now = self._parts, self._clock()
        litter = [(parts.tmp, name) for name in tmp if is_litter_of_tmp(parts.tmp, name, now, self._orphan_age)]
        litter += [(parts.state, name) for name in state if is_litter_of_state(parts, name, now, self._orphan_age)]
        removed = deadletters.tidy(parts.errors, errors, self._is_old_enough, self._notices)
        for directory, name in litter:
            try:
                directory.remove(name)
                removed += 1
            except OSError as error:
                self._notices.say(directory.at(name), f"cannot be tidied up: {error.strerror}")
        return removed

    def _is_old_enough(self, stat: os.stat_result) -> bool:
        return self._clock() / 1e9 - stat.st_ctime >= self._orphan_age


def is_litter_of_tmp(tmp: Directory, name: str, now: int, orphan_age: float) -> bool:
    """Whether a file in `tmp` is what a dead writer of ours left, or what nobody has touched for 36 hours.

    now: nanoseconds since the epoch.
    """
    stat = tmp.stat(name)
    if stat is None:
        return False
    old = now / 1e9 - max(stat.st_atime, stat.st_mtime, stat.st_ctime) >= LITTER_AGE
    if stat.st_mode & 0o7777 != fs.UNFINISHED or now / 1e9 - stat.st_ctime < orphan_age:
        return old
    try:
        fd = tmp.open(name)
    except OSError:
        return old  # gone, or somebody else's: then only its age tells
    try:
        return fs.try_lock(fd)  # its writer holds this lock, however long it takes
    finally:
        fs.release(fd)


def is_litter_of_state(parts: Parts, name: str, now: int, orphan_age: float) -> bool:
    """Whether a file in `state` is the record of a message that has left the queue."""
    stat = parts.state.stat(name)
    if name.startswith(".") or stat is None or now / 1e9 - stat.st_ctime < orphan_age:
        return False  # hidden: moved aside, or an instance's of 0.4
    # Twice, in the order in which messages move: one that moves on meanwhile is seen the second time.
    places = (parts.pending, parts.deferred, parts.incoming, parts.outgoing)
    return not any(any(place.has(name) for place in places) or parts.holds_back(name) for _ in range(2))
