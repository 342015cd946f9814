"""Queues in a directory of the test's own, and a place on another file system."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dirq_tools import Clock, MakeQueue, Process
from needs import need
from piperkit.dirq import DirectoryQueue


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_queue(tmp_path: Path, clock: Clock) -> Iterator[MakeQueue]:
    """Make an instance of the queue `name`, with the test's clock; a queue's path may be given too."""
    made: list[DirectoryQueue] = []

    def make(name: str | os.PathLike[str] = "in", **settings: Any) -> DirectoryQueue:
        queue = DirectoryQueue(tmp_path / name, **{"clock": clock, "min_free": 0, **settings})
        made.append(queue)
        return queue

    yield make
    for queue in made:
        if os.path.isdir(queue.path):
            queue.close()


@pytest.fixture
def queue(make_queue: MakeQueue) -> DirectoryQueue:
    """A queue that finds orphans at once, without a next one."""
    return make_queue(orphan_age=0)


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Start a `Process`; it is killed at the end of the test if it has not ended."""
    started: list[Process] = []

    def run(code: str, path: str | os.PathLike[str], *arguments: str) -> Process:
        process = Process(code, path, *arguments)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A directory on another file system than `tmp_path`."""
    shm = Path("/dev/shm")
    other = shm.is_dir() and os.access(shm, os.W_OK) and shm.stat().st_dev != tmp_path.stat().st_dev
    need("shm", other, "a second file system at /dev/shm")
    directory = Path(tempfile.mkdtemp(prefix="piper-", dir=shm))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The root of a file system of 512 KiB."""
    need("root", os.geteuid() == 0, "root, to mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], check=False, capture_output=True
    )
    need("mount", mounted.returncode == 0, "permission to mount a tmpfs")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)
