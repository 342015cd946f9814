"""How large a message may be, and how much room on the file system writing it leaves."""

from __future__ import annotations

import os
import sys
import time

from piperkit.errors import MessageTooLarge, NoRoom

MIB = 1 << 20
#: Seconds for which room that was found is taken for granted, and bytes of it that others may have used meanwhile.
_ROOM_FRESH, _ROOM_SPARE = 0.01, 64 * MIB


class Limits:
    """The limits of the queue at `path`; see `DirectoryQueue` for both."""

    def __init__(self, path: str, message_max: int, min_free: int | None) -> None:
        self._path = path
        self.message_max = message_max
        self._min_free = min_free
        self._asked, self._spare = float("-inf"), 0  #: when room was asked for, and the bytes that are left of it

    def is_too_large(self, size: int) -> bool:
        """Whether a message of `size` bytes is over the limit."""
        return bool(self.message_max) and size > self.message_max

    def check_size(self, size: int) -> None:
        """Raises MessageTooLarge for a message of `size` bytes if that is over the limit."""
        limit = self.message_max
        if 0 < limit < size:
            raise MessageTooLarge(f"a message of {size} bytes is larger than message_max, {limit} bytes")

    def check_room(self, growth: int) -> None:
        """Raises NoRoom where too little would stay free after `growth` more bytes are written."""
        if growth <= 0 or self._min_free == 0:
            return
        now = time.monotonic()
        if growth > self._spare or now > self._asked + _ROOM_FRESH:
            free, keep = room(self._path, self._min_free)
            if free - growth < keep:
                raise NoRoom(
                    f"no room in the queue {self._path}: less than queue_min_free, {keep} bytes, would stay free"
                )
            self._asked, self._spare = now, free - keep - _ROOM_SPARE
        self._spare -= growth


def room(path: str, min_free: int | None) -> tuple[int, int]:
    """The bytes that are free on the file system of a queue, and those that writing messages leaves free."""
    found = os.statvfs(path)
    if not found.f_blocks:
        return sys.maxsize, 0  # it does not say
    keep = min(64 * MIB, found.f_blocks * found.f_frsize // 20) if min_free is None else min_free
    return found.f_bavail * found.f_frsize, keep
