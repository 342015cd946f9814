"""Putting messages into a queue in groups, so that one sync of its directory serves many."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from piperkit.cli import sources
from piperkit.cli.interrupts import Interrupts
from piperkit.dirq import DirectoryQueue

#: Messages that become durable together.
GROUP = 256

#: Told of progress: messages put, bytes read since the last call.
Advance = Callable[[int, int], None]


def open_queue(path: str, message_max: int) -> DirectoryQueue:
    """The queue at `path`, so that messages put there fit in: with its mode, and from root also with its owner.

    Without that, its daemon could not read what root puts into a queue of mode 0o770.
    """
    found = os.stat(os.path.join(path, "incoming"))
    perms, owner = stat.S_IMODE(found.st_mode) & 0o777, (found.st_uid, found.st_gid)
    return DirectoryQueue(path, create=False, perms=perms, owner=owner, message_max=message_max)


class Putter:
    """Puts messages into a queue and tells their ids, in order, once they are on the disk.

    A group ends at `GROUP` messages, and whenever the input makes us wait.
    """

    def __init__(
        self,
        queue: DirectoryQueue,
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
        self._batch = contextlib.ExitStack()
        self._group: list[tuple[str, int]] = []
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
            self._begin()
            self._put(self._queue.enqueue_file(path), length, length)
            return
        with sources.reading(source, self._interrupts, self.flush) as read:
            data = sources.whole(read, self._message_max)
        self._begin()
        self._put(self._queue.enqueue(data), len(data), len(data))

    def lines(self, source: Path) -> None:
        """Put each line of a source as one message; blank lines are skipped."""
        self.line = 0
        with sources.reading(source, self._interrupts, self.flush) as read:
            self.line = 1
            for line in sources.lines(read, self._message_max):
                data = line.removesuffix(b"\n")
                if data.strip():
                    self._begin()
                    self._put(self._queue.enqueue(data), len(data), len(line))
                else:
                    self.blank += 1
                    self._advance(0, len(line))
                self.line += 1

    def flush(self) -> None:
        """Have what was put on the disk, and tell it."""
        group, self._group = self._group, []  # first: what cannot be synced is never told
        self._batch.close()
        self.messages += len(group)
        self.bytes += sum(length for _, length in group)
        self._tell([id for id, _ in group])

    def _begin(self) -> None:
        self._interrupts.check()
        if not self._group:
            self._batch.enter_context(self._queue.batch())

    def _put(self, id: str, length: int, read: int) -> None:
        self._group.append((id, length))
        self._advance(1, read)
        if len(self._group) >= GROUP:
            self.flush()
