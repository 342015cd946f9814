"""`piperctl pipeline run`: all daemons of a pipeline in the foreground, for development.

Consumers start first, each when the one before is ready, which it says by the protocol of sd_notify(3); sources are
last. Ctrl-C stops them in the other order, so that what is on its way arrives. A daemon that ends by itself ends all.
What they print is told line by line, with the daemon's name before it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

from piperkit.errors import PiperError
from piperkit.pipeline import graph, programs
from piperkit.pipeline.description import Member, Pipeline

#: Seconds for a daemon to be ready, and to end once it was asked to.
READY_WAIT = 60.0
STOP_WAIT = 60.0
#: Bytes of a line that is told in one piece.
_LINE_MAX = 65536


class Ended(PiperError):
    """A daemon has ended by itself, or has not started."""


@dataclasses.dataclass(eq=False)
class Process:
    """One instance of a daemon."""

    name: str  #: for people: with its number where there are several
    popen: subprocess.Popen[bytes]
    told: socket.socket  #: where it says that it is ready
    left: bytes = b""  #: of what it printed, without a line end
    ready: bool = False

    @property
    def runs(self) -> bool:
        return self.popen.poll() is None


class Running:
    """The processes of a pipeline. As a context, it stops what runs at the end.

    tell: told of each line of each process, by its name; and, without a name, of what we have to say.
    only: the daemons that are run; by default all. more: options for each of them.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        tell: Callable[[str, str], None],
        *,
        only: Sequence[str] = (),
        more: Callable[[Member], Sequence[str]] = lambda member: (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._tell = tell
        self._more = more
        self._environment = {**(os.environ if environment is None else environment)}
        self._members = [pipeline.member(name) for name in graph.of(pipeline).consumers_first()]
        if only:
            wanted = {pipeline.member(name).name for name in only}
            self._members = [member for member in self._members if member.name in wanted]
        self._selector = selectors.DefaultSelector()
        self._stopping = 0  #: Ctrl-C was pressed so often
        self._wake, self._woken = socket.socketpair()
        for end in (self._wake, self._woken):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        #: In the order in which they were started.
        self.processes: list[Process] = []

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self._selector.close()
        for end in (self._wake, self._woken):
            end.close()

    def start(self) -> None:
        """Start all of them, and wait until each is ready, or Ctrl-C. Raises Ended, NoProgram."""
        programs.may_run(self._pipeline)
        for member in self._members:
            several = member.instances > 1
            for number in range(1, member.instances + 1):
                if self._stopping:
                    return
                process = self._start(member, f"{member.name}@{number}" if several else member.name, several)
                self._await(process, READY_WAIT, lambda process: process.ready)
                if not process.runs and not self._stopping:
                    raise Ended(f"{process.name} has not started, {_how(process.popen.returncode)}")
                if not process.ready and not self._stopping:
                    raise Ended(f"{process.name} is not ready after {READY_WAIT:g} s; what it waits for, it says above")

    @property
    def ready(self) -> bool:
        """Whether all that were started are ready."""
        return all(process.ready for process in self.processes) and not self._stopping

    def run(self) -> None:
        """Tell what they print, until Ctrl-C or SIGTERM. Raises Ended where one ends by itself."""
        while not self._stopping:
            self._look(None)
            for process in self.processes:
                if not process.runs and not self._stopping:
                    raise Ended(f"{process.name} has ended by itself, {_how(process.popen.returncode)}")

    def stop(self) -> list[str]:
        """Stop those that run, sources first; returns the names of those that did not end well. Idempotent."""
        bad = []
        for process in reversed(self.processes):
            asked = process.runs
            if asked:
                with contextlib.suppress(ProcessLookupError):
                    process.popen.terminate()
                self._await(process, STOP_WAIT, lambda process: self._stopping > 1)
            if process.runs:
                self._tell("", f"{process.name} does not end, and is killed")
                process.popen.kill()
            process.popen.wait()
            self._drain(process)
            if asked and process.popen.returncode:
                bad.append(process.name)
        self.processes.clear()
        return bad

    @contextlib.contextmanager
    def signals(self) -> Any:
        """In this block, Ctrl-C and SIGTERM end `run`; a second one kills what does not end."""

        def handle(number: int, frame: FrameType | None) -> None:
            self._stopping += 1
            with contextlib.suppress(BlockingIOError):
                self._wake.send(b".")

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def tell_for(self, seconds: float) -> None:
        """Tell what they print meanwhile. Raises Ended where one ends by itself."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._look(left)
            for process in self.processes:
                if not process.runs:
                    raise Ended(f"{process.name} has ended by itself, {_how(process.popen.returncode)}")

    # -- one process -----------------------------------------------------------------------------------------

    def _start(self, member: Member, name: str, several: bool) -> Process:
        told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        told.bind("")  # to an abstract name that the kernel chooses: unix(7)
        told.setblocking(False)
        line = [
            *programs.command(self._pipeline, member),
            *programs.with_queues(member),
            "--no-daemon",
            *(["--paralel"] if several else []),
            *self._more(member),
        ]
        popen = subprocess.Popen(
            line,
            cwd=programs.start_directory(self._pipeline),
            env={**self._environment, "NOTIFY_SOCKET": "@" + told.getsockname()[1:].decode()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us: we stop them in their order
        )
        process = Process(name, popen, told)
        assert popen.stdout is not None
        os.set_blocking(popen.stdout.fileno(), False)
        self._selector.register(popen.stdout, selectors.EVENT_READ, process)
        self._selector.register(told, selectors.EVENT_READ, (process, told))
        self.processes.append(process)
        return process

    def _await(self, process: Process, seconds: float, enough: Callable[[Process], bool]) -> None:
        """Until it has ended, or that holds, or the time is up, or Ctrl-C is pressed (once more)."""
        end, before = time.monotonic() + seconds, self._stopping
        while (left := end - time.monotonic()) > 0 and not enough(process) and self._stopping == before:
            if not process.runs:
                self._drain(process)
                return
            self._look(left)

    def _look(self, seconds: float | None) -> None:
        """Wait for something that they print or say, and tell it."""
        # The end of a process whose child holds its output open is told by nothing.
        for key, _ in self._selector.select(min(seconds, 0.5) if seconds is not None else 0.5):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._woken.recv(64)
            elif isinstance(key.data, Process):
                self._read(key.data)
            else:
                process, told = key.data
                with contextlib.suppress(BlockingIOError):
                    # Read in any case: what nobody reads would block the daemon.
                    said = told.recv(65536).split(b"\n")
                    process.ready = process.ready or b"READY=1" in said

    def _read(self, process: Process) -> bool:
        """Tell what it has printed; returns whether there may be more."""
        assert process.popen.stdout is not None
        try:
            found = os.read(process.popen.stdout.fileno(), 65536)
        except BlockingIOError:
            return False
        if not found:
            with contextlib.suppress(KeyError):
                self._selector.unregister(process.popen.stdout)
            found = b"\n" if process.left else b""
        *lines, process.left = (process.left + found).split(b"\n")
        if len(process.left) > _LINE_MAX:
            lines, process.left = [*lines, process.left], b""
        for line in lines:
            self._tell(process.name, line.decode(errors="backslashreplace"))
        return bool(found)

    def _drain(self, process: Process) -> None:
        """Tell what is left of a process that has ended."""
        assert process.popen.stdout is not None
        if not process.popen.stdout.closed:
            while self._read(process):
                pass
            for file in (process.popen.stdout, process.told):
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(file)
                file.close()


def _how(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
