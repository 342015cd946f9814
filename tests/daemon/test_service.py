"""What an administrator asks of a running daemon: another configuration, its status, its logs, a sign of life."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import apps
from needs import need
from piperkit import Message, Option, Outcome, PiperDaemon
from piperkit.daemon import logs
from piperkit.daemon.status import Status
from piperkit.dirq.view import QueueView
from piperkit.testing import Piper
from written import log

Start = Callable[..., "subprocess.Popen[str]"]
Call = Callable[..., "subprocess.CompletedProcess[str]"]
Until = Callable[..., None]
Capture = pytest.CaptureFixture[str]


def test_reload_changes_what_can_change_and_names_what_cannot(piper: Piper, start: Start, until: Until) -> None:
    path = piper.directory / "live.conf"
    path.write_text('{"queue_out_limit": 1, "retry_limit": 3}')
    daemon = start("echo", f"--config-file={path}", "--queue-out-wait=0.02")
    piper.put(*"abc")
    until(lambda: "pauses" in log(piper), "the pause")
    path.write_text('{"queue_out_limit": 3, "queue_sync": "off"}')
    daemon.send_signal(signal.SIGHUP)
    until(lambda: len(piper.out) == 3, "the rest")
    assert "changed: queue_out_limit, retry_limit" in log(piper)  # retry_limit is back at its default
    assert "Changes that need a restart: queue_sync" in log(piper)


def test_reload_does_not_wait_for_moments_that_followed_from_the_old_settings(
    piper: Piper, start: Start, until: Until
) -> None:
    path = piper.directory / "live.conf"
    path.write_text('{"stats_interval": 100000, "runlog_interval": 100000, "queue_out_limit": 1}')
    daemon = start("echo", f"--config-file={path}", "--queue-out-wait=100000", "--queue-in-wait=100000")
    piper.put(*"abc")
    until(lambda: "pauses" in log(piper), "the pause")
    path.write_text('{"stats_interval": 0.1, "runlog_interval": 0.1}')
    daemon.send_signal(signal.SIGHUP)
    until(lambda: len(piper.out) == 3, "the rest")
    until(lambda: log(piper).count("Processing statistics") > 2, "statistics")
    until(lambda: log(piper).count("Run log saved") > 2, "run logs")


def test_broken_configuration_is_refused_and_the_old_one_stays(piper: Piper, start: Start, until: Until) -> None:
    path = piper.directory / "live.conf"
    path.write_text('{"queue_out_limit": 5}')
    daemon = start("echo", f"--config-file={path}")
    until(lambda: "The daemon starts" in log(piper), "the start")
    path.write_text('{"queue_out_limit": "many"}')
    daemon.send_signal(signal.SIGHUP)
    until(lambda: "refused, and the old one stays" in log(piper), "the refusal")
    assert 'queue_out_limit is "many"; it must be a whole number' in log(piper)
    daemon.send_signal(signal.SIGUSR2)
    until(lambda: "State saved" in log(piper), "the state")
    assert json.loads((piper.directory / "daemon.state").read_text())["config"]["queue_out_limit"] == 5
    daemon.send_signal(signal.SIGHUP)
    until(lambda: log(piper).count("refused, and the old one stays") == 2, "an answer to each signal")


def test_components_are_told_of_a_new_configuration(piper: Piper) -> None:
    calls: list[int] = []

    class Told(apps.Upper):
        def reload(self, daemon: PiperDaemon) -> None:
            calls.append(daemon.c("queue_in_batch"))

    schedule = [("start",), ("signal_hup",)]
    piper.run(lambda argv: PiperDaemon(name="told", argv=argv, components=[Told()], schedule=schedule))
    assert calls == [32]


@pytest.mark.slow
def test_status_says_how_the_daemon_is(piper: Piper, start: Start, call: Call, until: Until) -> None:
    assert call("upper", "--action=status").returncode == 3
    daemon = start("upper", "--queue-out-limit=1")
    until(lambda: "The daemon starts" in log(piper), "the start")
    piper.put("reject x", "a", "b")
    until(lambda: "pauses" in log(piper), "the pause")
    done = call("upper", "--action=status")
    assert done.returncode == 0
    assert f"running, pid {daemon.pid}, since 20" in done.stdout
    assert "waiting for room in the output queue: its limit of 1 message is reached; 2 messages" in done.stdout
    assert re.search(r"2 messages, [\d.e-]+/s, 1 banished \(\d+ s ago\)\n", done.stdout)
    assert "queue: 1 incoming, 1 errors" in done.stdout


def test_status_of_a_daemon_in_the_middle_of_a_message_is_the_last_one(
    piper: Piper, start: Start, call: Call, until: Until
) -> None:
    daemon = start("slow", f"--gate={piper.directory}")
    until((piper.directory / "daemon.state").exists, "the state")
    piper.put("long")
    until((piper.directory / "begun").exists, "the message in work")
    done = call("slow", "--action=status")
    assert done.returncode == 0
    assert re.search(
        rf"running, pid {daemon.pid}, since \S+ \S+\n  idle \(\d+ s ago\)\n  queue: 1 pending", done.stdout
    )


def test_look_at_a_daemon_sends_it_no_signal(piper: Piper, start: Start, call: Call, until: Until) -> None:
    daemon = start("upper")
    until((piper.directory / "daemon.state").exists, "the state")
    os.kill(daemon.pid, signal.SIGSTOP)
    pending = lambda: Path(f"/proc/{daemon.pid}/status").read_text().split("ShdPnd:")[1].split()[0]  # noqa: E731
    assert call("upper", "--action=status").returncode == 0
    assert int(pending(), 16) == 0


@pytest.mark.parametrize("paralel", [False, True])
@pytest.mark.parametrize("action", ["status", "signal-check"])
@pytest.mark.slow
def test_others_are_told_who_may_ask(
    piper: Piper, start: Start, until: Until, public: Path, action: str, paralel: bool
) -> None:
    """They cannot open the pid file, so they cannot hold its lock against the daemon either."""
    need("root", os.geteuid() == 0, "root")
    options = [f"--pid-file={public}/it.pid", *(["--paralel"] if paralel else [])]
    start("upper", *options)
    until(lambda: "The daemon starts" in log(piper), "the start")
    nobody = pwd.getpwnam("nobody").pw_uid
    # Loaded as root: an interpreter in root's home directory is out of nobody's reach.
    code = f"import encodings.ascii, os, sys, apps; os.setgroups([]); os.setuid({nobody});"
    code += "apps.build('upper', sys.argv[1:]).run()"
    command = [sys.executable, "-c", code, *piper.options(*options, f"--action={action}", f"--files-under={public}")]
    directory = os.path.dirname(apps.__file__)
    done = subprocess.run(command, cwd=directory, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"upper: the pid file \S+ is not for others to read; ask as .* root\n", done.stderr)


def test_rate_is_that_of_the_last_seconds() -> None:
    now = 0.0
    counts: dict[str, int] = {"cnt_fetched": 0}
    status = Status(counts, lambda: "idle", lambda: "", lambda: now)

    def line(messages: int, seconds: float) -> str:
        nonlocal now
        now += seconds
        counts["cnt_fetched"] += messages
        return status.line(False)

    assert line(0, 1) == "idle"
    assert line(30, 9) == "idle; 30 messages, 3/s"
    assert line(0, 5) == "idle; 30 messages, 2/s"
    assert line(50, 5) == "idle; 80 messages, 5/s"
    assert line(0, 5) == "idle; 80 messages, 3.33/s"
    assert line(0, 20) == "idle; 80 messages, 0/s"


def test_configuration_view_says_where_each_value_comes_from_and_shows_no_secret(
    piper: Piper, capsys: pytest.CaptureFixture[str]
) -> None:
    path = piper.directory / "some.conf"
    path.write_text('{"queue_out_limit": 5, "password": "xyzzy"}')
    options = (Option("password", str, None, "of the database", secret=True),)
    daemon = apps.build("upper", [f"--config-file={path}", "--umask=027", "--action=config-view"], options=options)
    with pytest.raises(SystemExit):
        daemon.run()
    lines = {line.split()[0]: line.split(" = ")[1] for line in capsys.readouterr().out.splitlines()}
    assert lines["queue_out_limit"] == f"5  ({path})"
    assert lines["umask"] == '"0o027"  (command line)'
    assert lines["queue_in_batch"] == "32  (default)"
    assert lines["password"] == f'"..."  ({path})'
    assert "xyzzy" not in str(daemon.configuration.options)


@contextlib.contextmanager
def manager(piper: Piper) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """The service manager's end: a socket, and the environment that tells of it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        path = os.path.relpath(piper.directory / "notify")
        end.bind(path)
        end.settimeout(60)
        environment = {"NOTIFY_SOCKET": os.path.abspath(path), "WATCHDOG_USEC": "1000000"}
        yield end, {**os.environ, **environment}


