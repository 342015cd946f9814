"""The few file system operations that the queue is made of, each atomic or undone.

Rename that never replaces is renameat2(2) with RENAME_NOREPLACE; Python has no name for it. A lease is flock(2):
the kernel ends it with the process that holds it, and it survives rename(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import sys
from collections.abc import Callable
from typing import Self

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_libc = ctypes.CDLL(None, use_errno=True)
_SYNC_FILE_RANGE_WRITE = 2
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_libc.renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_ENCODING = sys.getfilesystemencoding()
_COPY_CHUNK = 1 << 20
_LOCK = fcntl.LOCK_EX | fcntl.LOCK_NB
_LOCK_SHARED = fcntl.LOCK_SH | fcntl.LOCK_NB
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
#: How a message is opened: without following a link, or waiting for a FIFO's writer.
OPEN_MESSAGE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

#: File systems, as /proc/self/mountinfo calls them, that other machines change without our kernel's knowing at once.
_REMOTE = ("nfs", "cifs", "smb", "9p", "ceph", "gluster", "lustre", "afs", "fuse.sshfs", "fuse.gluster", "fuse.s3")

#: What opening something says that is no message for us, and why.
NO_MESSAGE = {
    errno.EISDIR: "it is not a regular file",
    errno.ELOOP: "it is a link",
    errno.ENXIO: "it is a socket",
    errno.EACCES: "this user may not read it",
}
#: Errors that say "no room", and that pass when somebody makes room.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
#: Errors that say "too many open files", of the process or of the system.
NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})


def encode(name: str) -> bytes:
    """The bytes of a file name, as os.fsencode has them, in a third of the time."""
    return name.encode(_ENCODING, "surrogateescape")


class Directory:
    """A directory that is held open for a block of steps in it, which saves the way to it for each of them.

    Not for longer: its path may lead to another directory meanwhile. Outside of such a block it goes by its path.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = -1

    def __enter__(self) -> Self:
        # Only a place to begin at: it may be one that this process must not list.
        self.fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self.fd)
        self.fd = -1

    def at(self, name: str) -> str:
        """The path of a file in it."""
        return f"{self.path}/{name}"

    def holds(self, name: str, fd: int) -> bool:
        """Whether that file in it is the very one that `fd` is open on."""
        return is_at(fd, name, self.fd) if self.fd >= 0 else is_at(fd, self.at(name))

    def unlink_if_there(self, name: str) -> None:
        """Remove a file in it; that it is already gone is what was wanted."""
        with contextlib.suppress(FileNotFoundError):
            if self.fd >= 0:
                os.unlink(name, dir_fd=self.fd)
            else:
                os.unlink(self.at(name))

    def rename(self, name: str, target: Directory, new: str) -> None:
        """Move a file into another directory, or this one, as `rename_exclusive` does."""
        if self.fd < 0 or target.fd < 0:
            rename_exclusive(self.at(name), target.at(new))
            return
        try:
            rename_exclusive(name, new, self.fd, target.fd)
        except OSError as error:
            error.filename, error.filename2 = self.at(name), target.at(new)
            raise


def rename_exclusive(source: str, target: str, source_fd: int = _AT_FDCWD, target_fd: int = _AT_FDCWD) -> None:
    """Rename, atomically, and never onto an existing file; names may be relative to open directories.

    Raises FileExistsError where `target` exists, and otherwise what rename(2) raises. Where the file system
    knows no such rename (NFS) it is link(2) and unlink(2): for a moment, or after a crash, both names stand
    for one inode, which recovery recognises.
    """
    if _libc.renameat2(
        source_fd,
        source.encode(_ENCODING, "surrogateescape"),
        target_fd,
        target.encode(_ENCODING, "surrogateescape"),
        _RENAME_NOREPLACE,
    ):
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(code, os.strerror(code), source, None, target)
        source_dir, target_dir = (None if fd == _AT_FDCWD else fd for fd in (source_fd, target_fd))
        os.link(source, target, src_dir_fd=source_dir, dst_dir_fd=target_dir, follow_symlinks=False)
        try:
            os.unlink(source, dir_fd=source_dir)
        except BaseException:
            os.unlink(target, dir_fd=target_dir)
            raise


