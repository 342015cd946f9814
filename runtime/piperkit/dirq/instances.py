"""The instances that work on a queue, and what each of them has claimed: the lease of an instance.

`instances/HOST.PID.N` is an instance's record, locked by flock(2) while it lives. It lists the names of the messages
that it has claimed, in the order in which it works on them, and is written before they are renamed to `pending`. So

- a claim that a locked record lists is alive, however slow it is; one that only a record without a lock lists is an
  orphan; one that no record lists is a foreign program's, see `recovery`;
- what an instance died of is the first name of its list that is still in `pending`, if it had begun any: that costs
  one byte written for a batch. What it began out of turn is noted by name.

A record is rewritten in place by one write(2): it has to outlive a process, not a power cut. Its checksum tells a
reader that a write is under way. Where it cannot be written (the disk is full), the instance claims all the same, and
holds the lock of recovery until it can.

A forked child is not an instance: it lets go of the record.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import re
import socket
import time
import zlib
from collections.abc import Callable, Iterable, Sequence

from piperkit.dirq import fs
from piperkit.dirq.fs import Directory
from piperkit.dirq.reading import Unreadable, read_small

#: The file whose lock is held by whoever recovers.
RECOVERY = ".recovery"
#: The first byte of a record: nothing was begun since it was written, or something was.
_RESTING, _WORKING = b"-", b"+"
#: Runs of recovery after which a record that cannot be read is passed by.
_FAULTS_MAX = 3
#: NFS gives no lock for a file that is open for reading only.
_READ_WRITE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """What an instance's record says."""

    working: bool  #: it had begun work on the first of them that is still claimed
    begun: tuple[str, ...]  #: those that it began out of turn
    claimed: tuple[str, ...]  #: all of them, in order


class Instance:
    """This instance's record, made and locked when it is needed first, and removed by `close`."""

    def __init__(self, directory: Callable[[], Directory], host: str | None, logger: logging.Logger) -> None:
        self._find = directory
        self._host = re.sub(r"[^A-Za-z0-9_-]", "-", host or socket.gethostname())[:64] or "localhost"
        self._logger = logger
        self._directory: Directory | None = None
        self._fd = -1
        self._recovery = -1  #: the lock of recovery, which stands for a list that cannot be written
        self._listed: list[str] = []  #: the names in the record
        self.begun: tuple[str, ...] = ()  #: those that were begun out of turn
        self.working = False
        self.name = ""

    def open(self) -> None:
        """Make the record, if it is not there yet. Raises OSError, and then nothing is left of it."""
        directory = self._find()
        if self._fd >= 0 and self._directory is not None:
            if directory.is_same(self._directory):
                self._directory = directory
                return
            listed, begun, working = self._listed, self.begun, self.working
            self.close()  # the queue was made anew, or this part of it
            self.open()
            self._listed, self.begun, self.working = listed, begun, working
            self._write(_WORKING if working else _RESTING)
            return
        number = time.time_ns()  # a pid comes again (in a container it is always 1), and a death is known by this name
        while self._fd < 0:
            number += 1
            name = f"{self._host}.{os.getpid()}.{number}"
            try:
                fd = os.open(name, _READ_WRITE | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory.fd)
            except FileExistsError:
                continue
            try:
                _give(fd, directory)
                if fs.try_lock(fd) and directory.has(name):
                    self._fd, self._directory, self.name = fd, directory, name
            finally:
                if self._fd < 0:
                    os.close(fd)  # recovery has taken it for a dead one's in this moment, say

    def share(self) -> tuple[int, int]:
        """Which of how many instances this one is, from 0; unknown to others, it is the only one."""
        try:
            self.open()
            names = sorted(name for name in self._find().names() if not name.startswith("."))
            return names.index(self.name), len(names)
        except (OSError, ValueError):
            return 0, 1

    def announce(self, names: list[str], working: bool = False) -> None:
        """List the claimed names, and those that are about to be. Raises OSError where neither the list nor the lock of
        recovery can be had.

        working: work on the first of them has begun.
        """
        if names == self._listed and working == self.working and (self._fd >= 0 or not names):
            return
        self.open()
        self.begun = tuple(name for name in self.begun if name in names)
        self._listed, self.working = names, working
        self._write(_WORKING if working else _RESTING)

    def also(self, name: str, new: str) -> None:
        """List a new name that a claimed message is about to get, in its place. Raises as `announce`."""
        self._listed, self.begun = [*beside(self._listed, name, new)], beside(self.begun, name, new)
        self._write(_WORKING if self.working else _RESTING)
        self.settled(name)

    def in_turn(self) -> None:
        """Work on the first message that is still claimed begins. Raises OSError: then it is not known of it, should
        it kill us.
        """
        self._mark(_WORKING)

    def out_of_turn(self, name: str) -> None:
        """Work on another one begins. Raises as `in_turn`."""
        self.begun = (*self.begun, name)
        self._write(_WORKING if self.working else _RESTING)

    def settled(self, name: str) -> None:
        """A message that was begun out of turn is settled; the record says so from its next writing on."""
        if self.begun:
            self.begun = tuple(each for each in self.begun if each != name)

    def rest(self) -> None:
        """Nothing is in work, and what comes next may take its time: a death then is not the message's fault."""
        if self.working:
            try:
                self._mark(_RESTING)
            except OSError:
                pass  # then it may be said to be one

    def _mark(self, state: bytes) -> None:
        os.pwrite(self._fd, state, 0)
        self.working = state is _WORKING

    def _write(self, state: bytes) -> None:
        data = state + _sealed(self.begun, self._listed)
        try:
            if os.pwrite(self._fd, data, 0) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if not self._listed:
                return
            self._hold_off_recovery(error)
        else:
            if self._recovery >= 0:
                fs.release(self._recovery)
                self._recovery = -1

    def _hold_off_recovery(self, error: OSError) -> None:
        if self._recovery < 0:
            assert self._directory is not None
            fd = lock_recovery(self._directory)
            if fd is None:
                raise error
            self._recovery = fd
            text = "what is claimed cannot be written down in %s: %s; recovery waits meanwhile"
            self._logger.warning(text, self._directory.path, error)

    @property
    def recovering(self) -> bool:
        """Whether this instance holds the lock of recovery itself."""
        return self._recovery >= 0

    def close(self) -> None:
        """Remove the record. Idempotent."""
        if self._fd >= 0:
            assert self._directory is not None
            try:
                self._directory.remove(self.name)
            except OSError:
                pass  # it is not locked any more, and so litter
        self.let_go()

    def let_go(self) -> None:
        """Close the record, as the kernel does with that of an instance that dies."""
        for fd in (self._fd, self._recovery):
            if fd >= 0:
                os.close(fd)
        self._fd = self._recovery = -1
        self._listed, self.begun, self.working = [], (), False