def received(end: socket.socket, wanted: str) -> list[str]:
    """The lines of the first message that has one that begins with `wanted`."""
    while True:
        lines = end.recv(4096).decode().splitlines()
        if any(line.startswith(wanted) for line in lines):
            return lines


def test_service_manager_is_told_of_start_reload_and_stop(piper: Piper, start: Start) -> None:
    with manager(piper) as (end, environment):
        daemon = start("upper", "--stop-timeout=5", env=environment)
        assert received(end, "READY=1") == ["READY=1", "STATUS=idle"]
        assert "WATCHDOG_USEC=300000000" in received(end, "WATCHDOG_USEC")
        daemon.send_signal(signal.SIGHUP)
        assert received(end, "RELOADING=1")[1].startswith("MONOTONIC_USEC=")
        assert received(end, "READY=1")
        daemon.send_signal(signal.SIGTERM)
        assert received(end, "STOPPING=1") == ["STOPPING=1", "STATUS=stopping", "EXTEND_TIMEOUT_USEC=7000000"]


@pytest.mark.slow
def test_service_manager_gets_signs_of_life(piper: Piper, start: Start) -> None:
    with manager(piper) as (end, environment):
        start("upper", "--process-timeout=1", env=environment)
        for _ in range(3):
            assert received(end, "WATCHDOG=1")


