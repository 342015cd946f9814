"""Daemons as processes: signals, pid files, the background, rights."""

from __future__ import annotations

import fcntl
import grp
import json
import os
import pwd
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import apps
from needs import need
from piperkit import PiperDaemon, crashwalk
from piperkit.dirq import DirectoryQueue
from piperkit.testing import Piper
from written import log

#: The calls that give up rights, in the order in which they have to be made.
RIGHTS = ("setgroups(", "setresgid(", "setresuid(")

Start = Callable[..., "subprocess.Popen[str]"]
Call = Callable[..., "subprocess.CompletedProcess[str]"]
Until = Callable[..., None]


def began(piper: Piper) -> list[str]:
    path = piper.directory / "begun"
    return path.read_text().splitlines() if path.exists() else []


def gone(process: subprocess.Popen[str]) -> Callable[[], bool]:
    return lambda: process.poll() is not None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_finishes_the_message_in_work_and_gives_the_others_back(
    piper: Piper, start: Start, until: Until, number: int
) -> None:
    piper.put(*"abcde")
    daemon = start("slow", f"--gate={piper.directory}")
    until(lambda: began(piper), "the first message to be begun")
    assert piper.counts()["pending"] == 5
    daemon.send_signal(number)
    (piper.directory / "go").touch()
    until(gone(daemon), "the daemon to end")
    assert daemon.returncode == 0
    assert began(piper) == ["a"]
    assert piper.out == [b"a"]
    assert piper.contents("in") == [b"b", b"c", b"d", b"e"]
    assert piper.counts()["pending"] == 0
    assert not (piper.directory / "daemon.pid").exists()


def test_third_stop_signal_ends_at_once_and_recovery_finds_a_clean_state(
    piper: Piper, start: Start, until: Until
) -> None:
    piper.put("a", "b")
    daemon = start("slow", f"--gate={piper.directory}")
    until(lambda: began(piper), "the first message to be begun")
    for _ in range(3):
        daemon.send_signal(signal.SIGTERM)
        time.sleep(0.05)  # signals of one kind that wait are one
    until(gone(daemon), "the daemon to end")
    assert daemon.returncode == 1
    with DirectoryQueue(piper.directory / "in", orphan_age=0) as queue:
        assert len(queue.recover().returned) == 2
    assert sorted(piper.contents("in")) == [b"a", b"b"]


@pytest.mark.slow
def test_stop_timeout_ends_a_component_that_does_not_come_to_an_end(piper: Piper, start: Start, until: Until) -> None:
    piper.put("a")
    daemon = start("slow", f"--gate={piper.directory}", "--stop-timeout=0.1")
    until(lambda: began(piper), "the message to be begun")
    daemon.send_signal(signal.SIGTERM)
    until(gone(daemon), "the daemon to end")
    assert daemon.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("stop", ["timeout", "third signal"])
@pytest.mark.parametrize("way", ["alarms", "signals", "wakeup", "catches", "blocks"])
def test_stop_timeout_and_third_signal_hold_whatever_a_component_does(
    piper: Piper, start: Start, until: Until, way: str, stop: str
) -> None:
    piper.put(way)
    daemon = start("stubborn", "--stop-timeout=0.1" if stop == "timeout" else "--stop-timeout=3600")
    until((piper.directory / "begun").exists, "the message to be begun")
    daemon.send_signal(signal.SIGTERM)
    while stop != "timeout" and daemon.poll() is None:
        daemon.send_signal(signal.SIGTERM)
        time.sleep(0.05)  # signals of one kind that wait are one
    until(gone(daemon), "the daemon to end")
    assert daemon.returncode == 1
    assert not (piper.directory / "daemon.pid").exists()


@pytest.mark.slow
def test_thread_of_a_component_does_not_keep_the_process(piper: Piper, start: Start, until: Until) -> None:
    piper.put("thread")
    daemon = start("stubborn", "--stop-timeout=0.1")
    until(lambda: piper.out, "the message")
    daemon.send_signal(signal.SIGTERM)
    until(gone(daemon), "the daemon to end")
    assert daemon.returncode == 0
    assert daemon.stderr is not None
    assert "ended without waiting for a component's threads: sleeper" in daemon.stderr.read()


