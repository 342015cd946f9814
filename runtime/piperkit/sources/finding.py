"""`Finder`: which files there are to follow, and beside them what a rotation may have made of them, by their names.

Of what it cannot read it says so, once, with what an administrator can do about it.
"""

from __future__ import annotations

import dataclasses
import glob
import grp
import os
import pwd
import re
import stat
from collections.abc import Callable, Iterable, Iterator

from piperkit.sources.positions import Key
from piperkit.sources.tail import COMPRESSED, READABLE

#: What a rotation adds to a name: at its end, a number, a date or a word; before its suffix, a date or a small number.
#: A larger one there, as in app-8080.log, tells programs apart.
_DATE = r"\d{4}[-_.]?\d\d[-_.]?\d\d[\d.:_T+-]*"
_ROTATION = re.compile(rf"[-_.]{_DATE}(?=[-_.]|$)|\.\d{{1,3}}(?=\.[a-z]+$)|[-_.]\d[\d.:_T+-]*$|[.-](?:old|prev)$")


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A file that is there. current: it has a name that is followed; else it is a relative of one."""

    path: str
    key: Key
    mtime: float
    size: int
    current: bool


class Finder:
    """Looks for files.

    pattern: a path, or one with *, ? and [ ] as in a shell, if there is no file of exactly that name.
    say: told of what cannot be read; each thing once.
    """

    def __init__(self, pattern: str, say: Callable[[str], None]) -> None:
        self.pattern = os.path.abspath(pattern)
        self.say = say
        self._troubles: dict[str, str] = {}  #: by path

    def files(self, known: Iterable[str]) -> list[Found]:
        """The files that are followed, and the relatives of these and of the `known` ones, the oldest first."""
        current = set(map(os.path.realpath, self._matching()))
        files = []
        for path in current | set(relatives({self.pattern, *current, *known})):
            try:
                there = os.stat(path)
            except OSError as error:
                if path in current:
                    self.trouble(path, error)
                continue
            if stat.S_ISREG(there.st_mode):
                key = (there.st_dev, there.st_ino)
                files.append(Found(path, key, there.st_mtime, there.st_size, path in current))
            elif path in current:
                self._told(path, f"{path} is not a regular file, and is not followed")
        files.sort(key=lambda found: (found.mtime, *_age(found.path)))
        kept: dict[Key, Found] = {}
        for found in sorted(files, key=lambda found: found.current):
            kept[found.key] = found  # of several names of one file, the one that is followed
        return [found for found in files if kept[found.key] is found]

    def _matching(self) -> list[str]:
        try:
            os.lstat(self.pattern)
        except FileNotFoundError:
            if not glob.has_magic(self.pattern):
                return []
        except OSError as error:
            self.trouble(self.pattern, error)
            return []
        else:
            return [self.pattern]
        directory = os.path.dirname(self.pattern)
        if not glob.has_magic(directory):
            try:
                os.listdir(directory)
            except OSError as error:
                self.trouble(directory, error)
        matching = glob.glob(self.pattern, recursive=True, include_hidden=True)
        return [path for path in matching if os.path.isfile(path) and not path.endswith(COMPRESSED)]

    def trouble(self, path: str, error: OSError) -> None:
        """A file cannot be read."""
        if isinstance(error, FileNotFoundError):
            return  # it has gone since it was listed
        text = f"{path} cannot be read: {error.strerror}"
        if isinstance(error, PermissionError):
            text += advice(path)
        self._told(path, text)

    def no_trouble(self, path: str) -> None:
        """It can."""
        if self._troubles.pop(path, None):
            self.say(f"{path} is read now")

    def _told(self, path: str, text: str) -> None:
        if self._troubles.get(path) != text:
            self._troubles[path] = text
            self.say(text)


def relatives(paths: Iterable[str]) -> Iterator[str]:
    """The files beside these, and these, that have names as a rotation gives them."""
    families: dict[str, set[str]] = {}
    for path in filter(None, paths):
        families.setdefault(os.path.dirname(path), set()).add(family(os.path.basename(path)))
    for directory, wanted in families.items():
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        yield from (f"{directory}/{name}" for name in names if family(name) in wanted)


def is_unreadable(path: str) -> bool:
    """Whether a file is compressed in a way that nothing here can read."""
    return path.endswith(COMPRESSED) and not path.endswith(READABLE)


def family(name: str) -> str:
    """What the names of a file's rotations have in common."""
    return _ROTATION.sub("", _unpacked(name))


def _unpacked(name: str) -> str:
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    return name


def _age(path: str) -> tuple[int, str]:
    """An order for files of one age: with numbers, as logrotate gives them, the highest is the oldest."""
    name = _unpacked(os.path.basename(path))
    number = re.search(r"\.(\d{1,4})$", name)
    return (-int(number[1]) if number else 0, name)


def advice(path: str) -> str:
    """What an administrator can do so that this user may read a file; "" where nothing is known."""
    place = path
    while place != "/":
        try:
            there = os.stat(place)
        except PermissionError:
            place = os.path.dirname(place)
            continue
        except OSError:
            return ""
        needed = 0o050 if stat.S_ISDIR(there.st_mode) else 0o040
        if os.access(place, os.R_OK | (os.X_OK if needed == 0o050 else 0), effective_ids=True):
            return ""
        user, group = _name(pwd.getpwuid, os.geteuid(), "pw_name"), _name(grp.getgrgid, there.st_gid, "gr_name")
        if there.st_mode & needed == needed:
            return f"; the group {group} may read {place}: `adduser {user} {group}`, then restart the daemon"
        return f"; nobody but its owner may read {place}: `setfacl -m u:{user}:rX {place}`, or another mode"
    return ""


def _name(look_up: Callable[[int], object], number: int, field: str) -> str:
    try:
        return str(getattr(look_up(number), field))
    except KeyError:
        return str(number)
