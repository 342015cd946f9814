"""New files of a queue: written whole in `tmp`, and only then given their names.

A file in `tmp` is locked and has the mode `fs.UNFINISHED` while it is written, so it is litter only when its writer is
dead.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Sequence

from piperkit import naming
from piperkit.dirq import fs
from piperkit.dirq.delivery import place
from piperkit.dirq.fs import Directory
from piperkit.dirq.layout import SHARED, Parts
from piperkit.dirq.sync import Syncer
from piperkit.errors import NoRoom, QueueMissing


class Writer:
    """Writes the files of a queue.

    mode: of a new file.
    owner: (uid, gid) of a new file, where the process may give it away; None: the process's own.
    """

    def __init__(
        self, parts: Parts, mode: int, owner: tuple[int, int] | None, syncer: Syncer, new_name: Callable[[], str]
    ) -> None:
        self._parts = parts
        self._mode = mode
        self._root = os.geteuid() == 0
        self._owner = owner if self._root else None
        self._syncer = syncer
        self._new_name = new_name

    def new_file(
        self,
        write: Callable[[int], object],
        *,
        like: os.stat_result | None = None,
        mode: int | None = None,
        sync: bool = True,
    ) -> tuple[str, int]:
        """A complete file in `tmp`, synced: its name, a new id, and descriptor. Nothing is left where that fails.

        like: a file whose owner and mode it is to have, where the process may give them; by default the queue's.
        """
        try:
            tmp = self._parts.tmp
            name, fd = tmp.create(self._new_name)
        except FileNotFoundError:
            if not self._parts.refresh(SHARED):
                raise
            tmp = self._parts.tmp  # it was made anew
            name, fd = tmp.create(self._new_name)
        try:
            owner, mode = self._owner, self._mode if mode is None else mode
            if owner is None and self._root and (account := os.fstat(tmp.fd).st_uid):
                owner = (account, -1)  # or the queue's own account could not work with what root has made
            if like is not None:
                owner = (like.st_uid, like.st_gid) if self._root else None
                mode = like.st_mode & 0o666
            write(fd)
            os.fchmod(fd, mode)
            if owner is not None:
                os.fchown(fd, *owner)  # last: whoever gives a file away may have no say in it any more
            if sync:
                self._syncer.file(fd)
        except BaseException as error:
            os.close(fd)
            tmp.remove(name)
            if isinstance(error, OSError) and error.errno in fs.NO_ROOM:
                raise NoRoom(f"no room in the queue {self._parts.path}: {error.strerror}") from error
            raise
        return name, fd

    def remove(self, name: str) -> None:
        """Remove a new file that gets no name of its own. Idempotent."""
        self._parts.tmp.remove(name)

    def publish(self, write: Callable[[int], object], name: str | None) -> str:
        """A new message in `incoming`; returns its name."""
        if name is not None:
            naming.check_id(name)
        self._parts.refresh(SHARED)
        return self._publish([self.new_file(write)], name)[0]

    def publish_group(self, group: Sequence[bytes]) -> list[str]:
        """New messages in `incoming`, all or none; returns their names, in order.

        All are written before the first is synced, so that the file system can bring them to the disk together.
        """
        written: list[tuple[str, int]] = []
        self._parts.refresh(SHARED)
        try:
            for data in group:
                name, fd = self.new_file(functools.partial(fs.write_all, data=data), sync=False)
                written.append((name, fd))
                if self._syncer.syncs:
                    fs.start_writing(fd)
            for _, fd in written:
                self._syncer.file(fd)
        except BaseException:
            for name, fd in written:
                os.close(fd)
                self.remove(name)
            raise
        return self._publish(written)

    def _publish(self, written: list[tuple[str, int]], wanted: str | None = None) -> list[str]:
        """Move new files from `tmp` to `incoming`, and close them; returns the names they got, if they can their own.

        wanted: the name to give to the only one.
        """
        placed: list[str] = []
        try:
            tmp, incoming = self._parts.tmp, self._parts.incoming
            for new, fd in written:
                name = wanted or new
                try:
                    tmp.rename(new, incoming, name)
                except FileExistsError:
                    name = place(tmp, new, os.fstat(fd), incoming, name, self._new_name)
                placed.append(name)
            self._syncer.changed(target=incoming)
        except BaseException:
            # Taken back, unless an instance has claimed it by now: whoever is told that it failed will try again.
            names_now = [*placed, *(wanted or new for new, _ in written[len(placed) :])]
            for (new, fd), name in zip(written, names_now, strict=True):
                for part, there in (("tmp", new), ("incoming", name)):
                    with contextlib.suppress(OSError, QueueMissing):
                        directory = getattr(self._parts, part)
                        stat = directory.stat(there)
                        if stat is not None and os.path.samestat(stat, os.fstat(fd)):
                            directory.remove(there)
            raise
        finally:
            for _, fd in written:
                os.close(fd)
        return placed

    def write_own(self, directory: Directory, name: str, data: bytes, times: tuple[int, int] | None = None) -> None:
        """Write a file of our own (a record, a sidecar), replacing an older one atomically.

        times: its access and modification time, in nanoseconds since the epoch.
        """

        def write(fd: int) -> None:
            fs.write_all(fd, data)
            if times is not None:
                os.utime(fd, ns=times)

        new, fd = self.new_file(write)
        os.close(fd)
        tmp = self._parts.tmp
        try:
            tmp.replace(new, directory, name)
        except BaseException:
            tmp.remove(new)
            raise
        self._syncer.changed(target=directory)