@pytest.mark.parametrize("closed", ["0<&-", "2>&-", "0<&- 1>&- 2>&-"])
@pytest.mark.slow
def test_closed_standard_streams_are_no_others(piper: Piper, until: Until, closed: str) -> None:
    """Or what is printed would land in whatever is opened next: a queue's file, or the log."""
    options = [option for option in piper.options() if option != "--no-daemon"]
    command = [sys.executable, apps.__file__, "echo", *options]
    subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *command], check=True)
    pid = int((piper.directory / "daemon.pid").read_text())
    try:
        assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)} == {"/dev/null"}
        piper.put("a")
        until(lambda: piper.out == [b"a"], "the message")
    finally:
        os.kill(pid, signal.SIGTERM)
    until(lambda: "has ended, with status 0" in log(piper), "the end")


@pytest.mark.parametrize("hook", ["setup", "teardown"])
@pytest.mark.slow
def test_third_stop_signal_ends_a_component_that_hangs_in_a_hook(
    piper: Piper, start: Start, until: Until, hook: str
) -> None:
    daemon = start("stuck", f"--hang={hook}")
    if hook == "teardown":
        until(lambda: "The daemon starts" in log(piper), "the start")
        daemon.send_signal(signal.SIGTERM)
    until(lambda: "It hangs" in log(piper), "the hook")
    while daemon.poll() is None:  # signals of one kind that wait are one
        daemon.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    assert daemon.returncode == 1
    assert not (piper.directory / "daemon.pid").exists()


@pytest.mark.slow
def test_stop_timeout_ends_a_start_that_does_not_come_to_an_end(piper: Piper, start: Start, until: Until) -> None:
    daemon = start("stuck", "--stop-timeout=0.1")
    until(lambda: "It hangs" in log(piper), "the hook")
    daemon.send_signal(signal.SIGTERM)
    until(gone(daemon), "the daemon to end")
    assert daemon.returncode == 1


@pytest.mark.slow
def test_program_that_goes_on_after_its_daemon_may_take_its_time_but_not_a_thread_after_it(piper: Piper) -> None:
    code = """
import sys, threading, time
import apps
from piperkit.daemon import guard

guard.GRACE = 0.05
try:
    apps.build("upper", sys.argv[1:], schedule=[("stop",)]).run()
except SystemExit:
    threading.Thread(target=time.sleep, args=(3600,), name="sleeper").start()
    time.sleep(0.5)
    print("it goes on", flush=True)
"""
    command = [sys.executable, "-c", code, *piper.options("--stop-timeout=0")]
    where = os.path.dirname(apps.__file__)
    result = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    assert result.stdout == "it goes on\n"
    assert "ended without waiting for a component's threads: sleeper" in result.stderr
    assert result.returncode == 0


def test_stop_requested_before_the_loop_starts_is_not_lost(piper: Piper, start: Start, until: Until) -> None:
    daemon = start("upper")
    until((piper.directory / "daemon.pid").exists, "the pid file")
    daemon.send_signal(signal.SIGTERM)
    until(gone(daemon), "the daemon to end")
    assert daemon.returncode in (0, -signal.SIGTERM)  # the latter: before there were handlers


def test_sigusr1_saves_the_run_log_and_sigusr2_the_state(piper: Piper, start: Start, until: Until) -> None:
    daemon = start("upper")
    until(lambda: "The daemon starts" in log(piper), "the start")
    piper.put("hello")
    until(lambda: piper.out, "the message")
    daemon.send_signal(signal.SIGUSR1)
    until(lambda: list((piper.directory / "run-log").iterdir()), "the run log")
    (path,) = (piper.directory / "run-log").iterdir()
    assert json.loads(path.read_text())["statistics"]["FilerDaemonComponent"]["cnt_committed"] == 1
    daemon.send_signal(signal.SIGUSR2)
    until(lambda: "State saved" in log(piper), "the state")
    state = json.loads((piper.directory / "daemon.state").read_text())
    assert state["pid"] == daemon.pid
    assert state["counts"]["incoming"] == 0
    assert daemon.poll() is None


