"""What all tests share: waiting for a state, other file systems, and the proofs' summary at the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import disks
import postgresql
import summary
from needs import need

#: The folders whose files take longest, in that order.
LONG = ("upgrade", "template", "packages", "systemd", "proofs", "project")

#: A file system in memory, and what has to be free in it, in bytes.
MEMORY, ENOUGH = "/dev/shm", 2 << 30


def pytest_configure(config: pytest.Config) -> None:
    """Ctrl-C reaches what the tests start, even if whoever started them in the background has it ignored; and what they
    make is as other accounts need it to be, whatever the umask of the shell is.
    """
    os.umask(0o022)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "TMPDIR" not in os.environ and _has_room(MEMORY):
        _put_aside_in_memory(config)


def _has_room(place: str) -> bool:
    try:
        found = os.statvfs(place)
    except OSError:
        return False
    usable = os.access(place, os.W_OK) and not found.f_flag & os.ST_NOEXEC
    return usable and found.f_bavail * found.f_frsize >= ENOUGH


def _put_aside_in_memory(config: pytest.Config) -> None:
    """What programs put aside for a moment, such as copier its clones, is in memory; tests' directories are on a disk.

    It is little at a time, but thousands of files: ext4 without a journal leaves each file's place empty for minutes
    (`recently_deleted` in fs/ext4/ialloc.c of Linux), and looks at all such places for each new file.
    """
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    directory = tempfile.mkdtemp(prefix="piper-", dir=MEMORY)
    os.chmod(directory, 0o1777)  # as /tmp is
    os.environ["TMPDIR"] = directory
    tempfile.tempdir = None  # it is remembered there
    config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long is begun first, so that at the end no process is left alone with it."""
    here = Path(__file__).parent
    order = {folder: place for place, folder in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.relative_to(here).parts[0], len(LONG)))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where tests run in several processes (make test-fast), each hands over what it has found out."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["proofs"] = summary.lines


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process has ended; one that has died has handed over nothing."""
    summary.lines += getattr(node, "workeroutput", {}).get("proofs", [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the proofs have found out, a line each."""
    if summary.lines:
        terminalreporter.section("proofs")
        for line in summary.lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def until() -> Iterator[Callable[..., None]]:
    """Wait for a state to be reached; how long that takes is no matter, up to a limit far beyond what it should."""

    def wait(reached: Callable[[], object], what: str = "the state", seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > deadline:
                pytest.fail(f"waited {seconds:g} s in vain for {what}")
            time.sleep(0.01)

    return wait


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A directory on another file system than `tmp_path`."""
    with disks.another(tmp_path) as directory:
        yield directory


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


@pytest.fixture(autouse=True)
def umask_is_the_tests_own() -> Iterator[None]:
    """A daemon that runs in this process sets its umask."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """The connection string of a PostgreSQL database; the tests share it, each with tables of its own."""
    with postgresql.Server() as server:
        yield server.url


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that any account can reach; what pytest makes is its own account's, and each run sees to that."""
    with tempfile.TemporaryDirectory(prefix="piper-", dir="/var/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)
