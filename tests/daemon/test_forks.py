"""Children that a component forks: they are not daemons, hold nothing of one, and end nothing that is the daemon's."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from piperkit.testing import Piper
from written import log

Start = Callable[..., "subprocess.Popen[str]"]
Call = Callable[..., "subprocess.CompletedProcess[str]"]
Until = Callable[..., None]


def is_there(pid: int) -> bool:
    """Whether a process is there, and has not just ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_child_has_default_handlers_and_no_file_of_the_daemon(piper: Piper, start: Start, until: Until) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(os.path.relpath(piper.directory / "notify"))
        environment = {**os.environ, "NOTIFY_SOCKET": str(piper.directory / "notify"), "WATCHDOG_USEC": "1000000000"}
        start("fork", "--metrics-address=0", env=environment)
        piper.put("tell")
        until(lambda: piper.out, "the message")
    found = json.loads((piper.directory / "child").read_text())
    assert found["wakeup_fd"] == -1
    assert found["handlers"] == []
    files = found["files"]
    assert not [file for file in files if file.startswith(("anon_inode:", "socket:"))], files
    assert not [file for file in files if file.endswith(".pid") or "/instances/" in file], files
    assert len([file for file in files if file.startswith("pipe:")]) == 2, files  # its output, which the test reads


@pytest.mark.parametrize("text", ["exit", "raise", "return"])
@pytest.mark.slow
def test_child_that_leaves_the_component_ends_and_takes_nothing_with_it(
    piper: Piper, start: Start, until: Until, text: str
) -> None:
    daemon = start("fork", "--metrics-file", str(piper.directory / "x.prom"))
    piper.put(text, "exit")
    until(lambda: len(piper.out) == 2, "the messages")
    for child in map(int, piper.out):
        assert not is_there(child)
    assert daemon.poll() is None
    assert int((piper.directory / "daemon.pid").read_text()) == daemon.pid
    assert (piper.directory / "x.prom").exists()
    assert not list((piper.directory / "run-log").iterdir())
    assert not sum(piper.counts().values())
    assert ("has come back from the component" in log(piper)) == (text == "return")
    daemon.send_signal(signal.SIGTERM)
    until(lambda: daemon.poll() is not None, "the end")
    assert daemon.returncode == 0


def test_child_that_outlives_its_daemon_is_in_nobody_s_way(piper: Piper, start: Start, until: Until) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    options = (f"--metrics-address={port}", "--orphan-age=0")
    first = start("fork", *options)
    piper.put("wait")
    until(lambda: piper.out, "the message")
    (child,) = map(int, piper.out)
    try:
        first.kill()
        first.wait()
        assert is_there(child)
        second = start("echo", *options)
        piper.put("after")
        until(lambda: b"after" in piper.out, "the next daemon to work")
        assert int((piper.directory / "daemon.pid").read_text()) == second.pid
        os.kill(child, signal.SIGTERM)
        until(lambda: not is_there(child), "the child to end by a signal")
        assert second.poll() is None
        assert (piper.directory / "daemon.pid").exists()
    finally:
        if is_there(child):
            os.kill(child, signal.SIGKILL)


@pytest.mark.slow
def test_daemon_that_went_into_the_background_by_forks_is_no_child(piper: Piper, call: Call, until: Until) -> None:
    options = [option for option in piper.options() if option != "--no-daemon"]
    done = call("fork", *options, alone=True)
    try:
        assert done.returncode == 0, done.stderr
        piper.put("exit", "exit")
        until(lambda: len(piper.out) == 2, "the messages")
        assert is_there(int((piper.directory / "daemon.pid").read_text()))
    finally:
        assert call("fork", "--action=signal-term").returncode == 0
    until(lambda: "has ended" in log(piper), "the end")
    assert not (piper.directory / "daemon.pid").exists()
