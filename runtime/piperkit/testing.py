"""A pytest plugin for the tests of a daemon: the fixture `piper`, a daemon's queues in a temporary directory.

    def test_passes_each_message_on(piper):
        piper.put("hello")
        piper.run(build)  # `build` makes the daemon from a command line
        assert piper.out == [b"hello"]
        assert piper.errors == []

pytest finds the plugin by itself where piperkit is installed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from piperkit.dirq import DirectoryQueue
from piperkit.dirq.view import QueueView
from piperkit.message import Contents

if TYPE_CHECKING:
    from piperkit.daemon import PiperDaemon

#: Makes a daemon from the options of a command line.
Build = Callable[[list[str]], "PiperDaemon"]


class Piper:
    """A daemon's surroundings: an input and an output queue, and places for its files, all under one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.queue_in = DirectoryQueue(directory / "in")
        self.queue_out = DirectoryQueue(directory / "out")

    def put(self, *contents: Contents) -> list[str]:
        """Enqueue messages into the daemon's input queue; returns their ids."""
        return [self.queue_in.enqueue(each) for each in contents]

    def options(self, *more: str) -> list[str]:
        """The command line that has a daemon use these surroundings, in the foreground."""
        places = {
            "queue-in-dir": "in",
            "queue-out-dir": "out",
            "log-file": "daemon.log",
            "pid-file": "daemon.pid",
            "state-file": "daemon.state",
            "runlog-dir": "run-log",
            "work-dir": ".",
        }
        fixed = [f"--{key}={self.directory / place}" for key, place in places.items()]
        return [*fixed, "--no-daemon", *more]

    def run(self, build: Build, *more: str) -> int:
        """Run the daemon in this process until there is nothing to do; returns its exit status.

        more: further options. A message that is put off, or that finds no room, stays where it is.
        """
        cwd, umask = os.getcwd(), os.umask(0o022)
        try:
            return build(self.options(*more)).run_until_idle()
        finally:
            os.chdir(cwd)
            os.umask(umask)

    @property
    def out(self) -> list[bytes]:
        """The contents of the messages in the output queue, in order."""
        return self.contents("out")

    @property
    def errors(self) -> list[tuple[bytes, str | None]]:
        """The contents of the banished messages, each with its reason."""
        view = QueueView(self.directory / "in")
        return [(view.read(entry), entry.reason) for entry in view.entries("errors")]

    @property
    def log(self) -> str:
        """What the daemon has logged."""
        return (self.directory / "daemon.log").read_text(encoding="utf-8")

    def contents(self, queue: str, part: str = "incoming") -> list[bytes]:
        """The contents of the messages in one part of the queue `in` or `out`, or of another one beside them."""
        view = QueueView(self.directory / queue)
        return [view.read(entry) for entry in view.entries(part)]

    def counts(self) -> dict[str, int]:
        """The number of messages in each part of the input queue."""
        return self.queue_in.counts()


@pytest.fixture
def piper(tmp_path: Path) -> Piper:
    """A daemon's queues in a temporary directory, and a way to run it on them."""
    return Piper(tmp_path)
