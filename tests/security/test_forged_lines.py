"""No name of a message, and nothing that is said about one, forges a line of a log, a terminal, or sd_notify."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import socket
from pathlib import Path

import pytest

import programs
from piperkit import Component, Failure, Message, Outcome, PiperDaemon, Reject, Retry
from piperkit.daemon import logs
from piperkit.daemon.notify import ServiceManager
from piperkit.dirq import DirectoryQueue
from piperkit.testing import Piper

#: What begins a line of each kind, and what a terminal obeys.
EVIL = (
    "evil\n2026-01-01 00:00:00,000 forged [1] ERROR: forged\n<2>forged\nMAINPID=1\r\x1b[2J\x9b2J\u2028forged\x85forged"
)
NAME = "evil\nforged: 1\n\x1b[2J"


class Repeat(Component):
    """Fails as its message says, with the rest of it as the reason."""

    def process(self, message: Message) -> Outcome:
        what, _, text = message.text.partition(" ")
        match what:
            case "reject":
                raise Reject(text)
            case "retry":
                raise Retry(text, 0.01)
            case "raise":
                raise RuntimeError(text)
            case "copy":
                return message.commit().duplicate(text)
        return message.dispatch(text)


def build(argv: list[str]) -> PiperDaemon:
    return PiperDaemon(name="birds", description="", components=[Repeat()], argv=argv)


def lines(text: str) -> list[str]:
    """The lines of a text, none of which has anything that a terminal obeys."""
    found = text.splitlines()
    assert found == text.removesuffix("\n").split("\n")
    assert [line for line in found if not line.isprintable()] == []
    return found


def work(piper: Piper, what: str, *options: str) -> list[str]:
    """Have a daemon fail at a message; the lines of its log."""
    Path(piper.queue_in.path, "incoming", NAME).write_text(f"{what} {EVIL}")
    piper.run(build, "--quiet", *options)
    return lines(piper.log)


FAILURES = ["reject", "retry", "raise", "dispatch", "copy"]


@pytest.mark.parametrize("what", FAILURES)
def test_each_line_of_a_log_is_the_daemons_or_indented(piper: Piper, what: str) -> None:
    found = work(piper, what)
    assert any("evil" in line for line in found)
    assert [line for line in found if not re.match(r"\d{4}-\d\d-\d\d [\d:,]+ birds \[\d+\] [A-Z]+: |    ", line)] == []


@pytest.mark.parametrize("what", FAILURES)
def test_each_line_of_a_log_for_programs_is_the_daemons(piper: Piper, what: str) -> None:
    found = [json.loads(line) for line in work(piper, what, "--log-format=json")]
    assert any("evil" in line["message"] for line in found)
    assert {line["name"] for line in found} == {"birds"}


def test_each_line_for_the_journal_has_its_own_priority() -> None:
    record = logging.LogRecord("birds", logging.WARNING, "", 0, "%s is banished", (EVIL,), None)
    record.message_id = NAME
    found = lines(logs.JournalFormatter(logs.TextFormatter("%(message)s")).format(record))
    assert [line for line in found[1:] if not line.startswith("<4>    ")] == []
    assert found[0].startswith("<4>evil [message_id=evil")


@pytest.mark.parametrize("text", [EVIL, "half a pair \ud800", "no UTF-8 \udcff", "\0"])
def test_text_that_is_no_text_does_not_lose_its_line(text: str) -> None:
    record = logging.LogRecord("birds", logging.WARNING, "", 0, "%s is banished", (text,), None)
    for formatter in (logs.TextFormatter(), logs.JsonFormatter("birds")):
        assert formatter.format(record).encode().endswith((b" is banished", b' is banished"}'))


def test_the_service_manager_is_told_nothing_but_what_the_daemon_says(
    piper: Piper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, contextlib.chdir(tmp_path):
        manager.bind("notify")
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        work(piper, "dispatch")
        ServiceManager().tell("READY=1", f"STATUS={EVIL}")
        told = []
        with contextlib.suppress(BlockingIOError):
            while True:
                told += manager.recv(1 << 16).decode().split("\n")
    assert any(line.startswith("STATUS=") and "evil" in line for line in told)
    assert "MAINPID" not in {line.partition("=")[0] for line in told}


@pytest.mark.parametrize(
    "command",
    [
        "queue ls QUEUE",
        "queue ls QUEUE --ids",
        "queue show QUEUE NAME",
        "queue stats QUEUE",
        "queue errors QUEUE",
        "queue requeue QUEUE --all --dry-run",
        "doctor QUEUE",
    ],
)
@pytest.mark.slow
def test_no_line_that_piperctl_prints_is_anothers(tmp_path: Path, command: str) -> None:
    path = tmp_path / "queue"
    with DirectoryQueue(path, min_free=0) as queue:
        for number in range(2):
            (path / "incoming" / f"{number}{NAME}").write_text("contents")
        for claim in queue.claim():
            queue.begin(claim.id)
            queue.banish(claim.id, Failure(EVIL, "Evil", f"Traceback:\n{EVIL}"))
    (path / "incoming" / f"2{NAME}").mkdir()
    (path / "state" / f".unreadable.{NAME}").touch()
    words = {"QUEUE": str(path), "NAME": f"0{NAME}"}
    arguments = [words.get(word, word) for word in command.split()]
    done = programs.run("piperkit.cli", *arguments, cwd=tmp_path)
    found = lines(done.stdout.decode())
    assert any("evil" in line for line in found) == ("stats" not in command)
    assert [line for line in found if line.startswith(("forged", "<2>", "MAINPID", "2026-01"))] == []
    assert done.stderr == b""
