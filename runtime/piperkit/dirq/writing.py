"""New files of a queue: written whole in `tmp`, and only then given their names.

A file in `tmp` is locked while it is written, so it is litter only when its writer is dead.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence

from piperkit.dirq import fs, names
from piperkit.dirq.delivery import place
from piperkit.dirq.sync import Syncer
from piperkit.errors import NoRoom


class Writer:
    """Writes the files of the queue at `path`.

    mode: of a new file.
    owner: (uid, gid) of a new file, where the process may give it away; None: the process's own.
    """

    def __init__(
        self, path: str, mode: int, owner: tuple[int, int] | None, syncer: Syncer, new_name: Callable[[], str]
    ) -> None:
        self.tmp = fs.Directory(f"{path}/tmp")
        self._incoming = fs.Directory(f"{path}/incoming")
        self._path = path
        self._mode = mode
        self._root = os.geteuid() == 0
        self._owner = owner if self._root else None
        self._syncer = syncer
        self._new_name = new_name

    def new_file(
        self, write: Callable[[int], None], *, like: os.stat_result | None = None, sync: bool = True
    ) -> tuple[str, int]:
        """A complete file in `tmp`, synced: its name, a new id, and descriptor. Nothing is left where that fails.

        like: a file whose owner and mode it is to have, where the process may give them; by default the queue's.
        """
        name, fd = fs.create(self.tmp, self._new_name)
        try:
            fs.try_lock(fd)  # a writer that is still busy is not litter
            owner, mode = self._owner, self._mode
            if like is not None:
                owner = (like.st_uid, like.st_gid) if self._root else None
                mode = like.st_mode & 0o666
            if owner is not None:
                os.fchown(fd, *owner)
            os.fchmod(fd, mode)
            write(fd)
            if sync:
                self._syncer.file(fd)
        except BaseException as error:
            os.close(fd)
            self.remove(name)
            if isinstance(error, OSError) and error.errno in fs.NO_ROOM:
                raise NoRoom(f"no room in the queue {self._path}: {error.strerror}") from error
            raise
        return name, fd

    def remove(self, name: str) -> None:
        """Remove a new file that gets no name of its own. Idempotent."""
        self.tmp.unlink_if_there(name)

    def publish(self, write: Callable[[int], None], name: str | None) -> str:
        """A new message in `incoming`; returns its name."""
        if name is not None:
            names.check_id(name)
        return self._publish([self.new_file(write)], name)[0]

    def publish_group(self, group: Sequence[bytes]) -> list[str]:
        """New messages in `incoming`, all or none; returns their names, in order.

        All are written before the first is synced, so that the file system can bring them to the disk together.
        """
        written: list[tuple[str, int]] = []
        with self.tmp, self._incoming:
            try:
                for data in group:
                    name, fd = self.new_file(functools.partial(fs.write_all, data=data), sync=False)
                    written.append((name, fd))
                    self._syncer.file_soon(fd)
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
        tmp, incoming = self.tmp, self._incoming
        placed: list[str] = []
        try:
            for new, fd in written:
                name = wanted or new
                try:
                    tmp.rename(new, incoming, name)
                except FileExistsError:
                    name = place(tmp.at(new), fd, incoming.path, name, self._new_name)
                placed.append(name)
                fs.unlock(fd)
            self._syncer.changed(target=incoming.path)
        except BaseException:
            # Taken back, unless an instance has claimed it by now: whoever is told that it failed will try again.
            names_now = [*placed, *(wanted or new for new, _ in written[len(placed) :])]
            for (new, fd), name in zip(written, names_now, strict=True):
                for directory, there in ((tmp, new), (incoming, name)):
                    if directory.holds(there, fd) and fs.try_lock(fd):
                        directory.unlink_if_there(there)
            raise
        finally:
            for _, fd in written:
                os.close(fd)
        return placed

    def write_own(self, path: str, data: bytes, mtime: int | None = None) -> None:
        """Write a file of our own (a record, a sidecar), replacing an older one atomically."""

        def write(fd: int) -> None:
            fs.write_all(fd, data)
            if mtime is not None:
                os.utime(fd, ns=(mtime, mtime))

        new, fd = self.new_file(write)
        os.close(fd)
        try:
            os.rename(self.tmp.at(new), path)
        except BaseException:
            self.remove(new)
            raise
        self._syncer.changed(target=os.path.dirname(path))
