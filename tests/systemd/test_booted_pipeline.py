"""A pipeline of five daemons from `piperctl new --pipeline` to `systemctl start`, under a really booted systemd.

A hundred thousand lines go through it, while one daemon is slow, one is killed and one queue is paused; then it is
drained, and the books balance.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import summary
import systemd_box
from checkout import ALL, ROOT
from needs import need
from systemd_box import Box
from systemd_project import make, public_python

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LINES = 100_000 if ALL else 20_000
CTL = "/usr/local/bin/piperctl"
#: Prints the messages that a sink has stored; a database that is not there yet has none.
READ = """
import os, sqlite3, sys
if os.path.exists(sys.argv[1]):
    try:
        for row in sqlite3.connect(sys.argv[1], timeout=60).execute(f"SELECT {sys.argv[2]} FROM messages"):
            print(row[0])
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
"""
#: What the tutorial has root do; all but the start.
INSTALL = re.findall(r"^sudo (?!systemctl enable)(.*)$", (ROOT / "docs" / "tutorial.md").read_text(), re.MULTILINE)
DAEMONS = ("alerts-reader", "alerts-parser", "alerts-router", "alerts-rest", "alerts-alert")
SINKS = DAEMONS[3:]


@pytest.fixture(scope="module")
def machine(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A machine on which the pipeline is installed as its README says, and not started."""
    need("systemd", systemd_box.available(), "root that may mount, systemd and overlayfs")
    python = public_python()
    need("systemd", python is not None, "a Python 3.11 or newer, with venv, that any account may run")
    project = tmp_path_factory.mktemp("pipeline") / "alerts"
    command = [
        sys.executable,
        "-m",
        "piperkit.cli",
        "new",
        "--pipeline",
        "--defaults",
        "-d",
        "web=true",
        "--template",
        str(template),
    ]
    subprocess.run([*command, "--type", "alert", str(project)], check=True, capture_output=True)
    make(project, "wheels", f"PYTHON={python}")
    with Box(project.parent) as box:
        for line in INSTALL:
            box.run("sh", "-c", line, cwd=str(project))
        yield box


def ctl(box: Box, *arguments: str, check: bool = True) -> str:
    return box.run(CTL, *arguments, check=check).stdout


def ps(box: Box) -> dict[str, dict[str, object]]:
    lines = ctl(box, "pipeline", "ps", "--json", check=False).splitlines()
    return {row["daemon"]: row for row in map(json.loads, lines)}


def active(box: Box) -> list[str]:
    return box.run("systemctl", "is-active", *DAEMONS, check=False).stdout.split()


def stored(box: Box, daemon: str) -> set[int]:
    """The numbers of the lines that a sink has."""
    rows = box.run(
        str(public_python()), "-c", READ, f"/var/lib/{daemon}/messages.sqlite", "contents"
    ).stdout.splitlines()
    numbers = [int(json.loads(row)["text"]) for row in rows]
    assert len(numbers) == len({*numbers}), "a line is there twice"
    return {*numbers}


def seen(box: Box) -> str:
    """The page, which a unit of its own serves to whoever has the token."""
    box.run("systemctl", "start", "alerts-reader-web")
    token = box.path("/var/lib/private/alerts-reader-web/token")
    address = "http://127.0.0.1:8642/"
    end = time.monotonic() + 60
    while True:
        try:
            get = ["curl", "--silent", "--fail", "--cookie", f"piperctl-token={token.read_text().strip()}", address]
            return box.run(*get).stdout
        except (AssertionError, FileNotFoundError):
            assert time.monotonic() < end, box.run("journalctl", "-u", "alerts-reader-web").stdout
            time.sleep(0.1)


def count(box: Box) -> int:
    """How many lines both have."""
    paths = [f"/var/lib/{daemon}/messages.sqlite" for daemon in SINKS]
    return sum(int(box.run(str(public_python()), "-c", READ, path, "count(*)").stdout or 0) for path in paths)


def test_units_are_what_systemd_takes(machine: Box) -> None:
    for unit in ("alerts.target", "alerts.slice", *(f"{daemon}.service" for daemon in DAEMONS)):
        said = machine.run("systemd-analyze", "verify", unit, check=False)
        assert said.returncode == 0, said.stdout
        assert said.stdout == ""
    again = ctl(machine, "pipeline", "units", "--pipeline", "/etc/alerts", "--to", "/")
    assert "removed" not in again
    assert ctl(machine, "pipeline", "check") == "alerts, 5 daemons: nothing is wrong.\n"


