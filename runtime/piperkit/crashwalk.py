"""Visit every crash point of a program: kill it at each system call with which it changes a directory, one by one.

    with Program(command) as program:                    # it is started once, and forked for each run
        points = program.crash_points(arguments, directory)    # one clean run, traced
        for point in points:
            ...                                          # put the directory back as it was
            program.run_killed(arguments, point)         # ends before that call is made
            ...                                          # recover, and check the books

The command imports what it needs, and then calls `serve` with a function that does one run; a run is a fork of it, so
that nothing is imported again. strace(1) is attached to the fork before that does anything.

The kill is strace's `inject=CALL:signal=KILL:when=N`: the kernel ends the process at its N-th call of that name, before
the call is made. Between two calls that change files nothing changes, so these points are all there are. A run has to
end by itself and to make the same calls each time: the program runs without bytecode files and with fixed hashes.

A run with several processes or threads counts in each; the first of them that gets to N is ended. Calls are found in
the trace by the directory's path, which strace gives for what is open, too: the program has to use absolute paths, or
paths relative to an open directory, as piperkit does.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

#: The calls that change files, their names or their locks; open(2) only where it may make or empty a file.
CHANGING = (
    *("open", "openat", "creat", "mkdir", "mkdirat", "rmdir"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat"),
    *("write", "writev", "pwrite64", "pwritev", "pwritev2", "sendfile", "copy_file_range"),
    *("truncate", "ftruncate", "fallocate", "fsync", "fdatasync", "syncfs", "flock"),
    *("chmod", "fchmod", "fchmodat", "chown", "lchown", "fchown", "fchownat", "utimensat"),
)
#: Those of them after which files and names are as before: they only say what a power cut may not take, or lock.
_NEUTRAL = {"fsync", "fdatasync", "syncfs", "flock"}
#: The last crash point: all is done, and the process has not ended yet.
END = "exit_group"

_LINE = re.compile(r"(\w+)\(")
_FAILED = re.compile(r" = -1 E[A-Z]+ \([^()]*\)$")
_READ_ONLY = re.compile(r"open(?:at)?\((?!.*O_(?:CREAT|TRUNC))")
#: Of prctl(2): which process may trace this one.
_PR_SET_PTRACER, _ANY = 0x59616D61, 2**64 - 1
#: So that a run makes the same calls as the one before it.
_STEADY = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}


@dataclass(frozen=True, slots=True)
class Point:
    """A system call at which a run can be ended."""

    call: str  #: its name
    number: int  #: which call of that name it is in its process, from 1
    line: str = field(default="", compare=False)  #: what it was in the clean run, as strace prints it

    @property
    def changing(self) -> bool:
        """Whether the call changed something in the clean run. A kill at one that did not, since it failed for
        instance, leaves what a kill at the next one leaves.
        """
        return self.call not in _NEUTRAL and _FAILED.search(self.line) is None

    def __str__(self) -> str:
        return f"{self.call} number {self.number}: {self.line}"


@dataclass(frozen=True, slots=True)
class Run:
    """How a run ended."""

    status: int  #: as `subprocess` has it: negative for the signal that ended it
    output: str  #: what it wrote to its standard output
    errors: str  #: what it wrote to its standard error

    @property
    def killed(self) -> bool:
        """Whether it got to the point where it was to be killed."""
        return self.status == -signal.SIGKILL


def available() -> bool:
    """Whether strace(1) is there and may trace."""
    strace = shutil.which("strace")
    if strace is None:
        return False
    return subprocess.run([strace, "-f", "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0


def serve(run: Callable[[list[str]], int | None]) -> None:
    """Do a run for each line of standard input, in a fork of this process; for the command of a `Program`.

    run: is given the arguments of the run, and returns its exit status. It is called with the standard streams of the
        run. To end it may also raise SystemExit, or call os._exit.
    """
    answers = os.dup(1)
    os.set_inheritable(answers, False)
    requests = os.fdopen(os.dup(0), encoding="utf-8")  # not standard input, which is the run's
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for line in requests:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            os.close(answers)
            requests.close()
            _be_the_run(run, request)
        if request["traced"]:
            os.waitpid(child, os.WUNTRACED)
            os.write(answers, f"{child}\n".encode())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(answers, f"{status}\n".encode())


def _be_the_run(run: Callable[[list[str]], int | None], request: dict[str, object]) -> NoReturn:
    for descriptor, name in ((1, "output"), (2, "errors")):
        opened = os.open(str(request[name]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.setsid()
    if request["traced"]:
        # Where only ancestors may trace (Yama, see proc_sys_kernel(5)), strace is allowed to.
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(_ANY), 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
    # Out of `serve`, so that the interpreter ends as that of a program does, with whatever it flushes then.
    sys.exit(run(list(request["arguments"])))  # type: ignore[call-overload]


class Program:
    """A program whose crash points are visited. One run at a time: for several, start several.

    command: starts it; it ends up in `serve`. env: its environment, by default this one's.
    timeout: seconds that a run, or its start, may take.
    """

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = 60.0) -> None:
        self._timeout = timeout
        self._directory = tempfile.TemporaryDirectory(prefix="crashwalk")
        self._errors = self._file("server").open("wb")
        self._process = subprocess.Popen(
            command,
            env={**(os.environ if env is None else env), **_STEADY},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it. May be called again."""
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()
        self._directory.cleanup()

    def run(self, arguments: Sequence[str] = ()) -> Run:
        """Do a run that nobody disturbs. Raises as `crash_points` does, but for a status."""
        return self._run(arguments, None)

    def crash_points(
        self,
        arguments: Sequence[str],
        *directories: str | os.PathLike[str],
        since: str = "",
        reads: bool = False,
    ) -> list[Point]:
        """Do a run, unharmed, and return the points at which it changes something in the directories, in order.

        since: only what comes after the first traced call in whose line this text stands, such as an unlink(2) of a
            path that is not there, which the program makes when its preparations are over.
        reads: also the calls of `open` that only read, for runs in which they fail.

        Raises RuntimeError where the run or the program fails, subprocess.TimeoutExpired where it takes too long.
        """
        roots = [os.path.realpath(directory) for directory in directories]
        with tempfile.TemporaryDirectory(dir=self._directory.name) as logs:
            options = ["-ff", "-y", "-o", os.path.join(logs, "trace"), "-e", _traced((*CHANGING, END))]
            run = self._run(arguments, options)
            if run.status:
                raise RuntimeError(f"it failed with status {run.status} when nobody killed it: {run.errors}")
            points: dict[Point, None] = {}
            # One file for each process or thread; by number, so the one that was started first comes first.
            for name in sorted(os.listdir(logs), key=lambda name: int(name.rpartition(".")[2])):
                with open(os.path.join(logs, name), encoding="utf-8", errors="replace") as lines:
                    points.update(dict.fromkeys(_points(lines.read(), roots, since, reads)))
        return list(points)

    def run_killed(self, arguments: Sequence[str], point: Point) -> Run:
        """Do a run and kill it at `point`, before that call is made; `killed` says whether it got there."""
        return self._run(arguments, _injecting(point, "signal=KILL"))

    def run_failing(self, arguments: Sequence[str], point: Point, error: str) -> Run:
        """Do a run; its call at `point` is not made but fails with `error`, such as "ENOSPC". It may go on."""
        return self._run(arguments, _injecting(point, f"error={error}"))

    def _file(self, name: str) -> Path:
        return Path(self._directory.name, name)

    def _run(self, arguments: Sequence[str], options: list[str] | None) -> Run:
        """options: of strace; None: it is not traced."""
        output, errors = self._file("output"), self._file("errors")
        request = {"arguments": list(map(str, arguments)), "traced": options is not None,
                   "output": str(output), "errors": str(errors)}  # fmt: skip
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # then there is no answer, either
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        strace = None
        try:
            if options is not None:
                child = self._answer()
                strace = self._attach(child, options)
                os.kill(child, signal.SIGCONT)
            status = self._answer()
            if strace is not None:
                strace.communicate(timeout=self._timeout)  # its files are whole then
        except BaseException:
            self._process.kill()
            raise
        finally:
            if strace is not None:
                strace.kill()
                strace.communicate()
        return Run(status, *(file.read_text(encoding="utf-8", errors="replace") for file in (output, errors)))

    def _attach(self, child: int, options: list[str]) -> subprocess.Popen[str]:
        command = ["strace", "-f", *options, "-p", str(child)]
        strace = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert strace.stderr is not None
        said = strace.stderr.readline()
        if "attached" not in said:
            strace.kill()
            strace.communicate()
            raise RuntimeError(f"strace cannot attach to the run: {said}")
        return strace

    def _answer(self) -> int:
        """The next number that the program answers."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], self._timeout)[0]:
            raise subprocess.TimeoutExpired(self._process.args, self._timeout)
        answer = self._process.stdout.readline()
        if not answer:
            said = self._file("server").read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"the program has ended: {said}")
        return int(answer)


def _injecting(point: Point, what: str) -> list[str]:
    inject = f"inject={point.call}:{what}:when={point.number}"
    return ["-o", os.devnull, "-e", _traced((point.call,)), "-e", inject]


def _traced(calls: Sequence[str]) -> str:
    # "?": not every machine has each of them (there is no rename on aarch64, only renameat).
    return "trace=" + ",".join(f"?{call}" for call in calls)


def _points(trace: str, roots: list[str], since: str, reads: bool) -> list[Point]:
    """The points in the trace of one process."""
    counts: Counter[str] = Counter()
    points = []
    started = not since
    for line in trace.splitlines():
        call = _LINE.match(line)
        if call is None:
            continue  # a signal, or the end
        counts[call[1]] += 1
        if not started:
            started = since in line
        elif call[1] == END or (any(root in line for root in roots) and (reads or not _READ_ONLY.match(line))):
            points.append(Point(call[1], counts[call[1]], line))
    return points
