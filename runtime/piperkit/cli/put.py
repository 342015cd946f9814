"""Putting messages into a queue in groups, so that one sync of its directory serves many."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from piperkit import engines
from piperkit.cli import sources
from piperkit.cli.interrupts import Interrupts
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.directory_queue import GROUP
from piperkit.errors import QueueError
from piperkit.queue import Queue

#: A group also ends at so many bytes, which are held in memory.
_HELD_MAX = 8 << 20

#: Told of progress: messages put, bytes read since the last call.
Advance = Callable[[int, int], None]


def open_queue(path: str, message_max: int) -> contextlib.AbstractContextManager[Queue]:
    """The queue at `path`, so that messages put there fit in: with its mode, and from root also with its owner.

    Without that, its daemon could not read what root puts into a queue of mode 0o770.
    """
    if engines.is_address(path):
        return contextlib.closing(engines.producer(path, message_max))
    found = os.stat(os.path.join(path, "incoming"))
    perms, owner = stat.S_IMODE(found.st_mode) & 0o777, (found.st_uid, found.st_gid)
    return DirectoryQueue(path, create=False, perms=perms, owner=owner, message_max=message_max)


class Putter:
    """Puts messages into a queue and tells their ids, in order, once they are on the disk.

    A group ends at `GROUP` messages, and whenever the input makes us wait.
    """

    def __init__(
        self,
        queue: Queue,
        message_max: int,
        interrupts: Interrupts,
        advance: Advance,
        tell: Callable[[list[str]], None],
    ) -> None:
        self._queue = queue
        self._message_max = message_max
        self._interrupts = interrupts
        self._advance = advance
        self._tell = tell
        self._group: list[tuple[bytes, int, int]] = []  #: contents, line, and the bytes that were read for them
        self._held = 0  #: bytes in the group
        self.messages = 0  #: that are on the disk
        self.bytes = 0  #: in these messages
        self.blank = 0  #: lines that were skipped
        self.line = 0  #: the line being put, from 1; 0: none, but a whole source

    def file(self, source: Path) -> None:
        """Put a source as one message, whatever it holds."""
        self.line = 0
        if source != sources.STDIN and source.is_file():
            # By its real path: the queue takes no links, but whoever gives us one means the file.
            path = os.path.realpath(source)
            length = os.stat(path).st_size
            self._interrupts.check()
            self.flush()
            if isinstance(self._queue, DirectoryQueue):
                self._done([self._queue.enqueue_file(path)], length, length)
            else:
                self._done([self._queue.enqueue(Path(path).read_bytes())], length, length)
            return
        with sources.reading(source, self._interrupts, self.flush) as read:
            data = sources.whole(read, self._message_max)
        self._put(data, len(data))

    def lines(self, source: Path) -> None:
        """Put each line of a source as one message; blank lines are skipped."""
        self.line = 0
        with sources.reading(source, self._interrupts, self.flush) as read:
            self.line = 1
            for line in sources.lines(read, self._message_max):
                data = line.removesuffix(b"\n")
                if data.strip():
                    self._put(data, len(line))
                else:
                    self.blank += 1
                    self._advance(0, len(line))
                self.line += 1

    def flush(self) -> None:
        """Have what was read on the disk, and tell it."""
        group, self._group = self._group, []  # first: what has failed is not tried again
        if not group:
            return
        try:
            ids = self._queue.enqueue_many(data for data, _, _ in group)
        except (OSError, QueueError):
            # None of them was put. One by one they are put up to the one that cannot be, which is named.
            for data, self.line, read in group:
                self._done([self._queue.enqueue(data)], len(data), read)
        else:
            self._done(ids, sum(len(data) for data, _, _ in group), sum(read for _, _, read in group))

    def _put(self, data: bytes, read: int) -> None:
        self._interrupts.check()
        self._group.append((data, self.line, read))
        self._held += len(data)
        if len(self._group) >= GROUP or self._held >= _HELD_MAX:
            self._held = 0
            self.flush()

    def _done(self, ids: list[str], length: int, read: int) -> None:
        self.messages += len(ids)
        self.bytes += length
        self._advance(len(ids), read)
        self._tell(ids)
