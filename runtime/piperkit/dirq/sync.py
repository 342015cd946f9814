"""When what was done is on the disk: the three settings of `queue_sync`.

Only fsync(file), rename, fsync(directory) survives a power cut on ext4, xfs and btrfs; a move needs its destination
on the disk before its source, or a cut in between could lose it.

- `batch`: files are synced before they get their names; directories once for all operations of a batch, at its
  end. What was reported done is on the disk; an operation outside of a batch is a batch of its own.
- `always`: directories too are synced by each operation.
- `off`: the kernel writes when it likes. A process may die at any time, the machine may not.
"""

from __future__ import annotations

import contextlib
import enum
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager

from piperkit.dirq import fs


class Sync(enum.Enum):
    BATCH = "batch"
    ALWAYS = "always"
    OFF = "off"


class Syncer:
    """Collects the directories that were changed and syncs them when it is time."""

    def __init__(self, mode: Sync) -> None:
        self._mode = mode
        self.syncs = mode is not Sync.OFF  #: whether `changed` has to be told anything
        self._depth = 0
        # dicts, as sets that keep their order
        self._targets: dict[str, None] = {}
        self._sources: dict[str, None] = {}

    def file_soon(self, fd: int) -> None:
        """A file is complete, one of many, for which `file` is called when all of them are."""
        if self.syncs:
            fs.start_writing(fd)

    def file(self, fd: int) -> None:
        """A file is complete, and about to get its name."""
        if self.syncs:
            os.fsync(fd)

    def changed(self, *, target: str | None = None, source: str | None = None) -> None:
        """A name was added to `target`, removed from `source`."""
        if not self.syncs:
            return
        if target is not None:
            self._targets[target] = None
        if source is not None:
            self._sources[source] = None
        if not self._depth:
            self.flush()

    def now(self, directory: str) -> None:
        """A name in `directory` must be durable before anything else is done."""
        if self.syncs:
            fs.sync_directory(directory)

    def batch(self) -> AbstractContextManager[None]:
        """Operations that become durable together, at the end; nested ones with the outermost."""
        return contextlib.nullcontext() if self._mode is Sync.ALWAYS else self.operation()

    @contextlib.contextmanager
    def operation(self) -> Iterator[None]:
        """The steps of one operation: what they changed is synced at its end, or at that of the batch around it."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def enter(self) -> bool:
        """Begin an operation; `leave` ends it. For where each microsecond counts; else, see `operation`.

        Returns whether that syncs what has changed, which takes its time.
        """
        self._depth += 1
        return self.syncs and self._depth == 1

    def leave(self) -> None:
        """End it."""
        self._depth -= 1
        if not self._depth:
            self.flush()

    def flush(self) -> None:
        """Sync destinations, then sources. What failed is kept and synced by the next flush."""
        for pending in (self._targets, self._sources):
            while pending:
                directory = next(iter(pending))
                try:
                    fs.sync_directory(directory)
                except FileNotFoundError:
                    pass  # the directory itself was removed: there is nothing left to keep
                del pending[directory]