def test_service_manager_is_told_of_a_stop_while_a_message_is_in_work(piper: Piper, start: Start, until: Until) -> None:
    """So that it waits for the message as long as `stop_timeout` says."""
    with manager(piper) as (end, environment):
        daemon = start("slow", f"--gate={piper.directory}", "--stop-timeout=60", env=environment)
        piper.put("long")
        until((piper.directory / "begun").exists, "the message in work")
        daemon.send_signal(signal.SIGTERM)
        assert "EXTEND_TIMEOUT_USEC=62000000" in received(end, "STOPPING=1")
        (piper.directory / "go").touch()
        assert daemon.wait(60) == 0


@pytest.mark.slow
def test_each_message_begins_with_a_sign_of_life(piper: Piper, start: Start, until: Until) -> None:
    with manager(piper) as (end, environment):
        start("slow", f"--gate={piper.directory}", "--process-timeout=300", env=environment)
        received(end, "WATCHDOG_USEC")
        now = time.monotonic()
        until(lambda: time.monotonic() - now > 1.1, "the moment when the last sign of life is an old one")
        piper.put("long")
        assert received(end, "WATCHDOG=1") == ["WATCHDOG=1"]  # the loop's own would come after 100 s


@pytest.mark.slow
def test_reload_with_a_shorter_process_timeout_gives_signs_more_often_at_once(piper: Piper, start: Start) -> None:
    path = piper.directory / "live.conf"
    path.write_text('{"process_timeout": 300}')
    with manager(piper) as (end, environment):
        daemon = start("upper", f"--config-file={path}", env=environment)
        assert received(end, "READY=1")
        received(end, "WATCHDOG_USEC")
        path.write_text('{"process_timeout": 1}')
        daemon.send_signal(signal.SIGHUP)
        assert received(end, "WATCHDOG_USEC") == ["WATCHDOG_USEC=1000000", "WATCHDOG=1"]
        assert received(end, "READY=1") == ["READY=1", "STATUS=idle"]
        for _ in range(2):
            assert received(end, "WATCHDOG=1") == ["WATCHDOG=1"]