@pytest.mark.slow
def test_no_signal_is_lost_or_raises_however_many_come(piper: Piper, start: Start, until: Until) -> None:
    daemon = start("upper", "--queue-sync=off", "--log-level=warning")
    until((piper.directory / "daemon.pid").exists, "the start")
    producer = DirectoryQueue(piper.directory / "in")
    for number in range(300):
        producer.enqueue(f"m{number}")
        daemon.send_signal((signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGALRM)[number % 4])
    until(lambda: len(piper.out) == 300, "all messages")
    daemon.send_signal(signal.SIGTERM)
    until(gone(daemon), "the daemon to end")
    assert daemon.returncode == 0
    assert "Traceback" not in log(piper)


def test_arrival_wakes_an_idle_daemon(piper: Piper, start: Start, until: Until) -> None:
    start("upper", "--queue-in-wait=100000")
    until(lambda: "The daemon starts" in log(piper), "the start")
    for text in ("one", "two"):
        piper.put(text)
        until(lambda: text.upper().encode() in piper.out, "the message")  # noqa: B023  the closure is used at once


@pytest.mark.slow
def test_signal_actions_find_the_daemon_by_its_pid_file(piper: Piper, start: Start, call: Call, until: Until) -> None:
    assert call("upper", "--action=signal-check").returncode == 3
    daemon = start("upper")
    until(lambda: "The daemon starts" in log(piper), "the start")
    found = call("upper", "--action=signal-check")
    assert (found.returncode, str(daemon.pid) in found.stdout) == (0, True)
    assert call("upper", "--action=signal-usr2").returncode == 0
    until(lambda: "State saved" in log(piper), "the state")
    assert call("upper", "--action=signal-term").returncode == 0
    until(gone(daemon), "the daemon to end")
    assert daemon.returncode == 0


def test_stale_pid_file_is_not_believed(piper: Piper, start: Start, call: Call, until: Until) -> None:
    (piper.directory / "daemon.pid").write_text(f"{os.getpid()}\n")
    assert call("upper", "--action=signal-check").returncode == 3
    start("upper")
    until(lambda: "The daemon starts" in log(piper), "the start")


@pytest.mark.slow
def test_pid_file_that_somebody_else_locks_is_not_believed(piper: Piper, call: Call) -> None:
    """As after a crash, by the daemon's own account: the pid may be another process's by now."""
    path = piper.directory / "daemon.pid"
    path.write_text(f"{os.getppid()}\n")
    with open(path, encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for action in ("signal-check", "status", "signal-usr1"):
            assert call("upper", f"--action={action}").returncode == 3


def test_user_that_it_becomes_has_no_way_back_and_no_descriptor_of_others(
    piper: Piper, start: Start, until: Until, public: Path
) -> None:
    need("root", os.geteuid() == 0, "root")
    nobody = pwd.getpwnam("nobody").pw_uid
    with open("/etc/shadow", "rb") as secret:
        places = {"queue-in-dir": "in", "log-file": "it.log", "pid-file": "it.pid", "state-file": "it.state"}
        options = [f"--{key}={public}/it/{name}" for key, name in places.items()]
        options += [f"--runlog-dir={public}/it/runs", "--queue-out-dir=", "--work-dir=/", "--user=nobody"]
        daemon = start("echo", *options, pass_fds=[secret.fileno()])
        until((public / "it" / "it.state").exists, "the start")
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    assert f"Uid:\t{nobody}\t{nobody}\t{nobody}\t{nobody}\n" in status
    assert "CapPrm:\t0000000000000000\n" in status
    files = [os.readlink(link) for link in Path(f"/proc/{daemon.pid}/fd").iterdir()]
    assert "/etc/shadow" not in files
    daemon.kill()  # before its directory goes
    daemon.wait()


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for this signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(re.findall(r"^SigCgt:\s*(\w+)", status, re.M)[0], 16) >> (number - 1) & 1)


