"""The command as a process, and a queue for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import programs
from piperkit import Failure
from piperkit.dirq import DirectoryQueue

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*arguments: str | Path | bytes, **more: Any) -> subprocess.CompletedProcess[bytes]:
        if not more:
            return programs.run("piperkit.cli", *arguments, cwd=tmp_path)
        command = [sys.executable, "-m", "piperkit.cli", *arguments]
        more = {"stdin": subprocess.DEVNULL, **more} if "input" not in more else more
        return subprocess.run(command, capture_output=True, timeout=60, check=False, cwd=tmp_path, **more)

    return call


PROGRAM = (
    programs.HEAD
    + """
import sys
from piperkit import Component, PiperDaemon, Reject

class Strict(Component):
    def process(self, message):
        if not ({condition})(message.json):
            raise Reject("not now")
        return message.commit()

PiperDaemon(name="strict", argv=["--files-under={under}", *sys.argv[1:]], components=[Strict()]).run()
"""
)


@pytest.fixture
def strict(tmp_path: Path) -> Callable[[str], Path]:
    """The program of a daemon that rejects messages whose JSON does not meet a condition, a lambda in Python."""

    def make(condition: str) -> Path:
        program = tmp_path / "strict"
        program.write_text(PROGRAM.format(python=sys.executable, condition=condition, under=tmp_path))
        program.chmod(0o755)
        return program

    return make


@pytest.fixture
def queue(tmp_path: Path) -> DirectoryQueue:
    return DirectoryQueue(tmp_path / "queue")


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Two queues, the first with dead letters m0 to m3 and a waiting message, in a directory with something else."""
    spool = tmp_path / "spool"
    for name in ("a", "b"):
        with DirectoryQueue(spool / name) as queue:
            if name == "a":
                for number in range(4):
                    queue.enqueue({"n": number, "host": f"db{number % 2}"}, f"m{number}")
                for claim in queue.claim(4):
                    queue.banish(claim.id, Failure("the host is down"))
                queue.enqueue({"n": 9, "host": "web"}, "waiting")
    (spool / "no-queue").mkdir()
    return spool
