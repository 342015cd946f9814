"""What a daemon writes is not for everybody, whatever umask it was started with."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from people import DAEMON, GROUP, OTHER, PRODUCER
from piperkit import Component, Message, Option, Outcome, PiperDaemon
from piperkit.daemon import exposition  # noqa: F401  now: the daemon's account may not see our Python
from piperkit.dirq.view import QueueView


class Echo(Component):
    """Passes every message on as it came."""

    def process(self, message: Message) -> Outcome:
        return message.commit()


def run(directory: Path, *options: str, component: type[Component] = Echo, until_idle: bool = False) -> None:
    """A daemon with its queue, and all its files in one place."""
    argv = [
        "--no-daemon",
        "--quiet",
        f"--queue-in-dir={directory}/queue",
        f"--log-file={directory}/files/birds.log",
        f"--pid-file={directory}/files/birds.pid",
        f"--state-file={directory}/files/birds.state",
        f"--runlog-dir={directory}/files/run-log",
        f"--metrics-file={directory}/files/birds.prom",
        "--metrics-interval=0.1",
        *options,
    ]
    daemon = PiperDaemon(name="birds", description="", components=[component()], argv=argv)
    daemon.run_until_idle() if until_idle else daemon.run()


@pytest.mark.parametrize("umask", ["000", "022", "077"])
def test_others_read_nothing_of_a_daemon_but_its_metrics(machine: Path, until: Callable[..., None], umask: str) -> None:
    os.chown(machine, DAEMON.uid, GROUP)
    (machine / "files").mkdir(0o755)
    os.chown(machine / "files", DAEMON.uid, GROUP)

    def live() -> None:
        os.umask(int(umask, 8))
        run(machine)

    child = DAEMON.start(live)
    try:
        until((machine / "files" / "birds.prom").exists, "the start")
        os.kill(child, signal.SIGUSR1)
        os.kill(child, signal.SIGUSR2)
        until((machine / "files" / "birds.state").exists, "the state")
        until(lambda: list((machine / "files" / "run-log").glob("*.json")), "the run log")
        # But not what comes and goes while a file is written.
        there = [path for path in machine.rglob("*") if path.suffix != ".tmp" and path.is_file()]
        files = {path: functools.partial(os.open, path, os.O_RDONLY) for path in there}
        assert {path.parent.name for path in files} == {"files", "run-log", "instances"}
        opened = {path.name for path, outcome in OTHER.attempts(files).items() if outcome == "done"}
        assert opened == {"birds.prom"}
        assert [path for path in files if path.stat().st_mode & 0o022] == []
        # Nor can whoever may enqueue, and is in its group, hold a lock against it.
        assert PRODUCER.attempts(files)[machine / "files" / "birds.pid"] == "EACCES"
    finally:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)


class Grows(Component):
    """Has a message grow by its producer's descriptor, and looks at it."""

    options = (Option("descriptor", int, -1, "of the message, for writing"), Option("hook", str, "", "when it grows"))

    def setup(self, daemon: PiperDaemon) -> None:
        self.descriptor, self.hook = daemon.c("descriptor"), daemon.c("hook")
        self.grow("setup")

    def process(self, message: Message) -> Outcome:
        self.grow("process")
        raise AssertionError(f"it has {len(message.data)} bytes")

    def grow(self, hook: str) -> None:
        if hook == self.hook:
            os.truncate(self.descriptor, 200 << 30)


@pytest.mark.parametrize(
    ("form", "hook"), [("text", "setup"), ("json", "setup"), ("bytes", "setup"), ("bytes", "process")]
)
def test_a_message_that_its_producer_has_grow_is_banished(queue: Path, form: str, hook: str) -> None:
    PRODUCER.do(lambda: (queue / "incoming" / "x").write_text("hello"))
    (queue.parent / "files").mkdir()
    os.chown(queue.parent / "files", DAEMON.uid, GROUP)
    fd = os.open(queue / "incoming" / "x", os.O_RDWR)

    def live() -> list[str | None]:
        options = [f"--message-format={form}", f"--descriptor={fd}", f"--hook={hook}", "--retry-limit=1"]
        with contextlib.suppress(SystemExit):
            run(queue.parent, *options, component=Grows, until_idle=True)
        return [entry.reason for entry in QueueView(queue).entries("errors")]

    try:
        (reason,) = DAEMON.do(live)
    finally:
        os.close(fd)
    assert "is larger than message_max" in reason
