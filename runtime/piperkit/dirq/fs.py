"""The few file system operations that the queue is made of, each atomic or undone.

A rename that never replaces is renameat2(2) with RENAME_NOREPLACE; Python has no name for it. A lock is flock(2): the
kernel ends it with the process that holds it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import stat
import sys
from collections.abc import Callable, Iterator

from piperkit.text import harmless

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_libc = ctypes.CDLL(None, use_errno=True)
_SYNC_FILE_RANGE_WRITE = 2
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_libc.renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_libc.syncfs.argtypes = (ctypes.c_int,)
#: cachestat(2), Linux 6.5, has the same number on all machines but alpha; the C library has no name for it.
_CACHESTAT = 451
_WHOLE_FILE = (ctypes.c_uint64 * 2)(0, 0)
#: ioctl(2) that makes a file share another one's blocks, on btrfs and xfs: linux/fs.h.
_FICLONE = 0x40049409
_ENCODING = sys.getfilesystemencoding()
_COPY_CHUNK = 1 << 20
#: The mode of a file that is being made. Its sticky bit, which means nothing on a file, tells that a program of ours
#: writes it, and so that it is litter as soon as nobody has it locked.
UNFINISHED = 0o1600
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_DIRECTORY = os.O_DIRECTORY | os.O_CLOEXEC
#: How a message is opened: without following a link, or waiting for a FIFO's writer.
OPEN_MESSAGE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

#: What opening something says that is not a message for us, and why.
NO_MESSAGE = {
    errno.EISDIR: "it is not a regular file",
    errno.ELOOP: "it is not a regular file",
    errno.ENXIO: "it is not a regular file",
    errno.EACCES: "this user may not read it",
}
#: Errors that can be of a single file: immutable, in a sticky directory, a damaged inode.
OF_ONE_FILE = frozenset({errno.EPERM, errno.EACCES, errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ESTALE})
#: Errors that say "no room", and that pass when somebody makes room.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def encode(name: str) -> bytes:
    """The bytes of a file name, as os.fsencode has them, in a third of the time."""
    return name.encode(_ENCODING, "surrogateescape")


def display(name: str) -> str:
    """A file name as text that any terminal, log or JSON writer takes on one line: other bytes as \\xNN."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return harmless(text)


