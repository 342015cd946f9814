"""The instances that work on a queue: how many there are, and what each is working on.

`state/.HOST.PID.N` is an instance's record, locked while it lives. It holds the names of the messages that it is
working on (not of those it has merely claimed), so that after its death only these are suspected of having killed it.
It is rewritten in place by a single write(2): it has to outlive a process, not a power cut. Mapped into memory it would
cost less, but what fails there, on a broken disk, is a signal that kills the daemon.

The records, the living and for a while the dead ones, are also how instances share the work out: each first takes its
own part of the messages (see `incoming`), so that they seldom run for the same one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable

from piperkit.dirq import fs


class InstanceRecord:
    """This instance's record, made and locked by `open` and removed by `close`."""

    def __init__(self, directory: str, name: Callable[[], str]) -> None:
        self._directory = directory
        self._new_name = name
        self._fd = -1
        self.name = ""

    def open(self) -> None:
        """Make it, if it is not there yet. Raises OSError, and then nothing is left of it."""
        if self._fd >= 0:
            return
        self.name = f".{self._new_name()}"
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fs.try_lock(self._fd)
        except BaseException:
            self.close()
            raise

    def join(self) -> None:
        """Be known to the other instances, so that they leave this one its part; unknown, it meets them more often."""
        with contextlib.suppress(OSError):
            self.open()

    def share(self) -> tuple[int, int]:
        """Which of how many instances this one is, from 0."""
        self.join()
        try:
            found = sorted(filter(is_instance, os.listdir(self._directory)))
            return found.index(self.name), len(found)
        except (OSError, ValueError):
            return 0, 1

    def write(self, names: Iterable[str]) -> None:
        """Replace the names of the messages in work. Raises OSError."""
        if self._fd < 0:
            self.open()
        # "//" ends the list, so that a shorter one needs no truncation, which would be a second step.
        os.pwrite(self._fd, fs.encode("/".join(names)) + b"//", 0)

    def close(self) -> None:
        """Remove the record. Idempotent."""
        if self._fd >= 0:
            fs.unlink_if_there(self._path)
            os.close(self._fd)
            self._fd = -1

    @property
    def _path(self) -> str:
        return f"{self._directory}/{self.name}"


def is_instance(name: str) -> bool:
    """Whether a file in `state` is an instance's record."""
    return name.startswith(".")


def names_in_work(fd: int) -> set[str]:
    """The names in an instance's record."""
    data = fs.read_all(fd, os.fstat(fd).st_size)
    return {os.fsdecode(name) for name in data.partition(b"//")[0].split(b"/") if name}
