"""`Held`: a message that this instance has claimed."""

from __future__ import annotations

import errno
import os
import stat

from piperkit.dirq.fs import Directory
from piperkit.record import NEW, MessageRecord


class Held:
    """A message that is claimed by us: its file, and what is known of it. Nothing of the file is open."""

    name: str  #: of its file; another one than its id only where that was taken
    record: MessageRecord = NEW
    begun = False  #: its contents were given out to be worked on
    final = False  #: its last contents are in `outgoing`, and it can only be moved on
    replaced = False  #: it is in `outgoing`, and what it replaces may still be in `pending`
    settled = False  #: it has left its place; what may be missing is that the disk knows
    regular = False  #: it is known to be a regular file
    synced = False  #: its contents are on the disk, or will be with the directory that it is moved to
    stat_then: os.stat_result | None = None  #: as it was when it was looked at first, or written by us

    def __init__(self, id: str, where: Directory) -> None:
        self.id = self.name = id  #: what its claim is known by
        self.where = where  #: the part of the queue that it is in

    @property
    def stat(self) -> os.stat_result:
        """The file as it was claimed or replaced. Raises FileNotFoundError, IsADirectoryError."""
        if self.stat_then is None:
            there = os.stat(self.name, dir_fd=self.where.fd, follow_symlinks=False)
            if not stat.S_ISREG(there.st_mode):
                raise IsADirectoryError(errno.EISDIR, "not a regular file", self.path)
            self.stat_then, self.regular = there, True
        return self.stat_then

    # A `piperkit.queue.Claim`:

    @property
    def attempt(self) -> int:
        return self.record.attempts + 1

    @property
    def waits(self) -> int:
        return self.record.waits

    @property
    def arrived(self) -> float:
        return self.stat.st_mtime_ns / 1e9

    @property
    def size(self) -> int:
        return self.stat.st_size

    @property
    def path(self) -> str:
        return self.where.at(self.name)
