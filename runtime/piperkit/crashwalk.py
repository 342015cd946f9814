"""Visit every crash point of a program: kill it at each system call with which it changes a directory, one by one.

    points = crash_points(command, directory)    # one clean run, traced
    for point in points:
        ...                                       # put the directory back as it was
        run_killed(command, point)                # ends before that call is made
        ...                                       # recover, and check the books

The kill is strace(1)'s `inject=CALL:signal=KILL:when=N`: the kernel ends the process at its N-th call of that name,
before the call is made. Between two calls that change files nothing changes, so these points are all there are. The
command has to end by itself and to make the same calls each time: it runs without bytecode files and with fixed hashes.

A command with several processes or threads counts in each; the first of them that gets to N is ended. Calls are found
in the trace by the directory's path, which strace gives for what is open, too: the command has to use absolute paths,
or paths relative to an open directory, as piperkit does.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
        return self.status in (-signal.SIGKILL, 128 + signal.SIGKILL)


def available() -> bool:
    """Whether strace(1) is there and may trace."""
    strace = shutil.which("strace")
    if strace is None:
        return False
    return subprocess.run([strace, "-f", "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0


def crash_points(
    command: Sequence[str],
    *directories: str | os.PathLike[str],
    since: str = "",
    reads: bool = False,
    env: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> list[Point]:
    """Run `command` once, unharmed, and return the points at which it changes something in the directories, in order.

    since: only what comes after the first traced call in whose line this text stands, such as an unlink(2) of a
        path that is not there, which the command makes when its preparations are over.
    reads: also the calls of `open` that only read, for runs in which they fail.
    timeout: seconds.

    Raises RuntimeError where the command fails, subprocess.TimeoutExpired where it takes too long.
    """
    roots = [os.path.realpath(directory) for directory in directories]
    with tempfile.TemporaryDirectory(prefix="crashwalk") as logs:
        options = ["-ff", "-y", "-o", os.path.join(logs, "trace"), "-e", _traced((*CHANGING, END))]
        run = _strace([*options, "--seccomp-bpf"], command, env, timeout)
        if run.status:
            raise RuntimeError(f"{command[0]} failed with status {run.status} when nobody killed it: {run.errors}")
        points: dict[Point, None] = {}
        # One file for each process or thread; by number, so the one that was started first comes first.
        for name in sorted(os.listdir(logs), key=lambda name: int(name.rpartition(".")[2])):
            with open(os.path.join(logs, name), encoding="utf-8", errors="replace") as lines:
                points.update(dict.fromkeys(_points(lines.read(), roots, since, reads)))
    return list(points)


def run_killed(
    command: Sequence[str], point: Point, *, env: Mapping[str, str] | None = None, timeout: float = 60.0
) -> Run:
    """Run `command` and kill it at `point`, before that call is made; `killed` says whether it got there."""
    # Not with --seccomp-bpf: at a stop of that kind the signal is lost.
    return _inject(command, point, "signal=KILL", (), env, timeout)


def run_failing(
    command: Sequence[str], point: Point, error: str, *, env: Mapping[str, str] | None = None, timeout: float = 60.0
) -> Run:
    """Run `command`; its call at `point` is not made but fails with `error`, such as "ENOSPC". It may go on."""
    return _inject(command, point, f"error={error}", ("--seccomp-bpf",), env, timeout)


def _inject(
    command: Sequence[str],
    point: Point,
    what: str,
    options: Sequence[str],
    env: Mapping[str, str] | None,
    timeout: float,
) -> Run:
    inject = f"inject={point.call}:{what}:when={point.number}"
    return _strace([*options, "-o", os.devnull, "-e", _traced((point.call,)), "-e", inject], command, env, timeout)


def _traced(calls: Sequence[str]) -> str:
    # "?": not every machine has each of them (there is no rename on aarch64, only renameat).
    return "trace=" + ",".join(f"?{call}" for call in calls)


def _strace(options: Sequence[str], command: Sequence[str], env: Mapping[str, str] | None, timeout: float) -> Run:
    process = subprocess.Popen(
        ["strace", "-f", *options, "--", *command],
        env={**(os.environ if env is None else env), **_STEADY},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    with process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # what strace traces, too
            raise
    return Run(process.returncode, output, errors)


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