def test_every_line_arrives_with_a_slow_daemon_a_killed_one_and_a_paused_queue(
    machine: Box, until: Callable[..., None]
) -> None:
    began = time.monotonic()
    # The sink of what is left stores one message at a time.
    machine.path("/etc/alerts-rest.conf").write_text('{"batch_size": 4}')
    machine.run("systemctl", "start", "alerts.target")
    until(lambda: active(machine) == ["active"] * 5, "all daemons")
    followed = machine.path("/var/lib/alerts-reader/followed")
    written = 0

    def write(number: int) -> None:
        nonlocal written
        with open(followed, "a") as file:
            for at in range(written, written + number):
                file.write(f"{'alert' if at % 4 == 0 else 'info'}: {at}\n")
        written += number

    write(LINES // 2)
    until(lambda: count(machine), "the first of them", 120)
    ctl(machine, "queue", "pause", "alerts-router", "--why", "the routes are looked at")
    until(lambda: (ps(machine)["alerts-router"]["waits"] or 0) > 0, "the router's queue to fill", 120)  # type: ignore[operator]
    rows = ps(machine)
    assert "root has paused the queue: the routes are looked at" in str(rows["alerts-router"]["paused"])
    assert {len(row["instances"]) for row in rows.values()} == {1}  # type: ignore[arg-type]
    assert "CRITICAL" not in ctl(machine, "check", "--spool", "/var/spool", "--age", ",", "--errors", ",", check=False)
    assert "alerts-router" in ctl(machine, "find")
    assert "warning: alerts-router: root has paused the queue" in ctl(machine, "pipeline", "check")
    shown = seen(machine)
    assert "alerts-router" in shown
    assert "root has paused the queue: the routes are looked at" in shown
    need("tmux", shutil.which("tmux") is not None, "tmux")
    machine.run("tmux", "new-session", "-d", "-x", "120", "-y", "30", f"env LC_ALL=C.UTF-8 {CTL} top")
    until(lambda: "alerts-router (paused" in machine.run("tmux", "capture-pane", "-p").stdout, "the terminal", 120)
    pid = machine.run("systemctl", "show", "--property=MainPID", "--value", "alerts-parser").stdout.strip()
    machine.run("kill", "-KILL", pid)
    write(LINES - written)
    until(lambda: machine.run("systemctl", "show", "--property=NRestarts", "--value", "alerts-parser").stdout != "0\n",
          "systemd to restart the parser")  # fmt: skip
    drained = ctl(machine, "pipeline", "drain", "--for", "1s", check=False)
    assert "alerts-router:" in drained
    assert "root has paused the queue: the routes are looked at" in drained
    ctl(machine, "pipeline", "resume")
    machine.run("tmux", "send-keys", "End", "p")
    until(lambda: "Have alerts-router go on?" in machine.run("tmux", "capture-pane", "-p").stdout, "the question")
    machine.run("tmux", "send-keys", "y")
    until(lambda: ps(machine)["alerts-router"]["paused"] is None, "the router's queue to go on")
    machine.run("tmux", "kill-server")
    until(lambda: count(machine) > LINES * 0.6, "more than the half", 600)
    assert "alerts is empty" in ctl(machine, "pipeline", "drain")
    rest, alerts = (stored(machine, sink) for sink in SINKS)
    assert rest | alerts == {*range(len(rest) + len(alerts))}, "what was read has arrived, and nothing else"
    ctl(machine, "pipeline", "resume")
    until(lambda: count(machine) == LINES, "all of it", 600)
    assert "alerts is empty" in ctl(machine, "pipeline", "drain")
    assert stored(machine, "alerts-alert") == {*range(0, LINES, 4)}
    assert stored(machine, "alerts-rest") == {*range(LINES)} - {*range(0, LINES, 4)}
    assert "the pipeline is drained" in ctl(machine, "pipeline", "check")
    ctl(machine, "pipeline", "resume")
    assert ctl(machine, "pipeline", "check") == "alerts, 5 daemons: nothing is wrong.\n"
    drawn = ctl(machine, "pipeline", "graph", "--from", "installed")
    assert "alerts-reader → alerts-parser → alerts-router → alerts-rest\n" in drawn
    machine.run("systemctl", "stop", "alerts.target")
    until(lambda: active(machine) == ["inactive"] * 5, "all to have stopped")
    results = machine.run("systemctl", "show", "--property=Result", "--value", *DAEMONS).stdout.split()
    assert results == ["success"] * 5
    seconds = time.monotonic() - began
    summary.add(f"pipeline: {LINES} lines through five daemons under systemd, one slow, one killed, one queue paused, "
                f"drained: lost 0, doubled 0 ({seconds:.0f} s)")  # fmt: skip