def test_reload_is_over_when_the_components_know(piper: Piper, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Told(apps.Upper):
        def reload(self, daemon: PiperDaemon) -> None:
            told.append("reload")

    monkeypatch.setattr("piperkit.daemon.notify.ServiceManager.tell", lambda self, *lines: told.append(lines[0]))
    schedule = [("start",), ("signal_hup",)]
    piper.run(lambda argv: PiperDaemon(name="told", argv=argv, components=[Told()], schedule=schedule))
    assert told[told.index("RELOADING=1") :][:3] == ["RELOADING=1", "reload", "READY=1"]


def test_daemon_is_not_ready_before_its_components_are(piper: Piper, start: Start) -> None:
    with manager(piper) as (end, environment):
        options = ["--config-file=/nowhere"]
        daemon = start("upper", *options, env=environment)
        assert daemon.wait(60) == 78
        end.setblocking(False)
        with pytest.raises(BlockingIOError):
            end.recv(4096)


def test_json_log_has_one_object_a_line_with_the_message_that_it_is_about(piper: Piper) -> None:
    (id,) = piper.put("reject it smells")
    piper.run(functools.partial(apps.build, "upper"), "--log-format=json")
    lines = [json.loads(line) for line in piper.log.splitlines()]
    (line,) = (line for line in lines if "it smells" in line["message"])
    assert line["level"] == "warning"
    assert line["message_id"] == id
    assert line["attempt"] == 1
    assert line["queue"] == str(piper.directory / "in")


def test_lines_for_the_journal_begin_with_their_priority() -> None:
    formatter = logs.JournalFormatter(logs.TextFormatter("%(message)s"))
    for level, number in ((logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3)):
        record = logging.LogRecord("x", level, __file__, 1, "one\ntwo", None, None)
        assert formatter.format(record) == f"<{number}>one\n<{number}>    two"


def test_fault_that_repeats_is_logged_once_and_then_counted() -> None:
    now = 0.0
    repeats = logs.Repeats(lambda: now)

    def passes(text: str = "fault", level: int = logging.WARNING, line: int = 1, **more: str) -> str | None:
        record = logging.LogRecord("x", level, __file__, line, "%s", (text,), None)
        vars(record).update(more)
        return record.getMessage() if repeats.filter(record) else None

    assert [passes() for _ in range(100)] == ["fault"] + [None] * 99
    assert passes("another") == "another"
    assert passes("fault of m1", message_id="m1")
    assert passes("fault of m2", message_id="m2") is None  # the same one, of another message
    assert passes("boom in attempt 1", fault="boom")
    assert passes("boom in attempt 2", fault="boom") is None
    assert passes(line=2) == "fault"
    assert [passes(level=logging.INFO) for _ in range(2)] == ["fault"] * 2
    now = 61.0
    assert passes("again") == "again (101 more like it in the 61 s before)"
    assert [passes(str(number)) for number in range(20)] == [str(number) for number in range(9)] + [None] * 11
    logger = logging.Logger("repeats")
    told: list[str] = []
    logger.addFilter(repeats)
    logger.addFilter(lambda record: told.append(record.getMessage()) or False)
    repeats.tell(logger)
    repeats.tell(logger)
    assert told == ["11 more like: again"]


def test_many_messages_with_one_fault_make_one_line_and_a_count(piper: Piper) -> None:
    piper.put(*["raise boom"] * 30, "raise another")
    piper.run(functools.partial(apps.build, "upper"))
    assert piper.log.count("RuntimeError: boom\n") - piper.log.count("\n    RuntimeError: boom\n") == 1
    assert re.search(r"WARNING: 29 more like: Component 'filer': message '.*', attempt 1, is put off", piper.log)
    assert "RuntimeError: another" in piper.log


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_a_component_logs_says_which_message_it_works_on(piper: Piper, form: str) -> None:
    class Saying(apps.Upper):
        def setup(self, daemon: PiperDaemon) -> None:
            self.logger = daemon.logger

        def process(self, message: Message) -> Outcome | None:
            self.logger.info("It is %s", message.text)
            return message.commit()

    (id,) = piper.put("nice")
    piper.run(
        lambda argv: PiperDaemon(name="saying", argv=argv, components=[Saying()]), f"--log-format={form}"
    )  # fmt: skip
    (line,) = (line for line in piper.log.splitlines() if "It is nice" in line)
    facts = {"message_id": id, "queue": str(piper.directory / "in"), "attempt": 1}
    if form == "json":
        assert json.loads(line).items() >= facts.items()
    else:
        assert line.endswith("[" + ", ".join(f"{key}={value}" for key, value in facts.items()) + "]")
    assert "message_id" not in next(line for line in piper.log.splitlines() if "The daemon starts" in line)


def test_recovery_says_which_message_it_is_about(piper: Piper, start: Start, until: Until) -> None:
    (id,) = piper.put("kill")
    start("upper", "--orphan-age=0").wait(60)
    start("echo", "--orphan-age=0")
    until(lambda: "given back after its daemon died" in log(piper), "the recovery")
    (line,) = (line for line in log(piper).splitlines() if "given back after" in line)
    assert line.endswith(f"[message_id={id}, queue={piper.directory}/in, attempt=1]")


def test_names_that_are_no_utf8_do_not_lose_a_log_line(piper: Piper) -> None:
    piper.queue_in.enqueue("reject odd", "gr\udcfcn")
    piper.run(functools.partial(apps.build, "upper"))
    assert "gr\\xfcn" in piper.log
    assert len(QueueView(piper.directory / "in").entries("errors")) == 1


def test_no_line_per_message_at_info(piper: Piper) -> None:
    piper.put(*(f"{number}" for number in range(50)))
    piper.run(functools.partial(apps.build, "upper"))
    assert len(piper.log.splitlines()) < 20


@pytest.mark.slow
def test_state_says_what_was_done_soon_after_it_was(piper: Piper, start: Start, until: Until) -> None:
    """Long before the daemon looks after its queue again, and whoever asks for it sends no signal."""
    start("upper", constants={"piperkit.filer.component.RECOVER_INTERVAL": 3600.0})
    until((piper.directory / "daemon.state").exists, "the start")
    for number in (1, 2):
        piper.put("one")
        said = f"{number} message{'s' * (number > 1)}, "
        until(lambda: said in (piper.directory / "daemon.state").read_text(), "the status")  # noqa: B023  used at once
