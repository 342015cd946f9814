"""The loop: what wakes it, what does not, and that nothing is missed in between."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import apps
from needs import need
from piperkit import crashwalk
from piperkit.daemon.waker import Waker
from piperkit.dirq import fs
from piperkit.testing import Piper
from written import log

Start = Callable[..., "subprocess.Popen[str]"]
Until = Callable[..., None]


@pytest.mark.slow
def test_idle_daemon_makes_no_system_call_between_its_timers(
    piper: Piper, start: Start, until: Until, tmp_path: Path
) -> None:
    need("strace", crashwalk.available(), "strace(1), with the right to trace")
    daemon = start("echo")
    until(lambda: "The daemon starts" in log(piper), "the start")
    piper.put("a")
    until(lambda: piper.out, "the message")
    threads = len(os.listdir(f"/proc/{daemon.pid}/task"))
    assert threads == 2  # the loop, and its guard

    def calls() -> list[str]:
        """The system calls of two seconds; those that its threads sleep in are the first of them."""
        trace = tmp_path / "trace"
        command = ["strace", "-f", "-o", str(trace), "-p", str(daemon.pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            assert "attached" in tracer.stderr.readline()
            began = time.monotonic()
            until(lambda: time.monotonic() - began > 2, "a while in which it could do something")
            tracer.send_signal(signal.SIGTERM)  # it lets go of the daemon
        return [line for line in trace.read_text().splitlines() if "strace:" not in line]

    def sleeps() -> bool:
        found = calls()
        return len(found) == threads and all(line.endswith(" ...>") for line in found)

    # Not always at once: a timer may be due, or what was done for the message may still have an end to come to.
    until(sleeps, "two seconds without a system call")


def unexpected(text: str, error: BaseException | None) -> None:
    pytest.fail(f"{text}: {error}")


def test_signal_between_the_decision_to_sleep_and_the_sleep_is_not_lost() -> None:
    """Else this waits for an hour."""
    came: list[int] = []
    waker = Waker(unexpected)

    def handle(number: int, frame: object) -> None:
        came.append(number)
        waker.wake()

    previous = signal.signal(signal.SIGUSR1, handle)
    try:
        with waker:
            for _ in range(100):
                os.kill(os.getpid(), signal.SIGUSR1)
                waker.wait(3600)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert len(came) == 100


def test_descriptor_that_is_readable_ends_a_wait_and_is_read() -> None:
    """As a broker's connection will be."""
    reader, writer = os.pipe()
    read: list[bytes] = []
    with Waker(unexpected) as waker:
        waker.watch(reader, lambda: read.append(os.read(reader, 10)))
        os.write(writer, b"x")
        waker.wait(3600)
    assert read == [b"x"]
    os.close(reader)
    os.close(writer)


def test_handler_that_raises_is_told_and_called_again() -> None:
    told: list[str] = []
    reader, writer = os.pipe()

    def broken() -> None:
        os.read(reader, 1)
        raise ValueError("no")

    with Waker(lambda text, error: told.append(f"{text}: {error}")) as waker:
        waker.watch(reader, broken)
        for _ in range(2):
            os.write(writer, b"x")
            waker.wait(3600)
    assert told == [f"the handler of descriptor {reader} failed: no"] * 2
    os.close(reader)
    os.close(writer)


def test_descriptor_that_is_closed_or_at_its_end_wakes_nobody_for_ever() -> None:
    told: list[str] = []
    with Waker(lambda text, error: told.append(text)) as waker:
        reader, writer = os.pipe()
        waker.watch(reader, lambda: None)
        os.close(writer)
        waker.wait(3600)
        os.close(reader)
        reader, writer = os.pipe()
        waker.watch(reader, lambda: None)
        os.close(reader)
        waker.wait(3600)
        os.close(writer)
        waker.wait(0.001)
    assert told == [f"descriptor {reader} was closed while it was watched; it is not watched any more"]


def test_wait_of_a_fraction_of_a_second_is_neither_rounded_down_nor_busy() -> None:
    asked: list[float] = []

    class Poll:
        def poll(self, milliseconds: float) -> list[tuple[int, int]]:
            asked.append(milliseconds)
            return []

    waker = Waker(unexpected)
    waker._poll = Poll()  # type: ignore[assignment]
    for seconds in (0.25, 0.0004, 0.0, 1.0001):
        waker.wait(seconds)
    assert asked == [250, 1, 0, 1001]


def test_daemon_that_arrivals_cannot_wake_looks_at_intervals_and_says_so_once(piper: Piper, until: Until) -> None:
    """With no inotify instance to be had, as for a file system that tells nothing."""
    limit = "/proc/sys/user/max_inotify_instances"
    unshare = ["unshare", "--user", "--map-root-user", "sh", "-c", f'echo 0 > {limit} && exec "$@"', "sh"]
    works = shutil.which("unshare") and subprocess.run([*unshare, "true"], capture_output=True, check=False)
    need("unshare", bool(works) and works.returncode == 0, "a user namespace with limits of its own")
    command = [sys.executable, apps.__file__, "upper", *piper.options("--queue-in-wait=0.05")]
    daemon = subprocess.Popen([*unshare, *command], stderr=subprocess.DEVNULL)
    try:
        until(lambda: "The daemon starts" in log(piper), "the start")
        for text in ("one", "two"):
            piper.put(text)
            until(lambda: text.upper().encode() in piper.out, "the message")  # noqa: B023  used at once
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(60) == 0
    finally:
        daemon.kill()
        daemon.wait()
    assert log(piper).count("Arrivals do not wake the daemon") == 1
    assert "it looks every 0.05 s" in log(piper)


def test_type_of_a_file_system_is_what_the_kernel_says() -> None:
    for mount in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = mount.split()
        if place == "/proc":
            assert fs.file_system(fs.Directory(place)) == kind == "proc"
            break
    else:
        pytest.fail("/proc is not mounted")
