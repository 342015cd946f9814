"""`Follower`: the lines of all files that a path or a pattern leads to, through rotations of every kind.

What is read of which file is decided at each look, and there is one whenever nothing is left to read:

- a file that has a name that is followed is read as it grows. It is known by its inode and its contents, not its name;
- one that has lost that name was rotated. It is read on until it has not grown for `grace` seconds; then what it ends
  with is a line, even without a newline;
- relatives of a followed file, by their names (`app.log.1`, `app.log-20261127.gz`, `app-2026-11-27.log`, `app.1.log`),
  are read if they came into being since the last look: so nothing is missing after several rotations;
- a file that was cut short, or written anew under the same inode, is begun again; what had not been read of it is
  looked for in its relatives, by the contents: in a copy (`copytruncate`), or compressed.

What was read last comes first, then what is newer. What cannot be found any more is said, with its name and place.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from piperkit.sources import positions
from piperkit.sources.finding import Finder, Found, is_unreadable, relatives
from piperkit.sources.positions import Key, Place
from piperkit.sources.tail import COMPRESSED, Tail, Text, contents, digest, fits, is_whole

#: Seconds between looks while there is always something to read.
_LOOK = 1.0
#: Seconds by which the clock of a file system may differ from ours.
_SLACK = 2.0
#: Bytes by which a file is known that is not read.
_HEAD = 256
#: Files that are kept in mind after they have gone, since a copy of them may turn up.
_GONE_MAX = 50


class Follower:
    """What is to be read, and how far it was.

    pattern: see `Finder`.
    position: the file that remembers how far.
    grace: seconds.
    from_end: files that are there at the very first look are read from their ends.
    say: told of what is missing, or cannot be read; each thing once.
    """

    def __init__(
        self,
        pattern: str,
        position: Path,
        text: Text,
        *,
        grace: float = 30.0,
        from_end: bool = False,
        say: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._finder = Finder(pattern, say)
        self._position = position
        self._text = text
        self._grace = grace
        self._from_end = from_end
        self._clock = clock
        self._monotonic = monotonic
        self._tails: list[Tail] = []  #: in the order in which they are read
        self._places: dict[Key, Place] = {}  #: of files that are not open
        self._lost: list[Place] = []  #: of those that are not what they were
        self._gone: collections.deque[Place] = collections.deque(maxlen=_GONE_MAX)  #: of those that have gone
        self._others: dict[Key, Place] = {}  #: relatives that were there and not to be read: other programs', or old
        self._later: dict[Key, float] = {}  #: files that may not be whole yet, and since when they would be new
        self._looked: float | None = None  #: when files were looked for, in seconds since the epoch
        self._look_at = 0.0  #: monotonic

    def open(self) -> None:
        """Read how far it was. Raises OSError, and NoPosition: then everything is read from its beginning."""
        places, self._looked, others = positions.read(self._position)
        self._others = {other.key: other for other in others}
        if any(place.device < 0 for place in places):
            places = [self._of_earlier(place) for place in places]
            self._looked = self._position.stat().st_mtime
        self._places = {place.key: place for place in places}

    def _of_earlier(self, place: Place) -> Place:
        """What a template before 0.5 remembered: the inode, and how far."""
        for found in self._files():
            if found.key[1] == place.inode and found.size >= place.offset:
                return dataclasses.replace(place, path=found.path, device=found.key[0])
        return dataclasses.replace(place, path=self._finder.pattern)

    def _files(self) -> list[Found]:
        places = (*self._places.values(), *self._lost)
        return self._finder.files([*(place.path for place in places), *(tail.path for tail in self._tails)])

    def close(self) -> None:
        """Close the files. Idempotent."""
        while self._tails:
            self._tails.pop().close()

    def remember(self) -> None:
        """Write down how far all was read. Raises OSError."""
        places = [*(tail.place() for tail in self._tails), *self._places.values(), *self._lost]
        positions.write(self._position, places, self._looked or 0.0, self._others.values())

    # -- reading ---------------------------------------------------------------------------------------------

    def fetch(self, most: int) -> list[bytes]:
        """The next messages, up to `most`. Raises OSError."""
        found = self._read(most) if self._monotonic() < self._look_at else []
        if not found:
            self.look()
            found = self._read(most)
        return found

    def _read(self, most: int) -> list[bytes]:
        found: list[bytes] = []
        for tail in list(self._tails):
            try:
                if not tail.is_intact():
                    self._cut(tail)
                    continue
                before = tail.offset
                found += tail.lines(self._share(tail, most - len(found)))
                if tail.offset != before and tail.rotated is not None:
                    tail.rotated = self._monotonic()
                if len(found) < most and self._is_over(tail):
                    found += tail.lines(most - len(found), to_the_end=True)
                    self._end(tail)
            except OSError as error:
                self._finder.trouble(tail.path, error)
            if len(found) >= most:
                break
        return found

    def _share(self, tail: Tail, left: int) -> int:
        """How much of `left` is for one file: what was rotated comes first, and no other waits for one that is long."""
        if not tail.current:
            return left
        return -(-left // (len(self._tails) - self._tails.index(tail)))

    def _is_over(self, tail: Tail) -> bool:
        """Whether nothing more comes of a file that was rotated."""
        if tail.rotated is None:
            return False
        return tail.compressed or self._monotonic() - tail.rotated >= self._grace

    def _end(self, tail: Tail) -> None:
        self._tails.remove(tail)
        self._places[tail.key] = dataclasses.replace(tail.place(), done=True)
        tail.close()

    def _cut(self, tail: Tail) -> None:
        """Its file was cut short, or written anew: it is begun again, and what was not read is looked for elsewhere."""
        self._tails.remove(tail)
        self._lost.append(tail.place())
        tail.close()
        self._look_at = 0.0

    # -- looking ---------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Look which files there are, and which of them are to be read. Raises OSError."""
        first, since = self._looked is None, (self._looked or 0.0) - _SLACK
        self._looked = self._clock()
        self._look_at = self._monotonic() + _LOOK
        files = self._files()
        self._rotate({found.key: found for found in files})
        unknown = [found for found in files if not self._is_known(found)]
        there = {found.key for found in files}
        self._others = {key: other for key, other in self._others.items() if key in there}
        for key in [key for key in self._places if key not in there]:
            place = self._places.pop(key)
            if place.done:
                self._gone.append(place)
            else:
                self._lost.append(place)
        for place in self._lost:
            self._find(place, unknown)
        self._gone += self._lost
        self._lost.clear()
        later, self._later = self._later, {}
        for found in unknown:
            since_then = later.get(found.key, since)
            if not found.current and (first or found.mtime < since_then):
                if found.key not in self._others:
                    self._leave(found)
                continue
            if not found.current and self._is_another(found):
                continue
            if self._is_being_made(found):
                self._later[found.key] = since_then
            elif not self._is_copy(found):
                end = first and self._from_end
                self._begin(found, Place(found.path, *found.key, found.size) if end else None)
        self._tails.sort(key=lambda tail: (tail.current, tail.mtime))

    def _rotate(self, there: dict[Key, Found]) -> None:
        """See which of the open files have the names that are followed."""
        for tail in self._tails:
            found = there.get(tail.key)
            tail.current = found is not None and found.current
            if tail.current:
                tail.rotated = None
            elif tail.rotated is None:
                tail.rotated = self._monotonic()

    def _is_known(self, found: Found) -> bool:
        """Whether a file is being read, or needs not be. One of an earlier run is opened where it was."""
        if any(tail.key == found.key for tail in self._tails):
            return True
        place = self._places.get(found.key)
        if place is None:
            return False
        if not self._is_same(found, place):
            del self._places[found.key]
            if not place.done:
                self._lost.append(place)
            return False
        if found.current or not place.done or (found.size > place.offset and not found.path.endswith(COMPRESSED)):
            del self._places[found.key]
            self._begin(found, place)
        return True

    def _is_another(self, found: Found) -> bool:
        """Whether a relative was there before, and not to be read. By its contents, too: inodes are given out again."""
        other = self._others.get(found.key)
        return other is not None and self._is_same(found, other)

    def _leave(self, found: Found) -> None:
        """Remember that a relative is not to be read."""
        try:
            there = contents(found.path)
        except OSError:
            return
        try:
            head = there.read(0, _HEAD)
        except OSError:
            return
        finally:
            there.close()
        if head:
            self._others[found.key] = Place(found.path, *found.key, head_size=len(head), head=digest(head))

    def _is_being_made(self, found: Found) -> bool:
        """Whether a relative may be a copy that is not whole yet: compressed, or as one of ours so far."""
        if found.current or self._clock() - found.mtime > _SLACK:
            return False
        if found.path.endswith(COMPRESSED):
            return not is_whole(found.path)
        return any(tail.begins_like(found.path) for tail in self._tails)

    def _is_copy(self, found: Found) -> bool:
        """Whether what is in a relative is read already from another file, or was.

        One that has the name now is a new file, though it may begin as others do; but where a file was replaced by a
        copy of it, and is nowhere any more, it goes on there.
        """
        for tail in self._tails:
            place = tail.place()
            if found.current and (tail.current or not tail.is_removed()):
                continue
            if place.last and self._is_same(found, place):
                if found.current:
                    self._end(tail)
                    self._begin(found, dataclasses.replace(place, path=found.path))
                return True
        if found.current:
            return False
        return any(place.last and self._is_same(found, place) for place in (*self._places.values(), *self._gone))

    def _find(self, place: Place, unknown: list[Found]) -> None:
        """Look for the contents of a file that is not what it was; say what is missing."""
        for found in unknown:
            if place.last and self._is_same(found, place):
                unknown.remove(found)
                self._begin(found, dataclasses.replace(place, path=found.path))
                return
        if place.offset >= place.size and not place.offset:
            return  # nothing was in it
        others = list(filter(is_unreadable, relatives([place.path])))
        where = f" ({', '.join(others)} may hold it, and cannot be read)" if others else ""
        least = place.size - place.offset
        much = f", {least} bytes or more," if least > 0 else ", if there was anything,"
        self._finder.say(f"{place.path}: what came after byte {place.offset}{much} is not there any more{where}")

    def _begin(self, found: Found, place: Place | None) -> None:
        try:
            tail = Tail(found.path, self._text, self._finder.say, place)
        except OSError as error:
            self._finder.trouble(found.path, error)
            if place is not None:
                self._places[place.key] = place
            return
        self._finder.no_trouble(found.path)
        tail.current = found.current
        tail.rotated = None if found.current else self._monotonic()
        self._tails.append(tail)

    def _is_same(self, found: Found, place: Place) -> bool:
        if is_unreadable(found.path):
            return False
        try:
            there = contents(found.path)
        except OSError as error:
            self._finder.trouble(found.path, error)
            return found.key == place.key
        try:
            return fits(there, place)
        except OSError:
            return False
        finally:
            there.close()