class Directory:
    """A directory that is held open. Each step in it goes by descriptor, so that no link can lead it astray.

    path: where it was, for messages and to see whether it still is there.
    within: a directory to look `path`'s last name up in; that name must not be a link then.
    Raises OSError: NotADirectoryError for a link, too.
    """

    def __init__(self, path: str, within: Directory | None = None) -> None:
        self.path = path
        self.fd = -1
        # O_PATH: it may be one that this process must not list.
        if within is None:
            self.fd = os.open(path, os.O_PATH | _DIRECTORY)
        else:
            name = os.path.basename(path)
            self.fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | _DIRECTORY, dir_fd=within.fd)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def at(self, name: str) -> str:
        """The path of a file in it, for messages."""
        return f"{self.path}/{name}"

    def is_there(self) -> bool:
        """Whether its path still leads to it."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self.fd))
        except OSError:
            return False

    def is_same(self, other: Directory) -> bool:
        """Whether the two are one."""
        return self is other or os.path.samestat(os.fstat(self.fd), os.fstat(other.fd))

    @contextlib.contextmanager
    def entries(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        """Its entries, as os.scandir gives them."""
        fd = os.open(".", os.O_RDONLY | _DIRECTORY, dir_fd=self.fd)
        try:
            with os.scandir(fd) as entries:
                yield entries
        finally:
            os.close(fd)

    def names(self, most: int | None = None, *, every: bool = False) -> list[str]:
        """The names of its regular files that are not hidden, up to `most` of them, in no order.

        every: of whatever else is in it, too.
        """
        with self.entries() as entries:
            files = entries if every else regular(entries)
            return [entry.name for entry in itertools.islice(files, most) if entry.name[0] != "."]

    def stat(self, name: str) -> os.stat_result | None:
        """The status of a file in it, not of a link's target; None where there is none."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def has(self, name: str) -> bool:
        """Whether there is anything of that name in it."""
        return self.stat(name) is not None

    def open(self, name: str, flags: int = 0) -> int:
        """Open a regular file for reading, without following a link or waiting for a FIFO's writer.

        Raises IsADirectoryError for anything that is not a regular file, ELOOP (an OSError) for a link, and else
        what open(2) raises.
        """
        fd = os.open(name, OPEN_MESSAGE | flags, dir_fd=self.fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise IsADirectoryError(errno.EISDIR, "not a regular file", self.at(name))
        return fd

    def create(self, new_name: Callable[[], str]) -> tuple[str, int]:
        """Make and open a file for us alone, locked, under the first new name that is free: name and descriptor.

        Its lock tells that its writer lives.
        """
        while True:
            name = new_name()
            try:
                fd = os.open(name, _NEW_FILE, UNFINISHED, dir_fd=self.fd)
            except FileExistsError:
                continue
            except OSError as error:
                error.filename = self.at(name)
                raise
            try:
                try_lock(fd)
            except BaseException:
                os.close(fd)
                self.remove(name)
                raise
            return name, fd

    def unlink(self, name: str) -> None:
        """Remove a file in it. Raises FileNotFoundError where there is none."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except OSError as error:
            error.filename = self.at(name)
            raise

    def remove(self, name: str) -> None:
        """Remove a file in it; that it is already gone is what was wanted."""
        with contextlib.suppress(FileNotFoundError):
            self.unlink(name)

    def rename(self, name: str, target: Directory, new: str) -> None:
        """Move a file into another directory, or this one, as `rename_exclusive` does."""
        try:
            rename_exclusive(name, new, self.fd, target.fd)
        except OSError as error:
            error.filename, error.filename2 = self.at(name), target.at(new)
            raise

    def replace(self, name: str, target: Directory, new: str) -> None:
        """Move a file into another directory in place of what has that name there: what is ours alone."""
        os.rename(name, new, src_dir_fd=self.fd, dst_dir_fd=target.fd)

    def exchange(self, name: str, target: Directory, other: str) -> None:
        """Exchange a file with one in another directory, atomically. Raises OSError; EINVAL where that cannot be."""
        if _libc.renameat2(self.fd, encode(name), target.fd, encode(other), _RENAME_EXCHANGE):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), self.at(name), None, target.at(other))

    def sync(self) -> None:
        """Make its names durable: fsync(2) of the directory itself, see there."""
        fd = os.open(".", os.O_RDONLY | _DIRECTORY, dir_fd=self.fd)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class Walk:
    """Goes through the entries of a directory a part at a time, and then begins again: bounded work a call."""

    def __init__(self, directory: Callable[[], Directory]) -> None:
        self._directory = directory
        self._open: contextlib.ExitStack | None = None
        self._entries: Iterator[os.DirEntry[str]] = iter(())

    def some(self, most: int) -> list[str]:
        """The names of the next regular files, up to `most`; fewer at the end of a round (`ended`). Raises OSError."""
        if self._open is None:
            with contextlib.ExitStack() as stack:
                self._entries = regular(stack.enter_context(self._directory().entries()))
                self._open = stack.pop_all()
        try:
            found = [entry.name for entry in itertools.islice(self._entries, most)]
        except BaseException:
            self.close()
            raise
        if len(found) < most:
            self.close()
        return found

    @property
    def ended(self) -> bool:
        """Whether the next part begins a new round."""
        return self._open is None

    def close(self) -> None:
        """Begin again at the next call. Idempotent."""
        if self._open is not None:
            self._open.close()
            self._open = None


def regular(entries: Iterator[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
    """Those of a directory's entries that are regular files; links are not followed."""
    for entry in entries:
        try:
            if entry.is_file(follow_symlinks=False):
                yield entry
        except FileNotFoundError:
            continue  # moved on meanwhile, on a file system whose listing does not tell kinds


def rename_exclusive(source: str, target: str, source_fd: int = _AT_FDCWD, target_fd: int = _AT_FDCWD) -> None:
    """Rename, atomically, and never onto an existing file; names may be relative to open directories.

    Raises FileExistsError where `target` exists, and otherwise what rename(2) raises. Where the file system
    knows no such rename (NFS) it is link(2) and unlink(2): for a moment, or after a crash, both names stand
    for one inode, which recovery recognises.
    """
    encoded = source.encode(_ENCODING, "surrogateescape")
    # Mostly both names are the same.
    other = encoded if target is source else target.encode(_ENCODING, "surrogateescape")
    if _libc.renameat2(source_fd, encoded, target_fd, other, _RENAME_NOREPLACE):
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


def is_clean(fd: int) -> bool:
    """Whether nothing of a file's contents waits to be written; False where the kernel does not tell."""
    pages = (ctypes.c_uint64 * 5)()  # cached, dirty, in writeback, and two more
    if _libc.syscall(_CACHESTAT, fd, _WHOLE_FILE, pages, 0):
        return False
    return not (pages[1] or pages[2])


def sync_file_system(directory: Directory) -> None:
    """Make all durable that was done on a directory's file system: syncfs(2)."""
    fd = os.open(".", os.O_RDONLY | _DIRECTORY, dir_fd=directory.fd)
    try:
        if _libc.syncfs(fd):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), directory.path)
    finally:
        os.close(fd)


