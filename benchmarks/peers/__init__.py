"""The peers: what there is to measure, and how one of them is run.

Each is a program of its own, in its own process, with the command line and the report that `stopwatch` describes.
The others' packages are in an environment of their own; where that is missing, they are left out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILT = ROOT / ".bench"
ENVIRONMENT = BUILT / "venv"
#: Seconds that the slowest peer on the slowest disk may take.
PATIENCE = 600.0
#: Seconds without work after which a peer is idle.
QUIET = 0.3
#: What is measured beside ours; mentat-ng without its dependencies, of which its daemon needs pyzenkit only.
PACKAGES = (
    *("pyzenkit==0.67", "dirq==1.8", "persist-queue==1.1.0", "litequeue==0.9", "orjson>=3.10"),
    *("procrastinate==3.10.0", "pgqueuer==1.6.0", "asyncpg>=0.30", "psycopg[binary]>=3.2", "pika==1.4.4"),
)
PACKAGE_ALONE = "mentat-ng==2.15.4"


@dataclasses.dataclass(frozen=True)
class Peer:
    """A program that is measured."""

    name: str
    command: tuple[str, ...]
    files: bool = True  #: it works on the queue directories of the filer protocol; others fill theirs themselves
    installed: bool = False  #: in the environment of the peers
    runtime: Path | None = None  #: where its piperkit is, unless it is the one beside it

    @property
    def available(self) -> bool:
        return Path(self.command[0]).exists() and (self.runtime is None or self.runtime.exists())


def _python(name: str, program: str, *, files: bool = False) -> Peer:
    return Peer(name, (str(ENVIRONMENT / "bin/python"), str(HERE / program)), files, installed=True)


OURS = Peer("piperkit", (sys.executable, str(HERE / "ours.py")))
PYTHON = Peer("Python floor", (sys.executable, str(HERE / "floor.py")))
FLOOR = Peer("C floor", (str(BUILT / "floor"),))
ORIGINAL = _python("original", "original.py", files=True)
DIRQ = _python("dirq", "dirq_simple.py")
OTHERS = (
    DIRQ,
    _python("persist-queue", "persist_queue.py"),
    _python("litequeue", "lite_queue.py"),
)

DATABASE = Peer("piperkit", (sys.executable, str(HERE / "database.py")), files=False)
PROCRASTINATE = _python("procrastinate", "procrastinate_jobs.py")
PGQUEUER = _python("pgqueuer", "pgqueuer_jobs.py")
RABBITMQ = _python("RabbitMQ", "rabbitmq.py")

LIBRARY = Peer("piperkit", (sys.executable, str(HERE / "library.py")), files=False)
#: An earlier release of ours.
VERSION = "0.4.0"
EARLIER = dataclasses.replace(LIBRARY, name=f"piperkit {VERSION}", runtime=BUILT / VERSION / "runtime")


def build_floor() -> None:
    """Compile the floor, where there is a compiler and it is not up to date. Raises CalledProcessError."""
    source, target = HERE / "floor.c", Path(FLOOR.command[0])
    compiler = shutil.which("cc")
    if compiler is None or (target.exists() and target.stat().st_mtime >= source.stat().st_mtime):
        return
    target.parent.mkdir(exist_ok=True)
    subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-o", target, source], check=True)


def unpack_earlier() -> None:
    """Unpack the earlier release, where the history has it and it is not there yet. Raises CalledProcessError."""
    target = BUILT / VERSION
    if target.exists():
        return
    releases = tomllib.loads((ROOT / "releases.toml").read_text(encoding="utf-8"))["release"]
    commit = next(release["commit"] for release in releases if release["version"] == VERSION)
    archive = subprocess.run(["git", "-C", ROOT, "archive", commit, "runtime"], capture_output=True, check=False)
    if archive.returncode:
        print(f"{EARLIER.name} is left out: {os.fsdecode(archive.stderr).strip()}", file=sys.stderr, flush=True)
        return
    unpacked = target.with_suffix(".new")
    unpacked.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-x", "-C", unpacked], input=archive.stdout, check=True)
    unpacked.rename(target)


def install() -> None:
    """Make the peers' environment, unless it is there. Raises CalledProcessError."""
    made = BUILT / "made"
    wanted = "\n".join((*PACKAGES, PACKAGE_ALONE))
    if made.exists() and made.read_text() == wanted:
        return
    print("Installing the peers", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
    pip = [str(ENVIRONMENT / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *PACKAGES], check=True)
    subprocess.run([*pip, "--no-deps", PACKAGE_ALONE], check=True)
    made.write_text(wanted)


@dataclasses.dataclass(frozen=True)
class Report:
    """What a peer did: see `stopwatch`."""

    messages: int
    began: float
    ended: float
    user: float
    system: float
    first: float | None = None  #: seconds until a component was given the first message
    peak: int = 0  #: KiB, the most memory that the program has used
    #: From enqueue to processed, with `--work stamp`.
    milliseconds: list[float] = dataclasses.field(default_factory=list)

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds

    @property
    def rate_from_first(self) -> float:
        """Messages a second from the moment when the first one was there."""
        return self.messages / (self.seconds - (self.first or 0.0))

    @property
    def cpu(self) -> float:
        """Processor time of a message, user and system, in microseconds."""
        return (self.user + self.system) / self.messages * 1e6


class Running:
    """A peer's process, ready to begin."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def go(self) -> None:
        """Let it begin."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def settle(self) -> float:
        """Wait until it is idle; returns the seconds of a processor that it has taken meanwhile."""
        began = taken = self._taken()

        def idle() -> bool:
            nonlocal taken
            before, taken = taken, self._taken()
            return taken == before

        time.sleep(QUIET)
        wait_until(idle, "it is idle", every=QUIET)
        return taken - began

    def _taken(self) -> float:
        """Seconds of a processor, user and system, since its start."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """It does nothing in the block."""
        self._process.send_signal(signal.SIGSTOP)
        yield
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ask a daemon that works until it is stopped to report."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """Wait for its end, whatever it has done."""
        self._process.communicate()

    def status(self, key: str) -> int:
        """A figure of /proc/PID/status: `VmHWM` is its most memory in KiB, `voluntary_ctxt_switches` its waits."""
        return _figure(Path(f"/proc/{self.pid}/status"), key)

    def bytes_read(self) -> int:
        """What it has read, from files and everything else."""
        return _figure(Path(f"/proc/{self.pid}/io"), "rchar")

    def report(self) -> Report:
        """Wait for its end. Raises RuntimeError where it failed."""
        output, errors = self._process.communicate()
        lines = output.splitlines()
        if self._process.returncode or not lines or not lines[-1].startswith("{"):
            raise RuntimeError(f"{self._process.args} failed:\n{output}{errors}")
        return Report(**json.loads(lines[-1]))


def _figure(path: Path, key: str) -> int:
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(f"{key}:"))


def wait_until(reached: Callable[[], object], what: str, *, every: float = 0.005) -> None:
    """Look again and again, every so many seconds, until something is so. Raises RuntimeError after ten minutes."""
    deadline = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {PATIENCE:g} s in vain until {what}")
        time.sleep(every)


@contextlib.contextmanager
def started(peer: Peer, *arguments: object, under: Sequence[str] = ()) -> Iterator[Running]:
    """A peer that has started and is ready; `under`: a command that it runs under. Killed at the end if need be."""
    command = [*under, *peer.command, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(peer.runtime)} if peer.runtime else None
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = ""
        while line != "ready\n":
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{command} did not start:\n{process.communicate()[1]}")
        yield Running(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate() if not process.stdout.closed else process.wait()  # type: ignore[union-attr]


def run(peer: Peer, *arguments: object, under: Sequence[str] = ()) -> Report:
    """Start a peer, let it do its work, and return its report."""
    with started(peer, *arguments, under=under) as running:
        running.go()
        return running.report()
