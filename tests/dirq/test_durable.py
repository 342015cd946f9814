"""What was never synced by whoever wrote it is on the disk when it is reported done. (Power cuts are in the proofs.)"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dirq_tools import MakeQueue
from needs import need
from piperkit.dirq import DirectoryQueue, fs
from piperkit.dirq.fs import Directory

#: Commits what is in the queue, in one batch, as the producer wrote it. With `dirty`, its contents wait to be written;
#: on a busy machine somebody else's sync may have written them by then.
CODE = """
import sys
from piperkit.dirq import DirectoryQueue, Sync, fs
path, target, sync, way, dirty = sys.argv[1:]
if dirty:
    fs.is_clean = lambda fd: False
queue = DirectoryQueue(path, next_queue=target, min_free=0, sync=Sync(sync))
with queue.batch():
    for claim in queue.claim(10):
        if way == "read":
            queue.read(claim.id)
        queue.commit(claim.id)
print("done", flush=True)
"""


def put(queue: DirectoryQueue, name: str, *, synced: bool) -> None:
    """What a foreign producer does; `mv` and `echo` sync nothing."""
    temporary = Path(queue.path, "tmp", name)
    with temporary.open("wb") as file:
        file.write(os.urandom(10_000))
        file.flush()
        if synced:
            os.fsync(file.fileno())
    temporary.rename(Path(queue.path, "incoming", name))


def trace(queue: DirectoryQueue, target: DirectoryQueue, sync: str, way: str, log: Path, dirty: str = "") -> str:
    """The system calls by which the messages are committed, up to the word that it is done."""
    need("strace", shutil.which("strace") is not None, "the package strace")
    calls = "trace=renameat2,syncfs,fsync,fdatasync,write"
    command = ["strace", "-f", "-s", "16", "-o", log, "-e", calls, sys.executable, "-c", CODE]
    subprocess.run([*command, queue.path, target.path, sync, way, dirty], check=True, stdout=subprocess.DEVNULL)
    before, done, _ = log.read_text().partition('"done')
    assert done
    return before


@pytest.mark.parametrize("sync", ["batch", "always", "off"])
@pytest.mark.parametrize("way", ["read", "unread"])
@pytest.mark.slow
def test_message_that_nobody_has_synced_is_on_the_disk_when_it_is_reported_done(
    make_queue: MakeQueue, tmp_path: Path, sync: str, way: str
) -> None:
    target = make_queue("next")
    queue = make_queue(next_queue=target.path)
    for name in ("a", "b", "c"):
        put(queue, name, synced=False)
    calls = trace(queue, target, sync, way, tmp_path / "log", "dirty")
    assert len(target.claim(10)) == 3
    found = re.findall(r"(renameat2|syncfs|fsync)\(.*= 0", calls)
    claims, rest = found[:3], found[3:]
    assert claims == ["renameat2"] * 3
    if sync == "off":
        assert rest == ["renameat2"] * 3
    elif sync == "batch":
        assert rest == ["renameat2"] * 3 + ["syncfs", "fsync", "fsync"]  # and the directories
    else:
        assert rest[:4] == ["renameat2", "syncfs", "fsync", "fsync"]  # of which the others have been a part


def test_messages_that_are_synced_already_cost_no_sync_of_the_file_system(
    make_queue: MakeQueue, tmp_path: Path
) -> None:
    need("ext4", fs.file_system(Directory(str(tmp_path))) in ("ext4", "xfs"), "ext4 or xfs at the tests' directory")
    target = make_queue("next")
    queue = make_queue(next_queue=target.path)
    put(queue, "a", synced=True)
    with open(Path(queue.path, "incoming", "a"), "rb") as file:
        need("cachestat", fs.is_clean(file.fileno()), "Linux 6.5 or later")
    assert "syncfs" not in trace(queue, target, "batch", "read", tmp_path / "log")
