"""The instances that work on a queue: how many there are, and what each is working on.

`state/.HOST.PID.N` is an instance's record, locked while it lives. It holds the names of the messages that it is
working on (not of those it has merely claimed), so that after its death only these are suspected of having killed it.
It is mapped into memory: to write down a name is to copy some bytes, and what is in the map outlives the process, as it
has to (not the machine, whose death is no message's fault).

The records, the living and for a while the dead ones, are also how instances share the work out: each first takes its
own part of the messages (see `incoming`), so that they seldom run for the same one.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable

from piperkit.dirq import fs


class InstanceRecord:
    """This instance's record, made and locked by `open` and removed by `close`."""

    def __init__(self, directory: str, name: Callable[[], str]) -> None:
        self._directory = directory
        self._new_name = name
        self._fd = -1
        self._map: mmap.mmap | None = None
        self.name = ""

    def open(self) -> None:
        """Make it, if it is not there yet. Raises OSError, and then nothing is left of it."""
        if self._fd >= 0:
            return
        self.name = f".{self._new_name()}"
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fs.try_lock(self._fd)
            # Its blocks are there from now on: a full disk would otherwise be a signal that kills us.
            os.posix_fallocate(self._fd, 0, mmap.PAGESIZE)
            self._map = mmap.mmap(self._fd, mmap.PAGESIZE)
        except BaseException:
            self.close()
            raise

    def write(self, names: Iterable[str]) -> None:
        """Replace the names of the messages in work. Raises OSError where there is no room for more of them."""
        self.open()
        assert self._map is not None
        # "//" ends the list, so that a shorter one needs no truncation, which would be a second step.
        data = b"/".join(map(os.fsencode, names)) + b"//"
        if len(data) > len(self._map):
            size = -(-len(data) // mmap.PAGESIZE) * mmap.PAGESIZE
            os.posix_fallocate(self._fd, 0, size)
            self._map.resize(size)
        self._map[: len(data)] = data

    def close(self) -> None:
        """Remove the record. Idempotent."""
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._fd >= 0:
            fs.unlink_if_there(self._path)
            os.close(self._fd)
            self._fd = -1

    @property
    def _path(self) -> str:
        return os.path.join(self._directory, self.name)


def is_instance(name: str) -> bool:
    """Whether a file in `state` is an instance's record."""
    return name.startswith(".")


def names_in_work(fd: int) -> set[str]:
    """The names in an instance's record."""
    data = fs.read_all(fd, os.fstat(fd).st_size)
    return {os.fsdecode(name) for name in data.partition(b"//")[0].split(b"/") if name.strip(b"\0")}
