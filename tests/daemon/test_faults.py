"""Faults that pass: what cannot go on waits, says so once, and goes on by itself; what else there is to do is done."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import apps
from needs import need
from piperkit import crashwalk
from piperkit.dirq import DirectoryQueue
from piperkit.testing import Piper
from written import log

Start = Callable[..., "subprocess.Popen[str]"]
Call = Callable[..., "subprocess.CompletedProcess[str]"]
Until = Callable[..., None]
upper = functools.partial(apps.build, "upper")


@pytest.fixture
def small_disk(piper: Piper) -> Iterator[Path]:
    """A file system of its own for the queue `disk/in`."""
    need("root", os.geteuid() == 0, "root, to mount a tmpfs")
    disk = piper.directory / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_missing_target_of_a_dispatch_puts_off_that_message_and_no_other(piper: Piper) -> None:
    text = f"dispatch {piper.directory}/missing"
    piper.put(text, "after")
    assert piper.run(upper) == 0
    assert piper.contents("in", "deferred") == [text.encode()]
    assert piper.out == [b"AFTER"]
    assert "processing pauses" not in piper.log
    assert f"the queue that it goes to: {piper.directory}/missing is not a queue: it has no" in piper.log


def test_message_waits_for_its_target_and_arrives_when_that_is_there(piper: Piper, start: Start, until: Until) -> None:
    """However often that is tried, it is not an attempt at the message."""
    start("upper", "--retry-min=0.02", "--retry-max=0.02", "--retry-limit=1")
    piper.put(f"dispatch {piper.directory}/late", "after")
    until(lambda: piper.out == [b"AFTER"], "the other one")
    until(lambda: DirectoryQueue(piper.directory / "in").counts()["deferred"] == 1, "the wait")
    DirectoryQueue(piper.directory / "late").close()
    until(lambda: piper.contents("late"), "the message")
    assert piper.errors == []


def test_target_that_cannot_be_written_to_is_named_once(piper: Piper, start: Start, until: Until) -> None:
    start("upper", "--queue-in-wait=0.02", "--queue-out-wait=0.02")
    until(lambda: "The daemon starts" in log(piper), "the start")
    incoming = piper.directory / "out" / "incoming"
    incoming.rmdir()
    incoming.write_text("in the way")
    piper.put("a", "b")
    until(lambda: "processing pauses" in log(piper), "the pause")
    incoming.unlink()
    incoming.mkdir()
    until(lambda: piper.out == [b"A", b"B"], "the messages")
    assert log(piper).count("waiting for") == 1


def fill(disk: Path) -> Path:
    """Fill a file system up to the last byte; returns what does it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


def test_full_disk_holds_what_needs_room_and_the_status_says_why(
    piper: Piper, small_disk: Path, start: Start, call: Call, until: Until
) -> None:
    queue = DirectoryQueue(small_disk / "in", min_free=0)
    for text in ("one", "two"):
        queue.enqueue(text)
    ballast = fill(small_disk)
    where = [f"--queue-in-dir={small_disk}/in", "--queue-min-free=0", "--queue-in-wait=0.02"]
    start("upper", *where)
    until(lambda: "processing pauses" in log(piper), "the pause")
    status = call("upper", *where, "--action=status")
    assert f"waiting for no room in the queue {small_disk}/in: No space left on device" in status.stdout
    assert queue.counts()["pending"] == 2
    ballast.unlink()
    until(lambda: piper.out == [b"ONE", b"TWO"], "the messages")
    until(lambda: "processing goes on" in log(piper), "the log to say so")
    assert log(piper).count("waiting for") == 1
    until(lambda: not sum(queue.counts().values()), "the originals to go")
    queue.close()


def test_messages_that_only_free_room_pass_a_full_disk(piper: Piper, small_disk: Path) -> None:
    queue = DirectoryQueue(small_disk / "in", min_free=0)
    for text in ("cancel", "cancel"):
        queue.enqueue(text)
    fill(small_disk)
    assert piper.run(upper, f"--queue-in-dir={small_disk}/in") == 0
    assert not sum(queue.counts().values())
    assert "waiting for" not in log(piper)
    queue.close()


