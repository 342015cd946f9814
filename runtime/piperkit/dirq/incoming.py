"""Which message to claim next: the oldest, without every instance running for the same one.

The directory is the truth; the sorted list kept here is a hint, so that a queue of a million messages is not listed
for each claim. Instances that meet at one message spread out: whoever comes second skips ahead, further each time,
and finds what it skipped at its next look.
"""

from __future__ import annotations

import collections
import logging
import os
import random

from piperkit.dirq.fs import display
from piperkit.dirq.names import sort_key

#: Seconds until another look at messages that were skipped because somebody else was at them.
SOON = 0.02
_REPORTS_MAX = 1000


class Incoming:
    """The candidates in `incoming`, oldest first."""

    def __init__(self, path: str, logger: logging.Logger) -> None:
        self.path = path
        self._logger = logger
        self._window: collections.deque[str] = collections.deque()
        self._reported: set[str] = set()
        self._collisions = 0

    def __bool__(self) -> bool:
        return bool(self._window)

    def pop(self) -> str:
        return self._window.popleft()

    def clear(self) -> None:
        """Forget the candidates: the next look lists the directory anew."""
        self._window.clear()

    def scan(self) -> None:
        """List the directory anew."""
        names = []
        with os.scandir(self.path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    self.report(entry.name, "its name begins with a dot")
                elif entry.is_file(follow_symlinks=False):
                    names.append(entry.name)
                else:
                    self.report(entry.name, "it is not a regular file")
        names.sort(key=sort_key)
        self._window = collections.deque(names)

    def report(self, name: str, why: str) -> None:
        """Say once that something in the directory is no message, and is left alone."""
        if name not in self._reported:
            if len(self._reported) >= _REPORTS_MAX:
                self._reported.clear()
            self._reported.add(name)
            self._logger.warning("%s: left alone, since %s", display(os.path.join(self.path, name)), why)

    def met(self) -> None:
        """Another instance is working here: skip ahead."""
        self._collisions = min(self._collisions + 1, 8)
        for _ in range(min(len(self._window), random.randrange(2**self._collisions))):
            self._window.popleft()

    def alone(self) -> None:
        """A claim succeeded."""
        self._collisions = 0