def write_all(fd: int, data: bytes) -> None:
    """Write every byte; write(2) may take fewer at a time, as a disk that fills up does."""
    written = os.write(fd, data) if data else 0
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def start_writing(fd: int) -> None:
    """Have the kernel begin to write a file to the disk, and do not wait: an fsync(2) of many files is shorter then.

    See sync_file_range(2); it promises nothing, and where it is not to be had, nothing is missing.
    """
    _libc.sync_file_range(fd, 0, 0, _SYNC_FILE_RANGE_WRITE)


def copy_all(source: int, target: int) -> None:
    """Copy the whole file behind `source` to `target`, a chunk at a time, wherever `source` stands."""
    offset = 0
    while chunk := os.pread(source, _COPY_CHUNK, offset):
        write_all(target, chunk)
        offset += len(chunk)


def read_all(fd: int, size: int) -> bytes:
    """The whole file behind `fd`, of about `size` bytes, from its beginning."""
    data = os.pread(fd, size + 1, 0)
    if len(data) == size:
        return data  # one byte more was asked for
    chunks = [data]
    offset = len(data)
    while chunk := os.pread(fd, max(size - offset, 0) + 1, offset):
        chunks.append(chunk)
        offset += len(chunk)
    return b"".join(chunks)


def same_contents(first: int, second: int) -> bool:
    """Whether two open files hold the same bytes."""
    if os.fstat(first).st_size != os.fstat(second).st_size:
        return False
    offset = 0
    while chunk := os.pread(first, _COPY_CHUNK, offset):
        if chunk != os.pread(second, len(chunk), offset):
            return False
        offset += len(chunk)
    return True


def sync_directory(path: str) -> None:
    """Make the names in a directory durable: fsync(2) of the directory itself, see there."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_message(path: str) -> int:
    """Open a regular file for reading, without following a link and without waiting for a FIFO's writer.

    Raises IsADirectoryError for anything that is not a regular file, ELOOP (an OSError) for a link, and else
    what open(2) raises.
    """
    fd = os.open(path, OPEN_MESSAGE)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise IsADirectoryError(errno.EISDIR, "not a regular file", path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def create(directory: Directory, new_name: Callable[[], str]) -> tuple[str, int]:
    """Make and open a file for us alone, under the first new name that is free: its name and descriptor."""
    while True:
        name = new_name()
        try:
            if directory.fd >= 0:
                return name, os.open(name, _NEW_FILE, 0o600, dir_fd=directory.fd)
            return name, os.open(directory.at(name), _NEW_FILE, 0o600)
        except FileExistsError:
            continue
        except OSError as error:
            error.filename = directory.at(name)
            raise


def try_lock(fd: int, *, shared: bool = False) -> bool:
    """Take the lease on an open file; False where another process, or another open of ours, holds it."""
    try:
        fcntl.flock(fd, _LOCK_SHARED if shared else _LOCK)
    except BlockingIOError:
        return False
    return True


def unlock(fd: int) -> None:
    """End the lease on an open file, which stays open."""
    fcntl.flock(fd, fcntl.LOCK_UN)


def is_at(fd: int, path: str, dir_fd: int | None = None) -> bool:
    """Whether `path` (not a link's target) names the very file that `fd` is open on."""
    try:
        there = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def lock_message(path: str, *, shared: bool = False) -> int | None:
    """Open and lock the regular file at `path`; None where it is locked, gone, or no message.

    The descriptor is compared with the path after locking, since the file may have been moved on in between
    and another one of that name may stand there.
    """
    try:
        fd = open_message(path)
    except OSError as error:
        if error.errno == errno.ENOENT or error.errno in NO_MESSAGE:
            return None
        raise
    try:
        if try_lock(fd, shared=shared) and is_at(fd, path):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def unlink_if_there(path: str) -> None:
    """Remove a file; that it is already gone is what was wanted."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def file_system(path: str) -> str:
    """The type of the file system that a directory is on; empty where that cannot be found out."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                fields = line.split()
                if fields[2] == wanted:
                    return fields[fields.index("-") + 1]
    except (OSError, ValueError, IndexError):
        pass
    return ""


def is_remote(path: str) -> bool:
    """Whether other machines may change a directory without our kernel's knowing at once."""
    return file_system(path).startswith(_REMOTE)


def status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """The status of a file that was listed (not of a link's target); None where it has moved on since."""
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None


def display(name: str) -> str:
    """A file name as text that any terminal, log or JSON writer takes: bytes that are not UTF-8 as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
