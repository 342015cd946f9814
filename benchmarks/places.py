"""Where is measured: a directory of our own on each file system, and messages that wait in a queue there."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

PARTS = ("tmp", "incoming", "pending", "errors")
#: Bytes that a message takes on a file system, at the most, with what the file system keeps about it.
TAKES = 8192


@dataclasses.dataclass(frozen=True)
class Place:
    """A file system that is measured."""

    name: str
    directory: Path
    durable: bool = False  #: a sync costs something there
    _kept: list[contextlib.ExitStack] = dataclasses.field(default_factory=list)

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """A new directory, removed at the end, or at that of `keeping`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        spread_out(self.directory)
        directory = Path(tempfile.mkdtemp(prefix="piper-bench-", dir=self.directory))
        with contextlib.ExitStack() as stack:
            (self._kept[-1] if self._kept else stack).callback(shutil.rmtree, directory)
            yield directory

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """Remove workspaces at the end of the block only: no turn comes upon inodes that one before it has freed.

        For turns that make files and delete none; see `spread_out`.
        """
        with contextlib.ExitStack() as stack:
            self._kept.append(stack)
            try:
                yield
            finally:
                self._kept.pop()


def spread_out(directory: Path) -> None:
    """Let ext4 place new directories in here far from each other; elsewhere this does nothing.

    ext4 uses no inode again that was freed in the last minute, and looks at each of these before it takes one: without
    this, files are made thirty times slower after a turn in which as many were deleted.
    """
    if shutil.which("chattr"):
        subprocess.run(["chattr", "+T", directory], stderr=subprocess.DEVNULL, check=False)


def make_queue(queue: Path) -> Path:
    """The directories of the filer protocol."""
    for part in PARTS:
        (queue / part).mkdir(parents=True, exist_ok=True)
    return queue


def fill(queue: Path, count: int, size: int = 1024, first: int = 0) -> None:
    """Let `count` messages of `size` bytes wait in a queue: JSON objects, named as piperkit names them, in order.

    first: how many there were before.
    """
    make_queue(queue)
    contents = b'{"text":"' + b"x" * (size - 11) + b'"}'
    incoming = os.open(queue / "incoming", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number in range(first, first + count):
            name = f"{1700000000 + number // 1_000_000}.{number % 1_000_000:09d}.1.bench"
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o664, dir_fd=incoming)
            os.write(fd, contents)
            os.close(fd)
    finally:
        os.close(incoming)
