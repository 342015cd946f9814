"""Power cuts: what was reported done before the cut is there after it, on ext4 and xfs.

The file system is a real one, on a loop device, and the cut is the kernel's own: ioctl FS_IOC_SHUTDOWN with NOLOGFLUSH
stops the file system where it is, so the page cache and the journal that is not yet written are gone, as when a machine
loses its power. Mounting it again replays what the journal had on the disk. It is done at random moments, while one
process produces and another one works; both report to this one, over pipes, what the queue has said is done.

With `queue_sync` off nothing is promised; what is seen then is only counted. It also shows that the cut is one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import selectors
import shutil
import signal
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import piperkit
import summary
from needs import need
from piperkit.dirq import DirectoryQueue, Sync, layout

CHILD = Path(__file__).with_name("power_child.py")
RUNTIME = Path(piperkit.__file__).parent.parent
SEED = int(os.environ.get("PIPER_SEED") or random.SystemRandom().randrange(2**32))
#: Cuts for each file system and mode.
ROUNDS = 4
#: A cut comes when the two have reported so many things: from the first one to many batches.
REPORTS = (1, 400)

_FS_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), linux/fs.h; ext4's and xfs's own have the same number
_NOLOGFLUSH = 2
_MAKE = {"ext4": ("mkfs.ext4", "-qF"), "xfs": ("mkfs.xfs", "-qf")}


class Disk:
    """A file system in a file, mounted, whose power can be cut."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.path = directory / "mounted"
        self.path.mkdir()
        self._image = directory / "image"
        with self._image.open("wb") as image:
            image.truncate(320 << 20)  # sparse; mkfs.xfs takes no less than 300 MiB
        self._run(*_MAKE[kind], str(self._image))
        self._mount()

    def cut(self) -> None:
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _FS_IOC_SHUTDOWN, struct.pack("I", _NOLOGFLUSH))
        finally:
            os.close(fd)

    def power_up(self) -> None:
        """Once nobody uses it any more."""
        self._run("umount", str(self.path))
        self._mount()

    def remove(self) -> None:
        self._run("umount", str(self.path))
        self._image.unlink()

    def _mount(self) -> None:
        self._run("mount", "-o", "loop", str(self._image), str(self.path))

    @staticmethod
    def _run(*command: str) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def can_mount() -> bool:
    return (
        os.geteuid() == 0
        and os.path.exists("/dev/loop-control")
        and all(shutil.which(make[0]) for make in _MAKE.values())
    )


@pytest.fixture(params=list(_MAKE))
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    need("powercut", can_mount(), "root, loop devices, e2fsprogs and xfsprogs")
    disk = Disk(request.param, tmp_path)
    yield disk
    disk.remove()


class Pipeline:
    """A producer and a worker, and what they have reported."""

    def __init__(self, disk: Disk, sync: Sync) -> None:
        python = [os.path.realpath(sys.executable), "-I", "-S", str(CHILD), str(RUNTIME)]
        queues = [str(disk.path / "in"), str(disk.path / "next")]
        self.processes = [
            subprocess.Popen([*python, role, sync.value, *queues], stdout=subprocess.PIPE)
            for role in ("produce", "work")
        ]
        self._unread: dict[int, bytes] = {}
        self.reported: dict[str, set[str]] = {"enqueued": set(), "done": set()}

    def run(self, reports: int) -> None:
        """Return when so many things more have been reported, or both processes have ended."""
        with selectors.DefaultSelector() as selector:
            for process in self.processes:
                assert process.stdout is not None
                selector.register(process.stdout, selectors.EVENT_READ)
            while reports > 0 and selector.get_map():
                for key, _ in selector.select():
                    data = os.read(key.fd, 65536)
                    if not data:
                        selector.unregister(key.fileobj)
                    reports -= self._note(key.fd, data)

    def finish(self) -> None:
        """End the processes, as far as they have not met the cut, and read what they have reported."""
        for process in self.processes:
            process.terminate()  # one that has nothing to do would never meet it: an empty directory stays readable
        self.run(sys.maxsize)
        for process in self.processes:
            assert process.stdout is not None
            process.stdout.close()
            assert process.wait() in (0, -signal.SIGTERM)

    def _note(self, fd: int, data: bytes) -> int:
        *lines, self._unread[fd] = (self._unread.get(fd, b"") + data).split(b"\n")
        for line in lines:
            what, id = line.decode().split()
            self.reported[what].add(id)
        return len(lines)


def is_whole(contents: bytes) -> bool:
    checksum, _, body = contents.partition(b"\n")
    return checksum == hashlib.sha256(body).hexdigest().encode()


def look(disk: Disk, reported: dict[str, set[str]]) -> Counter[str]:
    """Recover, and count what is wrong."""
    next_queue = disk.path / "next"
    DirectoryQueue(next_queue, orphan_age=0).close()
    with DirectoryQueue(disk.path / "in", next_queue=next_queue, orphan_age=0, crash_limit=0x7FFFFFFF) as queue:
        while queue.recover():
            pass
    found = {path: layout.message_names(str(disk.path / path), "incoming") for path in ("in", "next")}
    wrong = Counter(lost=len(reported["enqueued"] - found["in"] - found["next"]))
    wrong["undone"] = len(reported["done"] - found["next"])
    wrong["doubled"] = len(found["in"] & found["next"])
    for path, names in found.items():
        for name in names:
            contents = (disk.path / path / "incoming" / name).read_bytes()
            wrong["torn"] += not is_whole(contents)
        for part in ("pending", "deferred", "outgoing", "errors"):
            wrong["elsewhere"] += len(layout.message_names(str(disk.path / path), part))
    return +wrong


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("sync", Sync)
def test_what_was_reported_done_survives_a_power_cut(sync: Sync, disk: Disk, request: pytest.FixtureRequest) -> None:
    chance = random.Random(f"{SEED} {request.node.name}")
    print(f"PIPER_SEED={SEED}")
    totals: Counter[str] = Counter()
    for _ in range(ROUNDS):
        for path in ("in", "next"):
            shutil.rmtree(disk.path / path, ignore_errors=True)
            DirectoryQueue(disk.path / path).close()
        os.sync()  # the empty queues are on the disk before anything is reported
        pipeline = Pipeline(disk, sync)
        pipeline.run(chance.randint(*REPORTS))
        disk.cut()
        pipeline.finish()
        disk.power_up()
        wrong = look(disk, pipeline.reported)
        if sync is not Sync.OFF:
            assert not wrong, f"{wrong} with PIPER_SEED={SEED}"
        totals += wrong + Counter({what: len(ids) for what, ids in pipeline.reported.items()})
    assert totals["enqueued"] >= ROUNDS
    seen = ", ".join(f"{totals[what]} {what}" for what in ("lost", "undone", "torn", "doubled"))
    summary.add(
        f"power cuts (PIPER_SEED={SEED}): {request.node.callspec.id}: {ROUNDS} cuts, {totals['enqueued']} reported"
        f" enqueued, {totals['done']} done: {seen}{' (nothing is promised)' if sync is Sync.OFF else ''}"
    )
