"""When changes reach the disk: the three settings of `queue_sync`.

Only fsync(file), rename, fsync(directory) survives a power cut on ext4, xfs and btrfs; a move needs its destination
on the disk before its source, or a cut in between could lose it.

- `batch`: files are synced before they get their names; directories once for all operations of a batch, at its
  end. What was reported done is on the disk; an operation outside of a batch is a batch of its own.
- `always`: directories too are synced by each operation.
- `off`: left to the kernel. A process may die at any time, the machine may not.

A message that is passed on as it came may never have been synced by whoever wrote it. Where its pages wait to be
written, or that cannot be told, the end of the batch syncs the file system, once for all of them. On ext4 and xfs
nothing more is needed where they do not: the sync of a directory commits all that was logged before. On btrfs it
does not: there each end of a batch syncs the file system, or what has moved on would be in its old places too.
"""

from __future__ import annotations

import contextlib
import enum
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager

from piperkit.dirq import fs
from piperkit.dirq.fs import Directory

#: File systems whose fsync(2) of a directory commits the sizes of all files that were written before.
_ORDERED = ("ext4", "xfs", "tmpfs")
#: One whose fsync(2) of a directory may keep names that were removed from another one, by the claim for instance.
_FORGETFUL = "btrfs"


class Sync(enum.Enum):
    BATCH = "batch"
    ALWAYS = "always"
    OFF = "off"


class Syncer:
    """Collects the directories that were changed and syncs them when it is time."""

    def __init__(self, mode: Sync) -> None:
        self._mode = mode
        self.syncs = mode is not Sync.OFF  #: whether `changed` has to be told anything
        self.depth = 0  #: operations that are under way, and batches
        # dicts, as sets that keep their order
        # What is among these need not be told again.
        self.targets: dict[Directory, None] = {}
        self.sources: dict[Directory, None] = {}
        self._whole: Directory | None = None  #: on a file system that is to be synced as a whole
        self._kind = ""  #: the queue's file system, once it was looked at

    def file(self, fd: int) -> None:
        """A file is complete, and about to get its name."""
        if self.syncs:
            os.fsync(fd)

    def is_synced(self, fd: int, directory: Directory) -> bool:
        """Whether a file that others wrote will be whole on the disk as soon as the directory it is moved to is."""
        if not self._kind:
            self._kind = fs.file_system(directory) or "unknown"
        return self._kind in _ORDERED and fs.is_clean(fd)

    def whole(self, directory: Directory) -> None:
        """A file that is not synced was moved within the file system of `directory`."""
        self._whole = directory

    def changed(self, *, target: Directory | None = None, source: Directory | None = None) -> None:
        """A name was added to `target`, removed from `source`."""
        if not self.syncs:
            return
        if target is not None:
            self.targets[target] = None
        if source is not None:
            self.sources[source] = None
            if not self._kind:
                self._kind = fs.file_system(source) or "unknown"
            if self._kind == _FORGETFUL:
                self.whole(source)
        if not self.depth:
            self.flush()

    def now(self, directory: Directory) -> None:
        """A name in `directory` must be durable before anything else is done."""
        if self.syncs:
            directory.sync()

    def batch(self) -> AbstractContextManager[None]:
        """Operations that become durable together, at the end; nested ones with the outermost."""
        return contextlib.nullcontext() if self._mode is Sync.ALWAYS else self.operation()

    @contextlib.contextmanager
    def operation(self) -> Iterator[None]:
        """The steps of one operation: what they changed is synced at its end, or at that of the batch around it."""
        self.depth += 1
        try:
            yield
        finally:
            self.leave()

    def leave(self) -> None:
        """End what began with one more in `depth`: for where each microsecond counts; else, see `operation`."""
        self.depth -= 1
        if self.syncs and not self.depth:
            self.flush()

    def flush(self) -> None:
        """Sync destinations, then sources. What failed is kept and synced by the next flush."""
        if self._whole is not None:
            fs.sync_file_system(self._whole)
            self._whole = None
        for pending in (self.targets, self.sources):
            while pending:
                directory = next(iter(pending))
                directory.sync()
                del pending[directory]
