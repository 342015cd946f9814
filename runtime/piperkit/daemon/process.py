"""The process: directories it needs, rights it gives up, its pid file, and the way into the background."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import fcntl
import grp
import os
import pwd
import re
import signal
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, Self

import pyzenkit.daemonizer

from piperkit.dirq import fs, layout
from piperkit.errors import AlreadyRunning, ConfigError, ExitStatus, PiperError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


class NoDirectory(PiperError):
    """A directory that the process needs cannot be made."""

    exit_status = ExitStatus.CANNOT_CREATE


class NotAllowed(PiperError):
    """The process may not read a pid file, or list the directory of several."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the pid file {path} is not for others to read; ask as the daemon's user or as root")


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """Who the process is to be; -1 for "as it is". All of it is looked up at once: a chroot may know no accounts."""

    uid: int = -1
    gid: int = -1
    groups: tuple[int, ...] = ()

    @classmethod
    def of(cls, user: str | int | None, group: str | int | None) -> Self | None:
        """The identity of an account; without a group, the user's own. None where neither is given.

        Raises ConfigError.
        """
        if user is None:
            return None if group is None else cls(gid=(gid := find_group(group).gr_gid), groups=(gid,))
        account = find_user(user)
        gid = account.pw_gid if group is None else find_group(group).gr_gid
        return cls(account.pw_uid, gid, tuple(os.getgrouplist(account.pw_name, gid)))

    @classmethod
    def of_queue(cls, path: str) -> Self | None:
        """Whoever works on a queue: its directory's owner, or, if that is root, a part's; None where it is not there.

        The parts say nothing if others than root could have put them there.
        """
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return None
        if found.st_uid == 0 and not found.st_mode & 0o022:
            for part in layout.PARTS:
                with contextlib.suppress(FileNotFoundError):
                    its = os.stat(os.path.join(path, part), follow_symlinks=False)
                    if stat.S_ISDIR(its.st_mode) and its.st_uid != 0:
                        found = its
                        break
        name = account_name(found.st_uid)
        groups = (found.st_gid,) if name is None else tuple(os.getgrouplist(name, found.st_gid))
        return cls(found.st_uid, found.st_gid, groups)

    @property
    def owner(self) -> tuple[int, int]:
        """Who files are to belong to, as chown(2) takes it."""
        return self.uid, self.gid

    def become(self) -> None:
        """Take it on, and leave all other groups behind. Raises ConfigError where that is not allowed."""
        try:
            if os.geteuid() == 0:
                os.setgroups(self.groups)
            # Real, effective and saved ones: none of them is left to go back to.
            os.setresgid(self.gid, self.gid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)
        except PermissionError:
            raise ConfigError(
                "user, group: only root may become somebody else; start it as root, or leave them out"
            ) from None


def account_name(uid: int) -> str | None:
    """The name of an account; None where it has none here."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def open_streams() -> None:
    """Open what is closed of standard input, output and error on /dev/null: or the next file that is opened would be
    one of them, and what is printed would land in it.
    """
    fd = os.open(os.devnull, os.O_RDWR)
    while fd <= 2:
        os.set_inheritable(fd, True)
        fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)


def close_inherited() -> None:
    """Close what whoever started us had open, beside the standard streams: it may be root's, or keep something busy.

    Those are the descriptors that survived exec(2). What this program has opened does not do that.
    """
    if "LISTEN_FDS" in os.environ:
        return  # given on purpose, by a service manager
    try:
        fds = [int(name) for name in os.listdir("/proc/self/fd")]
    except FileNotFoundError:  # in a chroot, for instance
        fds = list(range(os.sysconf("SC_OPEN_MAX")))
    for fd in fds:
        with contextlib.suppress(OSError):
            if fd > 2 and not fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
                os.close(fd)


def change_root(directory: str) -> None:
    """chroot(2). Raises ConfigError."""
    try:
        os.chroot(directory)
    except OSError as error:
        raise ConfigError(f"chroot_dir: cannot chroot into {directory}: {error.strerror}") from error
    os.chdir("/")


def find_user(user: str | int) -> pwd.struct_passwd:
    """The account of that name or number. Raises ConfigError."""
    try:
        return pwd.getpwuid(int(user)) if str(user).isdigit() else pwd.getpwnam(str(user))
    except KeyError:
        raise ConfigError(f"user: there is no account {user}") from None


def find_group(group: str | int) -> grp.struct_group:
    """The group of that name or number. Raises ConfigError."""
    try:
        return grp.getgrgid(int(group)) if str(group).isdigit() else grp.getgrnam(str(group))
    except KeyError:
        raise ConfigError(f"group: there is no group {group}") from None


def keep_memory() -> None:
    """Have glibc keep up to 16 MiB of memory that is free, or each large message is given memory that is new: to have
    the kernel clear that takes longer than to read the message. See mallopt(3); other C libraries do without.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and not any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        mallopt(_M_MMAP_THRESHOLD, 8 << 20)
        mallopt(_M_TRIM_THRESHOLD, 16 << 20)


