"""File systems: of a test's own, in files, as root and where there are loop devices; and another one that is there."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from needs import need

_FS_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), linux/fs.h; ext4's and xfs's own have the same number
_NOLOGFLUSH = 2
MAKE = {"ext4": ("mkfs.ext4", "-qF"), "xfs": ("mkfs.xfs", "-qf"), "btrfs": ("mkfs.btrfs", "-qf")}


class Disk:
    """A file system in a file, mounted, whose power can be cut.

    kind: one of MAKE. size: in MiB.
    """

    def __init__(self, kind: str, directory: Path, size: int = 320) -> None:
        self.kind = kind
        self.path = directory / kind
        self.path.mkdir()
        self._below = Disk("ext4", directory, 512) if kind == "btrfs" else None
        self._image = (self._below.path if self._below else directory) / "image"
        with self._image.open("wb") as image:
            image.truncate(size << 20)  # sparse; mkfs.xfs takes no less than 300 MiB
        self._run(*MAKE[kind], str(self._image))
        self._mount()

    def cut(self) -> None:
        if self._below is not None:
            self._below.cut()
            return
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _FS_IOC_SHUTDOWN, struct.pack("I", _NOLOGFLUSH))
        finally:
            os.close(fd)

    def commit(self) -> None:
        """What the kernel does from time to time."""
        self._run("sync", "--file-system", str(self.path))

    def power_up(self) -> None:
        """Once nobody uses it any more."""
        self._run("umount", str(self.path))
        if self._below is not None:
            self._below.power_up()
        self._mount()

    def remove(self) -> None:
        self._run("umount", str(self.path))
        self._image.unlink()
        if self._below is not None:
            self._below.remove()

    def _mount(self) -> None:
        self._run("mount", "-o", "loop", str(self._image), str(self.path))

    @staticmethod
    def _run(*command: str) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def can_mount(kind: str) -> bool:
    return os.geteuid() == 0 and os.path.exists("/dev/loop-control") and shutil.which(MAKE[kind][0]) is not None


@contextmanager
def another(than: Path) -> Iterator[Path]:
    """A directory on another file system than a path is on."""
    places = [Path(place) for place in ("/dev/shm", "/var/tmp", Path.home())]
    usable = (path for path in places if path.is_dir() and os.access(path, os.W_OK))
    found = [path for path in usable if path.stat().st_dev != than.stat().st_dev]
    need("shm", bool(found), "a second file system, at /dev/shm for instance")
    with tempfile.TemporaryDirectory(prefix="piper-", dir=found[0]) as directory:
        yield Path(directory)