def beside(names: Sequence[str], name: str, new: str) -> tuple[str, ...]:
    """The names, with a new one right after the one that it is to replace, if that is among them."""
    return tuple(each for known in names for each in ((known, new) if known == name else (known,)))


def lock_recovery(directory: Directory) -> int | None:
    """The lock of recovery, as an open descriptor; None where somebody has it, who may be asked of `holder`."""
    return _locked(_open_lock(directory))


def holder(directory: Directory) -> int | None:
    """The pid of whoever recovers, where that is known."""
    fd = _open_lock(directory)
    try:
        return fs.lock_holder(fd)
    finally:
        os.close(fd)


def _open_lock(directory: Directory) -> int:
    try:
        fd = os.open(RECOVERY, _READ_WRITE | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory.fd)
    except FileExistsError:
        return os.open(RECOVERY, _READ_WRITE, dir_fd=directory.fd)
    try:
        _give(fd, directory)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _give(fd: int, directory: Directory) -> None:
    """Where root works on somebody's queue, a new file of its own has to be one that its owner can lock later."""
    if os.geteuid() == 0:
        owner = os.fstat(directory.fd)
        os.fchown(fd, owner.st_uid, owner.st_gid)


def read(
    directory: Directory, ours: str, faults: dict[str, int]
) -> tuple[dict[str, Listed | None], dict[str, Listed | None]]:
    """The records of the living instances (but for `ours`) and those of the dead; None where one cannot be believed.

    faults: how often each could not be read. For a few times such an instance may be alive, as far as is known.
    """
    living: dict[str, Listed | None] = {}
    dead: dict[str, Listed | None] = {}
    for name in directory.names():
        if name == ours:
            continue
        try:
            fd = _lock(directory, name)
            try:
                listed = _parse(directory, name)
            finally:
                if fd is not None:
                    fs.release(fd)
        except OSError as error:
            faults[name] = faults.get(name, 0) + 1
            if error.errno not in fs.NO_MESSAGE and faults[name] <= _FAULTS_MAX:
                living[name] = None
            continue  # no instance's: their files are for all to lock who work on the queue
        (living if fd is None else dead)[name] = listed
    return living, dead


def rewrite(directory: Directory, name: str, listed: Listed) -> None:
    """Write a dead instance's record anew. Raises OSError."""
    fd = _lock(directory, name)
    if fd is not None:
        try:
            os.pwrite(fd, _RESTING + _sealed(listed.begun, listed.claimed), 0)
        finally:
            fs.release(fd)


def remove(directory: Directory, name: str) -> None:
    """Remove a dead instance's record, unless it has come alive: it was just being made. Raises OSError."""
    fd = _lock(directory, name)
    if fd is not None:
        try:
            directory.remove(name)
        finally:
            fs.release(fd)


def _lock(directory: Directory, name: str) -> int | None:
    """A record, open and locked by us; None where its instance lives, or it is gone."""
    try:
        fd = os.open(name, _READ_WRITE, dir_fd=directory.fd)
    except FileNotFoundError:
        return None
    return _locked(fd)


def _locked(fd: int) -> int | None:
    """An open file, locked by us; where it cannot be, it is closed, and None."""
    locked = False
    try:
        locked = fs.try_lock(fd)
    finally:
        if not locked:
            os.close(fd)
    return fd if locked else None


def _sealed(begun: Iterable[str], claimed: Iterable[str]) -> bytes:
    """The list with its checksum; "//" ends it, so that a shorter one needs no truncation, a second step."""
    payload = fs.encode("/".join(("", *begun)) + "//" + "/".join(("", *claimed)) + "//")
    return b"%08x" % zlib.crc32(payload) + payload


def _parse(directory: Directory, name: str) -> Listed | None:
    """What a record says; None where it cannot be believed: torn, or being written. Raises OSError."""
    try:
        data = read_small(directory, name)
    except FileNotFoundError:
        return None
    except Unreadable as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno not in fs.NO_MESSAGE:
            raise cause from None
        return None
    if not data:
        return Listed(False, (), ())  # just made
    try:
        begun, claimed, _ = data[9:].split(b"//", 2)
        if int(data[1:9], 16) != zlib.crc32(begun + b"//" + claimed + b"//"):
            return None
    except ValueError:
        return None
    begun_names, names = (tuple(os.fsdecode(each) for each in part.split(b"/") if each) for part in (begun, claimed))
    return Listed(data[:1] == _WORKING, begun_names, names)
