"""How full a queue is, for whoever watches it: the messages in each part, and how long the oldest of them has waited.

It only reads, so it may be asked by any thread, and as often as one likes. What that costs is bounded:

- a part is listed in constant memory, and no message of ours is looked at: its id says when it arrived (`names`). Of
  messages with foreign names, FOREIGN_MAX are looked at, those that are claimed first; the oldest is one of these.
- a listing that took a while is used again for REUSE times as long. So a queue of a million messages is not listed
  for each question, and all questions together take at most one REUSE-th of a processor.
"""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections.abc import Callable, Iterator

from piperkit import naming
from piperkit.dirq import deadletters, fs, layout
from piperkit.errors import QueueMissing
from piperkit.operating import HOLDING
from piperkit.queue import Depth, Space, Survey

FOREIGN_MAX = 1000
REUSE = 20.0

_Found = tuple[int, float | None]


class Surveyor:
    """Surveys a queue and its next queue, if there is one. Safe between threads."""

    def __init__(self, path: str, next_queue: str | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._queues = {"input": path} | ({"output": next_queue} if next_queue is not None else {})
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._listed: dict[str, tuple[float, _Found]] = {}  # by directory: until when to use it, and what was found

    def survey(self) -> Survey:
        """How full the parts are; of the next queue only `incoming`, where nobody has claimed the messages yet."""
        with self._lock:
            depths = [self._depth("input", part) for part in ("tmp", *HOLDING)]
            if "output" in self._queues:
                depths.append(self._depth("output", "incoming"))
            return Survey(tuple(depths), tuple(self._spaces()))

    def _depth(self, queue: str, part: str) -> Depth:
        try:
            return Depth(queue, part, *self._look(self._queues[queue], part))
        except (OSError, QueueMissing):
            return Depth(queue, part, None, None)

    def _look(self, path: str, part: str) -> _Found:
        directory = os.path.join(path, part)
        began = self._monotonic()
        until, found = self._listed.get(directory, (began, (0, None)))
        if began >= until:
            try:
                found = _look(path, part)
            except FileNotFoundError:
                if part not in layout.ADDED:
                    raise
                found = (0, None)
            ended = self._monotonic()
            self._listed[directory] = (ended + REUSE * (ended - began), found)
        return found

    def _spaces(self) -> Iterator[Space]:
        for queue, path in self._queues.items():
            try:
                found = os.statvfs(path)
            except OSError:
                continue
            yield Space(queue, found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


def _look(path: str, part: str) -> _Found:
    """The number of messages in a part, and when the oldest of them arrived. Raises OSError."""
    directory = os.path.join(path, part)
    count, oldest = 0, None

    def foreign() -> Iterator[str]:
        nonlocal count, oldest
        for name in _messages(path, part):
            count += 1
            if not naming.is_ours(name):
                yield name
            elif oldest is None or name < oldest:
                oldest = name

    arrivals = [_arrived(directory, name) for name in heapq.nsmallest(FOREIGN_MAX, foreign())]
    if oldest is not None:
        arrivals.append(naming.moment(oldest))
    return count, min((arrived for arrived in arrivals if arrived is not None), default=None)


def _messages(path: str, part: str) -> Iterator[str]:
    is_message = deadletters.is_message(f"{path}/errors") if part == "errors" else bool
    with os.scandir(f"{path}/{part}") as entries:
        for entry in fs.regular(entries):
            if not entry.name.startswith(".") and is_message(entry.name):
                yield entry.name


def _arrived(directory: str, name: str) -> float | None:
    try:
        return os.stat(os.path.join(directory, name), follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return None  # it has moved on