@pytest.mark.slow
def test_signals_while_it_starts_do_no_harm(piper: Piper, start: Start, until: Until) -> None:
    """From the first moment of run() on; before that, the signal is Python's."""
    for times, delay in enumerate((0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.3), 1):
        daemon = start("upper")
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
            until(lambda: catches(daemon.pid, number), "the handler")  # noqa: B023  used at once
        time.sleep(delay)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
            daemon.send_signal(number)
        until(lambda: log(piper).count("The daemon starts") == times, "the start")  # noqa: B023  used at once
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait() == 0


def test_installed_daemon_has_a_directory_of_its_own_in_run(tmp_path: Path) -> None:
    """It can belong to the daemon's account, which may not remove a file from /run itself."""
    daemon = PiperDaemon(name="it", argv=[], anchor=str(tmp_path / "it" / "daemon.py"), components=[apps.Echo()])
    assert (daemon.c("pid_file"), daemon.c("state_file")) == ("/run/it/it.pid", "/run/it/it.state")


@pytest.mark.slow
def test_second_daemon_of_a_name_is_refused_unless_in_parallel(
    piper: Piper, start: Start, call: Call, until: Until
) -> None:
    first = start("upper")
    until(lambda: "The daemon starts" in log(piper), "the start")
    second = call("upper")
    assert second.returncode == 75
    assert f"running already, with pid {first.pid}" in second.stderr
    others = [start("upper", "--paralel") for _ in range(2)]
    until(lambda: log(piper).count("The daemon starts") == 3, "the others")
    # A daemon whose name begins the same is not one of them.
    (piper.directory / "daemonic.00001.pid").write_text("1\n")
    done = call("upper", "--paralel", "--action=signal-term")
    assert done.stdout.count("sent to pid") == 2
    for other in others:
        until(gone(other), "the others to end")
    assert first.poll() is None


def test_background_daemon_is_ready_when_the_command_returns(piper: Piper, call: Call, until: Until) -> None:
    options = [option for option in piper.options() if option != "--no-daemon"]
    done = call("upper", *options, alone=True)
    try:
        assert done.returncode == 0, done.stderr
        pid = int((piper.directory / "daemon.pid").read_text())
        assert os.getsid(pid) != os.getsid(0)
        assert os.readlink(f"/proc/{pid}/fd/1") == "/dev/null"
        piper.put("hello")
        until(lambda: piper.out == [b"HELLO"], "the message")
    finally:
        assert call("upper", "--action=signal-term").returncode == 0
    until(lambda: "has ended" in log(piper), "the end")


def test_background_start_that_fails_says_so_where_it_was_started(piper: Piper, call: Call) -> None:
    (piper.directory / "in" / "pending").rmdir()
    (piper.directory / "in" / "pending").write_text("in the way")
    done = call("upper", *[option for option in piper.options() if option != "--no-daemon"], alone=True)
    assert done.returncode == 73
    assert "pending is in the way: a queue, and each of its parts, must be a directory" in done.stderr


@pytest.mark.parametrize(
    ("options", "user", "group"),
    [
        (["--user=nobody"], "nobody", "nogroup"),
        (["--user=nobody", "--group=daemon"], "nobody", "daemon"),
        (["--group=daemon"], "root", "daemon"),
    ],
)
@pytest.mark.slow
def test_user_and_group_are_taken_on_with_their_groups_and_no_others(
    public: Path, options: list[str], user: str, group: str
) -> None:
    need("root", os.geteuid() == 0, "root")
    uid, gid = pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid
    script = public / "who.py"
    script.write_text(
        f"import os, sys; sys.path.insert(0, {os.path.dirname(apps.__file__)!r}); import apps\n"
        "class Who(apps.Upper):\n"
        "    def process(self, message):\n"
        "        return message.commit([os.getresuid(), os.getresgid(), os.getgroups()])\n"
        "apps.COMPONENTS['upper'] = lambda: [Who()]\n"
        "sys.exit(apps.build('upper', sys.argv[1:]).run_until_idle())\n"
    )
    DirectoryQueue(public / "owned", owner=(uid, gid)).enqueue("hello")
    places = {"queue-in-dir": "owned", "queue-out-dir": "made", "runlog-dir": "run/log", "pid-file": "run/x.pid"}
    places |= {"log-file": "logs/x.log"}
    done = subprocess.run(
        [
            *(os.path.realpath(sys.executable), str(script), "--no-daemon", *options),
            *(f"--{key}={public / place}" for key, place in places.items()),
        ],
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
        extra_groups=[0, 4],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(each.read_text()) for each in (public / "made/incoming").iterdir()] == [
        [[uid] * 3, [gid] * 3, [gid]]
    ]
    made = [found for name in ("made", "run", "logs") for found in (public / name).rglob("*")]
    assert {found.name for found in made} >= {"incoming", "log", "x.log"}
    for found in [*made, *(public / name for name in ("made", "run", "logs"))]:
        assert (found.stat().st_uid, found.stat().st_gid) == (uid, gid), found