def copy_all(source: int, target: int, most: int | None = None) -> bool:
    """Copy the file behind `source` to `target`, which is empty: at first by sharing its blocks, where that can be.

    most: bytes that it may have. Returns False where it has more: then nothing useful was copied.
    """
    try:
        fcntl.ioctl(target, _FICLONE, source)
        return most is None or os.fstat(target).st_size <= most
    except OSError:
        pass  # another file system, or one that cannot
    offset = 0
    while chunk := os.pread(source, _COPY_CHUNK, offset):
        offset += len(chunk)
        if most is not None and offset > most:
            return False
        write_all(target, chunk)
    return True


def read_all(fd: int) -> bytes:
    """All that an open file holds."""
    chunks, offset = [], 0
    while chunk := os.pread(fd, _COPY_CHUNK, offset):
        chunks.append(chunk)
        offset += len(chunk)
    return b"".join(chunks)


def same_contents(first: int, second: int) -> bool:
    """Whether two open files hold the same bytes."""
    size = os.fstat(first).st_size
    if size != os.fstat(second).st_size:
        return False
    offset = 0
    while offset < size and (chunk := os.pread(first, _COPY_CHUNK, offset)):
        if chunk != os.pread(second, len(chunk), offset):
            return False
        offset += len(chunk)
    return True


def is_at(fd: int, path: str) -> bool:
    """Whether `path` (not a link's target) names the very file that `fd` is open on."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


def try_lock(fd: int) -> bool:
    """Lock an open file for us alone; False where another process, or another open of ours, holds a lock on it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def release(fd: int) -> None:
    """Unlock an open file and close it.

    To close it alone would leave the lock to a child that another thread is starting in this moment, until its exec.
    Not for a forked child that lets go of its parent's lock: it would take that from it.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def lock_holder(fd: int) -> int | None:
    """The pid of a process that holds a lock on an open file, as /proc/locks has it; None where that is not known."""
    here = os.fstat(fd)
    wanted = b"%02x:%02x:%d" % (os.major(here.st_dev), os.minor(here.st_dev), here.st_ino)
    # In bytes, here and below: a codec may be out of reach by now, after a chroot or as another user.
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/locks", "rb") as locks:
        for line in locks:
            fields = line.split()
            if wanted in fields:
                return int(fields[fields.index(wanted) - 1])
    return None


def file_system(directory: Directory) -> str:
    """The type of the file system that a directory is on; empty where that cannot be found out."""
    try:
        with open(f"/proc/self/fdinfo/{directory.fd}", "rb") as info:  # btrfs has other device numbers
            mount = next(line.split()[1] for line in info if line.startswith(b"mnt_id:"))
        with open("/proc/self/mountinfo", "rb") as mounts:
            for line in mounts:
                fields = line.split()
                if fields[0] == mount:
                    return os.fsdecode(fields[fields.index(b"-") + 1])
    except (OSError, ValueError, IndexError, StopIteration):
        pass
    return ""
