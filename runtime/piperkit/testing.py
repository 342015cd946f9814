"""A pytest plugin for the tests of a daemon: the fixture `piper`, a daemon's queues in a temporary directory.

    def test_passes_each_message_on(piper):
        piper.put("hello")
        piper.run(build)  # `build` makes the daemon from a command line
        assert piper.out == [b"hello"]
        assert piper.errors == []

pytest finds the plugin by itself where piperkit is installed.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Self

import pytest

from piperkit import crashwalk
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.view import QueueView
from piperkit.message import Contents
from piperkit.operating import HOLDING

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
            "files-under": ".",  # whatever else it has: nothing of the daemon's life is touched
        }
        fixed = [f"--{key}={self.directory / place}" for key, place in places.items()]
        return [*fixed, "--no-daemon", *more]

    def run(self, build: Build, *more: str) -> int:
        """Run the daemon in this process until there is nothing to do; returns its exit status.

        more: further options. A message that is deferred, or finds no room, stays where it is. The daemon starts in
        `directory`, to which relative paths refer.
        """
        cwd, umask = os.getcwd(), os.umask(0o022)
        os.chdir(self.directory)
        try:
            return build(self.options(*more)).run_until_idle()
        finally:
            os.chdir(cwd)
            os.umask(umask)

    def crash_walk(
        self,
        build: Build,
        *contents: Contents,
        delivered: Callable[[Piper], list[bytes]] | None = None,
        places: Sequence[str] = (),
    ) -> int:
        """Kill the daemon at every system call that changes its queues, or `places`, while it works through `contents`.

        After each kill the daemon runs again, undisturbed. The result must be that of a run without a kill: the same
        messages banished, nothing left behind, and everything delivered that was delivered then. A message may be
        delivered twice, but none may be lost; AssertionError says at which point one was. Returns the number of points.

        build: a function of a module, since the daemon runs as a process of its own. It is called in the directory of
            one walk, where the daemon works, and makes there whatever the daemon needs besides its two queues.
        delivered: returns what has arrived where the component writes, piece by piece; by default, the messages in the
            output queue. It is called with the surroundings of one walk; `directory` is where the daemon works.
        places: what else the daemon writes: files or queues in that directory, by name or by the beginning of it.

        Skips the test where strace(1) is missing.
        """
        if not crashwalk.available():
            pytest.skip("strace: needs strace(1), with the right to trace")
        walks = [_CrashWalk(Piper(self.directory / f"walk{number}"), build, contents, places) for number in range(2)]
        with walks[0], walks[1]:
            return _walk(walks, delivered or (lambda piper: piper.out))

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


def _walk(walks: list[_CrashWalk], delivered: Callable[[Piper], list[bytes]]) -> int:
    """Visit every crash point, several at a time; returns how many there are."""
    walks[0].prepare()
    points = [point for point in walks[0].program.crash_points((), *walks[0].places) if point.changing]
    wanted = walks[0].books(delivered)
    assert not wanted.left, f"messages are left when nobody kills the daemon: {wanted.left}"

    def visit(point: crashwalk.Point) -> None:
        walk = free.get()
        try:
            walk.prepare()
            walk.program.run_killed((), point)
            walk.run()
            books = walk.books(delivered)
            lost = Counter(wanted.delivered) - Counter(books.delivered)
            assert not lost, f"lost after a kill at {point}: {sorted(lost)}"
            assert books.banished == wanted.banished, f"banished after a kill at {point}: {books.banished}"
            assert not books.left, f"left after a kill at {point}: {books.left}"
        finally:
            free.put(walk)

    free: SimpleQueue[_CrashWalk] = SimpleQueue()
    for walk in walks:
        free.put(walk)
    with ThreadPoolExecutor(len(walks)) as pool:
        for result in [pool.submit(visit, point) for point in points]:
            result.result()
    return len(points)


@dataclasses.dataclass(frozen=True)
class _Books:
    """What there is after a run."""

    delivered: list[bytes]
    banished: list[bytes]
    left: dict[str, list[bytes]]


class _CrashWalk:
    """One place where the daemon is killed again and again."""

    def __init__(self, piper: Piper, build: Build, contents: tuple[Contents, ...], places: Sequence[str]) -> None:
        self._piper = piper
        self._contents = contents
        options = [f"--work-dir={piper.directory}", "--orphan-age=0", "--retry-min=0", "--retry-max=0", "--log-file="]
        argv = piper.options("--quiet", *options)
        code = (
            f"import os; from piperkit import crashwalk; from {build.__module__} import {build.__name__} as build\n"
            f"def run(arguments):\n"
            f"    os.chdir({str(piper.directory)!r})\n"
            f"    return build({argv!r}).run_until_idle()\n"
            "crashwalk.serve(run)"
        )
        self.places = [piper.directory / name for name in ("in", "out", *places)]
        piper.directory.mkdir(exist_ok=True)
        path = os.pathsep.join(map(os.path.abspath, sys.path))
        command = [os.path.realpath(sys.executable), "-c", code]
        self.program = crashwalk.Program(command, env={**os.environ, "PYTHONPATH": path})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.program.close()

    def prepare(self) -> None:
        """The messages are there, and nothing else, as before every run."""
        shutil.rmtree(self._piper.directory)
        queue = DirectoryQueue(self.places[0])
        DirectoryQueue(self.places[1])
        for number, each in enumerate(self._contents):
            queue.enqueue(each, f"message-{number}")

    def run(self) -> None:
        """Run the daemon to its end. Raises AssertionError where it fails."""
        done = self.program.run()
        assert done.status == 0, done.errors

    def books(self, delivered: Callable[[Piper], list[bytes]]) -> _Books:
        left = {part: self._piper.contents("in", part) for part in HOLDING if part != "errors"}
        banished = sorted(contents for contents, _ in self._piper.errors)
        return _Books(delivered(self._piper), banished, {part: found for part, found in left.items() if found})


@pytest.fixture
def piper(tmp_path: Path) -> Piper:
    """A daemon's queues in a temporary directory, and a way to run it on them."""
    return Piper(tmp_path)
