"""What the tests of the directory queue share: looking at a queue's files, instances that crash, other processes."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from piperkit.dirq import DirectoryQueue
from piperkit.dirq.view import QueueView
from piperkit.message import Failure
from piperkit.operating import HOLDING
from piperkit.queue import Queue

FAILURE = Failure("it is broken")
#: The fixture `make_queue`.
MakeQueue = Callable[..., DirectoryQueue]
PARTS = ("incoming", "pending", "deferred", "outgoing", "errors")


class Clock:
    """The wall clock, in nanoseconds, as far ahead (or behind) as a test wants it."""

    def __init__(self) -> None:
        self.offset = 0

    def __call__(self) -> int:
        return time.time_ns() + self.offset

    def forward(self, seconds: float) -> None:
        self.offset += int(seconds * 1e9)


def files(queue: str | os.PathLike[str] | DirectoryQueue, part: str) -> dict[str, bytes]:
    """The regular files in one part of a queue that are not hidden: names and contents."""
    directory = Path(queue.path if isinstance(queue, DirectoryQueue) else queue, part)
    found = (path for path in directory.iterdir() if path.is_file() and not path.is_symlink())
    return {path.name: path.read_bytes() for path in found if not path.name.startswith(".")}


def everything(queue: str | os.PathLike[str] | DirectoryQueue) -> dict[str, dict[str, bytes]]:
    """The messages of a queue, by part; parts without any are left out. Sidecars too, where they are visible."""
    return {part: found for part in PARTS if (found := files(queue, part))}


def books(path: str | os.PathLike[str]) -> dict[str, list[bytes]]:
    """The contents of a queue's messages by part; parts without any are left out."""
    view = QueueView(path)
    found = {part: sorted(view.read(entry) for entry in view.entries(part)) for part in HOLDING}
    return {part: messages for part, messages in found.items() if messages}


def snapshot(directory: Path) -> dict[str, bytes]:
    """All files below a directory and their contents."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def claim_one(queue: DirectoryQueue) -> str:
    """Claim exactly one message; its id."""
    (claim,) = queue.claim()
    return claim.id


def crash(queue: DirectoryQueue) -> None:
    """What the kernel does with an instance whose process dies: its descriptors are closed, and nothing else."""
    queue._instance.let_go()
    queue._held.clear()


def foreign_claim(queue: DirectoryQueue, name: str) -> None:
    """What a program does that knows the protocol and takes no lease."""
    os.rename(f"{queue.path}/incoming/{name}", f"{queue.path}/pending/{name}")


def descriptors() -> dict[str, str]:
    """The open descriptors of this process, by number, and what they are open on."""
    gc.collect()  # an exception may keep its frames, and what they had open, for a moment
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue  # that of the listing itself
    return found


def make_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path must be short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


def reports(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said of things that are not as they should be."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


#: What can be done with a claimed message: (queue, id, another queue's address).
OPERATIONS: dict[str, Callable[[Queue, str, str], object]] = {
    "read": lambda queue, id, target: queue.read(id),
    "update": lambda queue, id, target: queue.update(id, "x"),
    "commit": lambda queue, id, target: queue.commit(id),
    "commit with contents": lambda queue, id, target: queue.commit(id, "x"),
    "cancel": lambda queue, id, target: queue.cancel(id),
    "banish": lambda queue, id, target: queue.banish(id, FAILURE),
    "retry": lambda queue, id, target: queue.retry(id, 0, FAILURE),
    "requeue": lambda queue, id, target: queue.requeue(id),
    "dispatch": lambda queue, id, target: queue.dispatch(id, target),
    "dispatch with contents": lambda queue, id, target: queue.dispatch(id, target, "x"),
    "duplicate": lambda queue, id, target: queue.duplicate(id, target),
}

_PRELUDE = """
import json, os, sys, time
from piperkit.dirq import DirectoryQueue, Sync
from piperkit.message import Failure
from piperkit.queue import Queue
from piperkit import errors

def say(value):
    sys.stdout.write(json.dumps(value) + "\\n")  # in one piece, whoever else writes there
    sys.stdout.flush()

def wait():
    return sys.stdin.readline()

path, *arguments = sys.argv[1:]
"""


class Process:
    """A second process that runs `code`; it has `path`, `arguments`, `say(value)` and `wait()` (for `tell`).

    runtime: where it finds piperkit, if not where this process does.
    """

    def __init__(
        self, code: str, path: str | os.PathLike[str], *arguments: str, runtime: str | os.PathLike[str] | None = None
    ) -> None:
        environment = os.environ if runtime is None else {**os.environ, "PYTHONPATH": os.fspath(runtime)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PRELUDE + code, os.fspath(path), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment,
        )
        self.pid = self._process.pid

    def line(self) -> str:
        """The next line that the process writes."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the process ended without a word, status {self._process.wait()}"
        return line

    def hear(self) -> Any:
        """The next value that the process says."""
        return json.loads(self.line())

    def tell(self) -> None:
        """Let a process go on that waits."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill_alone(self) -> None:
        """SIGKILL, and wait until the process is gone; a child of its own may go on."""
        self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """The same, with all its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.communicate()

    def end(self) -> Any:
        """Wait for the end; returns the last value that was said, if any."""
        out, _ = self._process.communicate()
        assert self._process.returncode == 0
        lines = out.splitlines()
        return json.loads(lines[-1]) if lines else None


def run_all(processes: list[Process]) -> Iterator[Any]:
    """Let processes that wait go on, all at once; what each of them said last."""
    for process in processes:
        assert process.hear() == "ready"
    for process in processes:
        process.tell()
    for process in processes:
        yield process.end()
