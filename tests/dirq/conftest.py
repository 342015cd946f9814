"""Queues in a directory of the test's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dirq_tools import Clock, MakeQueue, Process
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

    def run(code: str, path: str | os.PathLike[str], *arguments: str, **settings: Any) -> Process:
        process = Process(code, path, *arguments, **settings)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