def test_room_that_is_to_stay_free_does_not_stop_what_frees_room(piper: Piper, small_disk: Path) -> None:
    queue = DirectoryQueue(small_disk / "in", min_free=0)
    queue.enqueue("cancel")
    piper.queue_out.close()
    shutil.rmtree(piper.directory / "out")
    (small_disk / "out").mkdir()
    options = [f"--queue-in-dir={small_disk}/in", f"--queue-out-dir={small_disk}/out", f"--queue-min-free={1 << 40}"]
    queue.enqueue("x")
    queue.enqueue("reject it")
    assert piper.run(upper, *options) == 0
    # "X" is no larger than "x": it needs no more room.
    assert [path.read_text() for path in (small_disk / "out/incoming").iterdir()] == ["X"]
    assert {part for part, count in queue.counts().items() if count} == {"errors"}
    queue.close()


@pytest.mark.slow
@pytest.mark.parametrize("sync", ["batch", "always"])
def test_few_open_files_make_small_batches(piper: Piper, start: Start, until: Until, sync: str) -> None:
    with piper.queue_in.batch():
        piper.put(*(f"m{number}" for number in range(100)))
    limits = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (21, 21))  # noqa: E731
    start("upper", "--queue-in-batch=100", f"--queue-sync={sync}", preexec_fn=limits)
    until(lambda: len(piper.out) == 100, "all messages")
    assert piper.out == [f"M{number}".encode() for number in range(100)]
    assert "waiting for" not in log(piper)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("calls", "error", "says"),
    [
        ("rename,renameat,renameat2", "ENOSPC", "No space left on device"),
        ("rename,renameat,renameat2", "EROFS", "Read-only file system"),
        ("rename,renameat,renameat2", "EDQUOT", "Disk quota exceeded"),
        ("fsync", "EIO", "Input/output error"),
        ("flock", "EIO", "Input/output error"),
        ("openat", "EIO", "Input/output error"),
        ("unlink,unlinkat", "EROFS", "Read-only file system"),
        ("openat", "EMFILE", "Too many open files"),
    ],
)
def test_calls_that_fail_for_a_while_are_said_once_and_all_messages_come_out(
    piper: Piper, until: Until, calls: str, error: str, says: str
) -> None:
    need("strace", crashwalk.available(), "strace(1), with the right to trace")
    # The interpreter itself: a shim would be traced instead of it.
    command = [os.path.realpath(sys.executable), apps.__file__, "upper", *piper.options("--quiet")]
    command += ["--queue-in-wait=0.02", "--queue-out-wait=0.02"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    daemon = subprocess.Popen(command, env=environment)
    try:
        until(lambda: "The daemon starts" in log(piper), "the start")
        piper.put(*(f"a{number}" for number in range(20)))
        until(lambda: len(piper.out) == 20, "the first messages")
        trace = ",".join(f"?{call}" for call in calls.split(","))
        inject = ["-o", os.devnull, "-e", f"trace={trace}", "-e", f"inject={trace}:error={error}"]
        strace = subprocess.Popen(["strace", "-f", "-p", str(daemon.pid), *inject], stderr=subprocess.PIPE, text=True)
        with strace:
            assert strace.stderr is not None
            assert "attached" in strace.stderr.readline()
            piper.put(*(f"b{number}" for number in range(20)))
            until(lambda: "processing pauses" in log(piper), "the pause")
            strace.send_signal(signal.SIGINT)
        until(lambda: len(piper.out) == 40, "all messages")
        until(lambda: "processing goes on" in log(piper), "the log to say so")
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(60) == 0
    finally:
        daemon.kill()
        daemon.wait()
    assert sorted(piper.out) == sorted(f"{letter}{number}".encode() for letter in "AB" for number in range(20))
    assert not sum(piper.counts().values())
    assert says in log(piper)
    assert log(piper).count("processing goes on") == 1
    assert log(piper).count("processing pauses") <= 2  # of two calls that fail, each says what it waits for
    assert "Traceback" not in log(piper)