def test_rights_are_given_up_before_anything_from_a_queue_is_touched(piper: Piper, tmp_path: Path) -> None:
    need("root", os.geteuid() == 0, "root")
    need("strace", crashwalk.available(), "strace(1), with the right to trace")
    jail = tmp_path / "jail"
    jail.mkdir()
    nobody = pwd.getpwnam("nobody").pw_uid
    id = DirectoryQueue(jail / "in", owner=(nobody, -1)).enqueue("hello")
    options = ["--no-daemon", f"--chroot-dir={jail}", "--user=nobody", "--queue-in-dir=/in", "--log-file="]
    options += ["--pid-file=/run/u.pid", "--runlog-dir=/run/log"]
    code = "import sys, apps; sys.exit(apps.build('upper', sys.argv[1:]).run_until_idle())"
    trace = tmp_path / "trace"
    calls = "--trace=setgroups,setresgid,setresuid,openat,rename,renameat2,getdents64"
    command = ["strace", "-y", calls, "-o", str(trace), os.path.realpath(sys.executable), "-c", code, *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run(command, env=environment, cwd=os.path.dirname(apps.__file__), capture_output=True, check=True)
    lines = trace.read_text().splitlines()
    given_up = [next(number for number, line in enumerate(lines) if line.startswith(call)) for call in RIGHTS]
    touched = [number for number, line in enumerate(lines) if '"/in/' in line]
    assert given_up == sorted(given_up)
    assert any(id in line for line in lines)
    assert given_up[-1] < touched[0]


@pytest.mark.slow
def test_component_that_kills_its_daemon_costs_only_its_message(piper: Piper, start: Start, until: Until) -> None:
    piper.put("kill", "a", "b")
    for _ in range(3):
        until(gone(start("upper", "--orphan-age=0")), "the daemon to die")
    start("upper", "--orphan-age=0")
    until(lambda: len(piper.out) == 2, "the other messages")
    assert piper.out == [b"A", b"B"]
    ((contents, reason),) = piper.errors
    assert contents == b"kill"
    assert reason == "3 times the daemon died while it was working on this message"


def test_daemon_in_a_chroot_as_another_user_works_on_the_queues_inside(piper: Piper, tmp_path: Path) -> None:
    need("root", os.geteuid() == 0, "root")
    jail = tmp_path / "jail"
    jail.mkdir()
    DirectoryQueue(jail / "in", owner=(pwd.getpwnam("nobody").pw_uid, -1)).enqueue("hello")
    options = ["--no-daemon", f"--chroot-dir={jail}", "--user=nobody", "--queue-in-dir=/in", "--queue-out-dir=/out"]
    options += ["--log-file=/log/u.log", "--pid-file=/run/u.pid", "--runlog-dir=/run/log"]
    code = "import sys, apps; sys.exit(apps.build('upper', sys.argv[1:]).run_until_idle())"
    done = subprocess.run(
        [sys.executable, "-c", code, *options],
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
        cwd=os.path.dirname(apps.__file__),
    )
    assert done.returncode == 0, done.stderr
    (message,) = (jail / "out/incoming").iterdir()
    assert message.read_text() == "HELLO"
    assert message.stat().st_uid == pwd.getpwnam("nobody").pw_uid
    assert list((jail / "run/log").iterdir())
