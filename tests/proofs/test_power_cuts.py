"""Power cuts: what was reported done before the cut is there after it, on ext4, xfs and btrfs.

The file system is a real one, on a loop device, and the cut is the kernel's own: ioctl FS_IOC_SHUTDOWN with NOLOGFLUSH
stops the file system where it is, so the page cache and the journal that is not yet written are gone, as when a machine
loses its power. Mounting it again replays what the journal had on the disk. btrfs knows no such ioctl: it is on a loop
device in a file of an ext4 that does, as on a disk with a write cache, which keeps what was flushed and loses the rest.

It is done at random moments, while two processes produce and another one works; they report to this one, over pipes,
what the queue has said is done. One of the producers syncs nothing: its messages may be lost or torn, but not those
that were reported done.

With `queue_sync` off nothing is promised; what is seen then is only counted. It also shows that the cut is one.
"""

from __future__ import annotations

import hashlib
import os
import random
import selectors
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import disks
import piperkit
import summary
from needs import need
from piperkit.dirq import DirectoryQueue, Sync, layout
from piperkit.operating import HOLDING

CHILD = Path(__file__).with_name("power_child.py")
RUNTIME = Path(piperkit.__file__).parent.parent
SEED = int(os.environ.get("PIPER_SEED") or random.SystemRandom().randrange(2**32))
#: Cuts for each file system and mode.
ROUNDS = 4
#: A cut comes when the two have reported so many things: from the first one to many batches.
REPORTS = (1, 400)


@pytest.fixture(params=list(disks.MAKE))
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[disks.Disk]:
    need("powercut", disks.can_mount(request.param), "root, loop devices, e2fsprogs, xfsprogs and btrfs-progs")
    disk = disks.Disk(request.param, tmp_path)
    yield disk
    disk.remove()


class Pipeline:
    """Two producers and a worker, and what they have reported."""

    def __init__(self, disk: disks.Disk, sync: Sync, *, foreign: bool) -> None:
        python = [os.path.realpath(sys.executable), "-I", "-S", str(CHILD), str(RUNTIME)]
        queues = [str(disk.path / "in"), str(disk.path / "next")]
        self.processes = [
            subprocess.Popen([*python, role, sync.value, *queues], stdout=subprocess.PIPE)
            for role in ("produce", "work", *(["produce_foreign"] if foreign else []))
        ]
        self._unread: dict[int, bytes] = {}
        self.reported: dict[str, set[str]] = {"enqueued": set(), "done": set()}

    def run(self, reports: int) -> None:
        """Return when so many things more have been reported, or all processes have ended."""
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
        """End the processes, as far as they have not met the cut.

        What they report from the cut on does not count: no machine says anything when its power is gone. (xfs, shut
        down, answers an fsync of a directory with success once it has dropped what there was to sync.)
        """
        before = {what: set(ids) for what, ids in self.reported.items()}
        for process in self.processes:
            process.terminate()  # one that has nothing to do would never meet it: an empty directory stays readable
        self.run(sys.maxsize)
        for process in self.processes:
            assert process.stdout is not None
            process.stdout.close()
            assert process.wait() in (0, -signal.SIGTERM)
        self.reported = before

    def _note(self, fd: int, data: bytes) -> int:
        *lines, self._unread[fd] = (self._unread.get(fd, b"") + data).split(b"\n")
        for line in lines:
            what, id = line.decode().split()
            self.reported[what].add(id)
        return len(lines)


def is_whole(contents: bytes) -> bool:
    checksum, _, body = contents.partition(b"\n")
    return checksum == hashlib.sha256(body).hexdigest().encode()


def look(disk: disks.Disk, reported: dict[str, set[str]]) -> Counter[str]:
    """Recover, and count what is wrong."""
    next_queue = disk.path / "next"
    DirectoryQueue(next_queue, orphan_age=0).close()
    with DirectoryQueue(disk.path / "in", next_queue=next_queue, orphan_age=0, crash_limit=0x7FFFFFFF) as queue:
        while queue.recover():
            pass
    found = {path: layout.message_names(str(disk.path / path), "incoming") for path in ("in", "next")}
    wrong = Counter(lost=len(reported["enqueued"] - found["in"] - found["next"]))
    wrong["undone"] = len(reported["done"] - found["next"])
    doubled = found["in"] & found["next"]
    if disk.kind == "btrfs":
        doubled &= reported["done"]  # a name that was removed may come back there until that is reported
    wrong["doubled"] = len(doubled)
    for path, names in found.items():
        for name in names:
            promised = not name.startswith("foreign") or name in reported["done"]
            wrong["torn"] += promised and not is_whole((disk.path / path / "incoming" / name).read_bytes())
        for part in ("pending", "deferred", "outgoing", "errors"):
            wrong["elsewhere"] += len(layout.message_names(str(disk.path / path), part))
    return +wrong


@pytest.mark.slow
def test_messages_that_are_done_do_not_come_again_after_a_power_cut(disk: disks.Disk) -> None:
    """Nobody else syncs anything here, which could help."""
    DirectoryQueue(disk.path / "next").close()
    with DirectoryQueue(disk.path / "in", next_queue=disk.path / "next") as queue:
        deleted, changed = queue.enqueue_many(["deleted", "changed"])
        disk.commit()
        assert [claim.id for claim in queue.claim(2)] == [deleted, changed]
        queue.cancel(deleted)
        queue.commit(changed, "new")
    disk.cut()
    disk.power_up()
    left = {part: layout.message_names(str(disk.path / "in"), part) for part in HOLDING}
    assert not any(left.values()), left
    assert layout.message_names(str(disk.path / "next"), "incoming") == {changed}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("sync", Sync)
def test_what_was_reported_done_survives_a_power_cut(
    sync: Sync, disk: disks.Disk, request: pytest.FixtureRequest
) -> None:
    chance = random.Random(f"{SEED} {request.node.name}")
    print(f"PIPER_SEED={SEED}")
    totals: Counter[str] = Counter()
    for number in range(ROUNDS):
        for path in ("in", "next"):
            shutil.rmtree(disk.path / path, ignore_errors=True)
            DirectoryQueue(disk.path / path).close()
        os.sync()  # the empty queues are on the disk before anything is reported
        pipeline = Pipeline(disk, sync, foreign=bool(number % 2))
        reports = chance.randint(*REPORTS)
        pipeline.run(reports // 2)
        disk.commit()
        pipeline.run(reports - reports // 2)
        disk.cut()
        pipeline.finish()
        disk.power_up()
        wrong = look(disk, pipeline.reported)
        if sync is not Sync.OFF:
            assert not wrong, f"{wrong} with PIPER_SEED={SEED}"
        totals += wrong + Counter({what: len(ids) for what, ids in pipeline.reported.items()})
        totals["foreign"] += sum(id.startswith("foreign") for id in pipeline.reported["done"])
    assert totals["enqueued"] >= ROUNDS
    seen = ", ".join(f"{totals[what]} {what}" for what in ("lost", "undone", "torn", "doubled"))
    summary.add(
        f"power cuts (PIPER_SEED={SEED}): {request.node.callspec.id}: {ROUNDS} cuts, {totals['enqueued']} reported"
        f" enqueued, {totals['done']} done, {totals['foreign']} of them never synced by who wrote them:"
        f" {seen}{' (nothing is promised)' if sync is Sync.OFF else ''}"
    )
