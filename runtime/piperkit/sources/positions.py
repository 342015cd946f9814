"""How far files were read, remembered in a file of its own: it is the old one or the new one, whatever happens.

A file is known by its device and inode, and by what was in it: a digest of its beginning and of what was read last. A
rotation that copies gives it another inode, a file system may give its inode to another file, and one that was cut
short and has grown again is another one under the same inode.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from piperkit.errors import PiperError

_VERSION = 1

#: Device and inode.
Key = tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """How far a file was read. head, last: digests of that many bytes at its beginning, and before `offset`."""

    path: str
    device: int  #: -1: unknown, as in the files of templates before 0.5
    inode: int
    offset: int = 0  #: bytes; a line begins there
    size: int = 0  #: of the file when it was looked at last
    head_size: int = 0
    head: str = ""
    last_size: int = 0
    last: str = ""
    done: bool = False  #: it was rotated, and read to its end

    @property
    def key(self) -> Key:
        return self.device, self.inode


class NoPosition(PiperError):
    """The file cannot be understood; it has been moved aside."""


def read(path: Path) -> tuple[list[Place], float | None, list[Place]]:
    """The places, when files were looked for last, in seconds since the epoch, and the files that are none of ours;
    nothing where there is no file.

    Raises NoPosition, and OSError.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return [], None, []
    try:
        return _parse(text)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        aside = path.with_name(f"{path.name}.unreadable")
        os.replace(path, aside)
        raise NoPosition(f"{path} does not say how far files were read ({error}); it is {aside} now") from None


def _parse(text: str) -> tuple[list[Place], float | None, list[Place]]:
    words = text.split()
    if len(words) == 2 and all(word.isdecimal() for word in words):  # as templates before 0.5 wrote it
        return [Place("", -1, int(words[0]), int(words[1]))], None, []
    found: dict[str, Any] = json.loads(text)
    if found["version"] != _VERSION:
        raise ValueError(f"its version is {found['version']!r}, and not {_VERSION}")
    places = [Place(**each) for each in found["files"]]
    others = [Place(**each) for each in found["others"]]
    for place in (*places, *others):
        for field in dataclasses.fields(Place):
            value = getattr(place, field.name)
            if type(value).__name__ != field.type or (isinstance(value, int) and value < -1):
                raise ValueError(f"{field.name} is {value!r:.80}")
    return places, float(found["looked"]), others


def write(path: Path, places: Iterable[Place], looked: float, others: Iterable[Place]) -> None:
    """Replace the file, atomically and durably. Raises OSError."""
    files, left = ([dataclasses.asdict(each) for each in group] for group in (places, others))
    record = {"version": _VERSION, "looked": looked, "files": files, "others": left}
    new = path.with_name(f"{path.name}.new")
    with open(new, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