def make_parents(paths: Iterable[str], owner: tuple[int, int] | None) -> None:
    """Make the directories that files will be put into. Raises PiperError where that cannot be done."""
    for path in paths:
        missing = []
        directory = os.path.dirname(path)
        while directory and not os.path.isdir(directory):
            missing.append(directory)
            directory = os.path.dirname(directory)
        for directory in reversed(missing):
            try:
                os.mkdir(directory, 0o755)
                if owner is not None and os.geteuid() == 0:
                    os.chown(directory, *owner, follow_symlinks=False)
            except FileExistsError:
                continue
            except OSError as error:
                raise NoDirectory(f"cannot make the directory {directory}: {error.strerror}") from error


#: What a forked child does first.
_in_children: list[Callable[[], None]] = []


@contextlib.contextmanager
def in_children(step: Callable[[], None]) -> Iterator[None]:
    """Have each child that is forked within the block do `step` first, so that it holds nothing that is not its own."""
    _in_children.append(step)
    try:
        yield
    finally:
        _in_children.remove(step)


def _after_fork() -> None:
    for step in _in_children:
        step()


os.register_at_fork(after_in_child=_after_fork)


class PidFile:
    """A file that holds our pid, locked for as long as we live: so a stale one is known as such."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1

    def take(self) -> None:
        """Lock it and write our pid. Raises AlreadyRunning, and PiperError where it cannot be written."""
        while True:
            try:
                fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise NoDirectory(f"the pid file {self.path} cannot be written: {error.strerror}") from error
            if not fs.try_lock(fd):
                os.close(fd)
                raise AlreadyRunning(
                    f"it is running already, with pid {read_pid(self.path)} ({self.path});"
                    " several can run side by side with --paralel"
                )
            if fs.is_at(fd, self.path):
                break
            os.close(fd)  # its last owner has just removed it
        os.fchmod(fd, 0o600)  # whoever can open it could hold its lock against us
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def remove(self) -> None:
        """Remove it. Idempotent."""
        if self._fd >= 0:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            self.forget()

    def forget(self) -> None:
        """Close it, and leave it to the process that it belongs to: the lock is that one's. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_pid(path: str) -> int | None:
    """The pid in a pid file; None where there is none to read."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return int(file.read(32))
    except (OSError, ValueError):
        return None


def running_pid(path: str) -> int | None:
    """The pid of the living process that holds a pid file; None where nobody does. Raises NotAllowed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise NotAllowed(path) from None
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two may ask at the same time
        return None  # nobody has it locked: it is stale
    except BlockingIOError:
        # Whoever can open the file can lock it: what it says counts only if the kernel says the same.
        pid, holder = read_pid(path), fs.lock_holder(fd)
        return pid if holder is None or pid == holder else None
    finally:
        fs.release(fd)


def pid_files(path: str, paralel: bool) -> list[str]:
    """The pid files to look at: the daemon's own, or those of all instances that run in parallel. Raises NotAllowed."""
    if not paralel:
        return [path]
    directory, base = os.path.split(path)
    pattern = re.compile(re.escape(base.removesuffix(".pid")) + r"\.[0-9a-f]{5,}\.pid")
    try:
        return [os.path.join(directory, name) for name in sorted(os.listdir(directory)) if pattern.fullmatch(name)]
    except FileNotFoundError:
        return []
    except PermissionError:
        raise NotAllowed(path) from None


class Background:
    """The way into the background, where the process that was started ends only when the daemon is ready.

    So its exit status says whether the start succeeded, and its terminal shows why not.
    """

    def __init__(self) -> None:
        self._fd = -1

    def enter(self, work_dir: str | None) -> None:
        """Fork. The caller goes on as the daemon; the process that was started waits for `ready` or `failed`."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        if os.fork():
            os.close(writer)
            self._wait(reader)
        os.close(reader)
        self._fd = writer
        # pyzenkit closes no descriptors here; standard output stays ours until `ready`.
        saved = [os.dup(fd) for fd in (1, 2)]
        pyzenkit.daemonizer.daemonize(work_dir=work_dir)
        for fd, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, fd)
            os.close(copy)

    def _wait(self, reader: int) -> NoReturn:
        """The process that was started: end as the daemon's start does."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        status = os.read(reader, 1)
        os._exit(status[0] if status else ExitStatus.FAILURE)

    def ready(self) -> None:
        """The start has succeeded: let go of the terminal, and let the process that was started end. Idempotent."""
        if self._fd >= 0:
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (1, 2):
                os.dup2(null, fd)
            os.close(null)
            self._tell(ExitStatus.OK)

    def failed(self, status: int) -> None:
        """The start has failed: the process that was started ends with `status`. Nothing after `ready`."""
        if self._fd >= 0:
            self._tell(status)

    def _tell(self, status: int) -> None:
        os.write(self._fd, bytes([status]))
        self.forget()

    def forget(self) -> None:
        """Leave it to another process to say how the start went. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
