"""What flows: inotify(7) on the parts of queues tells of each message that comes and goes, and slows nothing down.

What happens faster than it can be read is counted as missed by the kernel, and said. A queue in a database is looked at
again and again instead.
"""

from __future__ import annotations

import dataclasses
import os
import select
import time
from collections.abc import Iterator

from inotify_simple import INotify, flags

from piperkit.errors import PiperError
from piperkit.operating import View

_CAME = flags.MOVED_TO
_WENT = flags.MOVED_FROM | flags.DELETE
_CREATED = flags.CREATE


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """A message came into a part of a queue (`came`), or left it."""

    queue: str
    part: str
    id: str
    came: bool


class Flow:
    """Watches parts of queues. Raises PiperError where that cannot be."""

    def __init__(self, queues: list[str], parts: tuple[str, ...]) -> None:
        self.missed = False  #: more happened than could be told
        self._inotify = INotify()
        self._watched: dict[int, tuple[str, str]] = {}
        for queue in queues:
            for part in parts:
                try:
                    wd = self._inotify.add_watch(f"{queue}/{part}", _CAME | _CREATED | _WENT | flags.ONLYDIR)
                except OSError as error:
                    self._inotify.close()
                    raise PiperError(f"{queue}/{part} cannot be watched: {error.strerror}") from error
                self._watched[wd] = queue, part

    def seen(self, until: float | None) -> Iterator[Seen]:
        """What happens, until that monotonic time."""
        poll = select.poll()
        poll.register(self._inotify.fileno(), select.POLLIN)
        while until is None or time.monotonic() < until:
            left = None if until is None else max(0.0, until - time.monotonic()) * 1000
            if not poll.poll(left):
                return
            for event in self._inotify.read(timeout=0):
                if event.mask & flags.Q_OVERFLOW:
                    self.missed = True
                elif event.wd in self._watched and event.name and not event.name.startswith("."):
                    queue, part = self._watched[event.wd]
                    yield Seen(queue, part, os.fsdecode(event.name), not event.mask & _WENT)

    def close(self) -> None:
        self._inotify.close()


class Looks:
    """The same by looks at the first messages of each part: those that come and go between two looks are not seen."""

    #: Messages that a look sees in a part, and seconds between looks.
    MOST, PAUSE = 1000, 0.2

    def __init__(self, views: list[View], parts: tuple[str, ...]) -> None:
        self._parts = [(view, part) for view in views for part in parts]
        self._known = {(view.path, part): self._ids(view, part) for view, part in self._parts}
        self.missed = False  #: more happened than could be told

    def _ids(self, view: View, part: str) -> set[str]:
        entries, more = view.oldest(part, self.MOST)
        self.missed = bool(more)
        return {entry.id for entry in entries}

    def seen(self, until: float | None) -> Iterator[Seen]:
        """What has come, until that monotonic time."""
        while until is None or time.monotonic() < until:
            for view, part in self._parts:
                known, now = self._known[view.path, part], self._ids(view, part)
                self._known[view.path, part] = now
                for id in sorted(now - known):
                    yield Seen(view.path, part, id, True)
            time.sleep(self.PAUSE)

    def close(self) -> None:
        """Nothing is open."""
