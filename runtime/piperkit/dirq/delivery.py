"""Moving a message to another place, never onto another message and never half visible.

Within a file system a move is one rename. Across file systems it is copy, sync, publish, sync, delete: the copy is
written in the target's `tmp` and renamed into its `incoming` when it is complete and on the disk.

A name that is taken in the target: the same message (the same inode or, copied, the same bytes that arrived at the
same time) has arrived already, by a move that was cut off; another message keeps its name, and ours gets a new one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from piperkit.dirq import fs
from piperkit.dirq.sync import Syncer
from piperkit.errors import NoRoom, TargetUnavailable

_UNAVAILABLE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE})


def _arrived_already(fd: int, path: str, copied: bool) -> bool | None:
    """Whether the file at `path` is the message behind `fd`; None where there is no file any more."""
    if fs.is_at(fd, path):
        return True
    if not copied:
        return False if os.path.lexists(path) else None
    try:
        there = fs.open_message(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in fs.NO_MESSAGE:
            return False
        raise
    try:
        return os.fstat(fd).st_mtime_ns == os.fstat(there).st_mtime_ns and fs.same_contents(fd, there)
    finally:
        os.close(there)


def place(
    source: str,
    fd: int,
    directory: str,
    name: str,
    new_name: Callable[[], str],
    *,
    copied: bool = False,
) -> str:
    """Rename `source` (open as `fd`) into `directory`; returns the name it has there.

    copied: it is a copy from another file system, of which an earlier one may have arrived.
    """
    while True:
        target = f"{directory}/{name}"
        try:
            fs.rename_exclusive(source, target)
            return name
        except FileExistsError:
            arrived = _arrived_already(fd, target, copied)
            if arrived:
                os.unlink(source)
                return name
            if arrived is False:
                name = new_name()


class Delivery:
    """Moves and copies messages into other queues."""

    def __init__(self, syncer: Syncer, new_name: Callable[[], str]) -> None:
        self._syncer = syncer
        self._new_name = new_name
        self._reached = ""  #: the queue that the last message was moved to

    def move(self, source: str, fd: int, target: str, name: str) -> str:
        """Move `source` (open as `fd`) into the queue `target`; returns the name it has there.

        Raises TargetUnavailable or NoRoom, with the message where it was, or FileNotFoundError where `source`
        is gone.
        """
        incoming = f"{target}/incoming"
        self._reached = ""
        try:
            name = place(source, fd, incoming, name, self._new_name)
        except OSError as error:
            if error.errno == errno.EXDEV:
                name = self.copy(fd, target, name)
                # Two file systems, two journals: the copy has to be durable before the original goes.
                self._syncer.now(incoming)
                os.unlink(source)
            else:
                if error.errno == errno.ENOENT and not os.path.lexists(source):
                    raise
                raise _explained(error, target) from error
        self._reached = target
        self._syncer.changed(target=incoming, source=source.rpartition("/")[0])
        return name

    def check(self, target: str) -> None:
        """Raises TargetUnavailable where the queue `target` is not there, as far as is known without looking twice."""
        if target != self._reached and not os.path.isdir(f"{target}/incoming"):
            raise _missing(target)

    def copy(self, fd: int, target: str, name: str) -> str:
        """Copy the message behind `fd` into the queue `target`; returns the name it has there. Raises as `move`."""
        incoming = f"{target}/incoming"
        stat = os.fstat(fd)
        try:
            tmp = fs.Directory(f"{target}/tmp")
            new, copy = fs.create(tmp, self._new_name)
            temporary = tmp.at(new)
            try:
                fs.try_lock(copy)  # a writer that is still busy is not litter
                fs.copy_all(fd, copy)
                if os.geteuid() == 0:
                    os.fchown(copy, stat.st_uid, stat.st_gid)
                os.fchmod(copy, stat.st_mode & 0o666)
                os.utime(copy, ns=(stat.st_atime_ns, stat.st_mtime_ns))
                self._syncer.file(copy)
                name = place(temporary, copy, incoming, name, self._new_name, copied=True)
            except BaseException:
                fs.unlink_if_there(temporary)
                raise
            finally:
                os.close(copy)
        except OSError as error:
            raise _explained(error, target) from error
        self._syncer.changed(target=incoming)
        return name


def _missing(target: str) -> TargetUnavailable:
    """What to raise where the queue `target` is not there."""
    return TargetUnavailable(f"{target} is not a queue: it has no directory 'incoming'")


def _explained(error: OSError, target: str) -> Exception:
    if error.errno in fs.NO_ROOM:
        return NoRoom(f"no room in the queue {target}: {error.strerror}")
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and not os.path.isdir(os.path.join(target, "incoming")):
        return _missing(target)
    if error.errno in _UNAVAILABLE:
        return TargetUnavailable(f"the queue {target} cannot be written to: {error.strerror}")
    return error
