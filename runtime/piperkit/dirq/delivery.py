"""Moving a message to another place, never onto another message and never half visible.

Within a file system a move is one rename. Across file systems it is copy, sync, publish, sync, delete: the copy is
written in the target's `tmp` and renamed into its `incoming` when it is complete and on the disk. Nothing else of the
target is touched or looked at. A queue of another engine is an `Outlet`: put, sync, delete.

A name that is taken in the target: the same message (the same inode or, copied, the same bytes that arrived at the
same time) has arrived already, by a move that was cut off; another message keeps its name, and ours gets a new one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from piperkit.dirq import fs
from piperkit.dirq.fs import Directory
from piperkit.dirq.sync import Syncer
from piperkit.errors import MessageTooLarge, NoRoom, TargetUnavailable
from piperkit.queue import Outlet

_UNAVAILABLE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE}
    | {errno.ENAMETOOLONG}
)
#: Target queues that are held open.
_TARGETS_MAX = 32


def place(
    source: Directory,
    old: str,
    stat: os.stat_result,
    target: Directory,
    name: str,
    new_name: Callable[[], str],
    *,
    copy_of: int | None = None,
) -> str:
    """Rename the file `old`, of this status, into `target`; returns the name it has there.

    copy_of: it is a copy of this open file, of which an earlier copy may have arrived.
    """
    while True:
        try:
            source.rename(old, target, name)
            return name
        except FileExistsError:
            arrived = _has_arrived(stat, target, name, copy_of)
            if arrived:
                source.unlink(old)
                return name
            if arrived is False:
                name = new_name()


def _has_arrived(stat: os.stat_result, target: Directory, name: str, copy_of: int | None) -> bool | None:
    """Whether the file of that name is the message; None where there is no file any more."""
    there = target.stat(name)
    if there is None:
        return None
    if os.path.samestat(there, stat):
        return True
    if copy_of is None or there.st_mtime_ns != stat.st_mtime_ns:
        return False
    try:
        fd = target.open(name)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in fs.NO_MESSAGE:
            return False
        raise
    try:
        return fs.same_contents(copy_of, fd)
    finally:
        os.close(fd)


class Delivery:
    """Moves and copies messages into other queues."""

    def __init__(
        self, syncer: Syncer, new_name: Callable[[], str], elsewhere: Callable[[str], Outlet] | None = None
    ) -> None:
        self._syncer = syncer
        self._new_name = new_name
        self._elsewhere = elsewhere
        self._outlets: dict[str, Outlet] = {}
        self._open: dict[str, Directory] = {}  #: targets' `incoming`, until the next `refresh`

    def refresh(self) -> None:
        """Look anew where the paths of targets lead to. Called for each batch of claims."""
        self._open.clear()

    def incoming(self, target: str) -> Directory:
        """The `incoming` of the queue at `target`. Raises TargetUnavailable where it is not there, or is a link."""
        found = self._open.get(target)
        if found is None:
            found = part(target, "incoming")
            if len(self._open) >= _TARGETS_MAX:
                self._open.clear()
            self._open[target] = found
        return found

    def move(self, source: Directory, old: str, target: str, most: int | None = None) -> str:
        """Move the file `old` into the queue `target`; returns the name it has there.

        Raises TargetUnavailable or NoRoom, with the message where it was, or FileNotFoundError where it is gone.
        """
        name = old
        if target[:1] != "/":
            return self._move_elsewhere(source, old, target, most)
        incoming = self._open.get(target) or self.incoming(target)
        try:
            try:
                fs.rename_exclusive(old, old, source.fd, incoming.fd)
            except FileExistsError:
                stat = os.stat(old, dir_fd=source.fd, follow_symlinks=False)
                name = place(source, old, stat, incoming, old, self._new_name)
        except OSError as error:
            if error.errno == errno.EXDEV:
                fd = source.open(old)
                try:
                    name = self.copy(fd, target, old, most)
                finally:
                    os.close(fd)
                # Two file systems, two journals: the copy has to be durable before the original goes.
                self._syncer.now(incoming)
                source.unlink(old)
            else:
                self._open.clear()
                if error.errno == errno.ENOENT and not source.has(old):
                    raise
                raise explained(error, target)  # noqa: B904  it has its cause, or is the error itself
        syncer = self._syncer
        if syncer.syncs and (source not in syncer.sources or incoming not in syncer.targets):
            syncer.changed(target=incoming, source=source)
        return name

    def _move_elsewhere(self, source: Directory, old: str, target: str, most: int | None) -> str:
        fd = source.open(old)
        try:
            name = self.copy(fd, target, old, most)
        finally:
            os.close(fd)
        source.unlink(old)
        self._syncer.changed(source=source)
        return name

    def outlet(self, target: str) -> Outlet:
        """The queue of another engine at `target`. Raises TargetUnavailable."""
        found = self._outlets.get(target)
        if found is None:
            if self._elsewhere is None or ":" not in target:
                raise TargetUnavailable(f"{fs.display(target)!r} is not a queue: it must be an absolute path")
            found = self._outlets[target] = self._elsewhere(target)
        return found

    def close(self) -> None:
        """Let go of the queues of other engines."""
        for outlet in self._outlets.values():
            outlet.close()
        self._outlets.clear()

    def copy(self, fd: int, target: str, name: str, most: int | None = None) -> str:
        """Copy the message behind `fd` into the queue `target`; returns the name it has there. Raises as `move`.

        most: bytes that it may have; raises MessageTooLarge where its producer has had it grow over that.
        """
        stat = os.fstat(fd)
        if target[:1] != "/":
            if most is not None and stat.st_size > most:
                raise MessageTooLarge(f"the message is larger than message_max, {most} bytes")
            outlet = self.outlet(target)
            outlet.put(name, stat.st_mtime_ns / 1e9, fs.read_all(fd))
            outlet.sync()
            return name
        incoming, tmp = self.incoming(target), part(target, "tmp")
        try:
            new, copy = tmp.create(self._new_name)
            try:
                if not fs.copy_all(fd, copy, most):
                    raise MessageTooLarge(f"the message is larger than message_max, {most} bytes")
                if os.geteuid() == 0:
                    os.fchown(copy, stat.st_uid, stat.st_gid)
                os.fchmod(copy, stat.st_mode & 0o666)
                os.utime(copy, ns=(stat.st_atime_ns, stat.st_mtime_ns))
                self._syncer.file(copy)
                name = place(tmp, new, os.fstat(copy), incoming, name, self._new_name, copy_of=fd)
            except BaseException:
                tmp.remove(new)
                raise
            finally:
                os.close(copy)
        except OSError as error:
            self._open.clear()
            raise explained(error, target)  # noqa: B904  it has its cause, or is the error itself
        self._syncer.changed(target=incoming)
        return name


def part(target: str, part: str) -> Directory:
    """A part of the queue at `target`. Raises TargetUnavailable where it is not there, or is a link."""
    try:
        if not target.startswith("/") or "\0" in target:
            raise TargetUnavailable(f"{fs.display(target)!r} is not a queue: it must be an absolute path")
        queue = Directory(target)
        try:
            return Directory(f"{target}/{part}", queue)
        finally:
            queue.close()
    except UnicodeEncodeError:
        raise TargetUnavailable(f"{target!r} is not a queue: it stands for no bytes") from None
    except OSError as error:
        raise explained(error, target)  # noqa: B904  it has its cause, or is the error itself


def explained(error: OSError, target: str) -> Exception:
    """What to raise for an error of the system at a target: an exception that it is the cause of, or itself."""
    shown = fs.display(target)
    explained: Exception
    if error.errno in fs.NO_ROOM:
        explained = NoRoom(f"no room in the queue {shown}: {error.strerror}")
    elif error.errno in (errno.ENOENT, errno.ENOTDIR) and not os.path.isdir(f"{target}/incoming"):
        explained = TargetUnavailable(f"{shown} is not a queue: it has no directory 'incoming'")
    elif error.errno in _UNAVAILABLE:
        explained = TargetUnavailable(f"the queue {shown} cannot be written to: {error.strerror}")
    else:
        return error
    explained.__cause__ = error
    return explained
