"""A generated daemon, installed by its own `make install`, under a systemd that was really booted.

One machine for all tests here; each begins with an empty queue and a configuration of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import summary
from systemd_box import Box

pytestmark = pytest.mark.slow

QUEUE, DONE, KEPT = "/var/spool/mydaemon", "/var/spool/done", "/var/lib/mydaemon"
CTL = "/usr/local/bin/piperctl"
PLAIN = "mydaemon.service"


class Service:
    """The installed daemon: its configuration, its unit, its queues."""

    def __init__(self, box: Box, until: Callable[..., None]) -> None:
        self.box = box
        self._until = until

    def configure(self, **settings: object) -> None:
        text = json.dumps({"queue_out_dir": "done", "process_timeout": 2, "orphan_age": 0.1, **settings})
        self.box.path("/etc/mydaemon.conf").write_text(text)

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        done = self.box.run("systemctl", *arguments, check=False)
        assert not check or done.returncode == 0, f"{done.stdout}\n{self.journal()}"
        return done.stdout

    def drop_in(self, unit: str, **settings: object) -> None:
        """Change settings of a unit, until the end of the test."""
        lines = "".join(f"{key}={value}\n" for key, value in settings.items())
        directory = self.box.path(f"/run/systemd/system/{unit}.d")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "test.conf").write_text(f"[Unit]\nStartLimitIntervalSec=0\n[Service]\n{lines}")
        self.systemctl("daemon-reload")

    def state(self, key: str, unit: str = PLAIN) -> str:
        """A property of the unit, as systemd shows it."""
        return self.systemctl("show", f"--property={key}", "--value", unit).strip()

    def until(self, key: str, value: str, unit: str = PLAIN) -> None:
        self.wait(lambda: self.state(key, unit) == value, f"{key}={value}")

    def wait(self, reached: Callable[[], object], what: str) -> None:
        try:
            self._until(reached, what, 30)
        except BaseException:
            print(self.systemctl("status", PLAIN, check=False), self.journal())
            raise

    def journal(self) -> str:
        return self.box.run("journalctl", "--quiet", "--output=cat", "--unit=mydaemon*", check=False).stdout

    def put(self, *texts: str) -> None:
        """Messages from another program, by the protocol: write, then rename."""
        for text in texts:
            name = f"{time.monotonic_ns():020}"
            tmp = self.box.path(f"{QUEUE}/tmp/{name}")
            tmp.write_text(text)
            tmp.rename(self.box.path(f"{QUEUE}/incoming/{name}"))

    def names(self, queue: str, part: str) -> list[str]:
        return sorted(os.listdir(self.box.path(f"{queue}/{part}")))

    def done(self) -> list[str]:
        """What has come out, in no order."""
        directory = self.box.path(f"{DONE}/incoming")
        return [(directory / name).read_text() for name in self.names(DONE, "incoming")]

    def comes_out(self, *texts: str) -> None:
        self.wait(lambda: len(self.done()) >= len(texts), f"{len(texts)} messages")
        assert sorted(self.done()) == sorted(texts)

    def mark(self, name: str) -> Path:
        return self.box.path(f"{KEPT}/{name}")

    def as_user(self, user: str, script: str) -> str | None:
        """What a shell script prints that another user runs; None where it fails."""
        done = self.box.run("runuser", "-u", user, "--", "sh", "-c", script, check=False)
        return done.stdout if done.returncode == 0 else None

    def clear(self) -> None:
        """Stop everything, and leave nothing."""
        self.systemctl("stop", "mydaemon.target", "mydaemon.service", "mydaemon@*.service")
        self.systemctl("reset-failed")
        self.box.run("sh", "-c", "rm -rf /run/systemd/system/mydaemon*.d /var/lib/mydaemon/* /run/mydaemon/*")
        self.box.run("sh", "-c", f"find {QUEUE} {DONE} -type f -delete")
        self.box.run("journalctl", "--rotate", "--vacuum-time=1us")


@pytest.fixture
def service(box: Box, until: Callable[..., None]) -> Iterator[Service]:
    box.run("rm", "-rf", DONE)
    box.run(CTL, "queue", "create", DONE, "--user", "alice", "--group", "piper")
    service = Service(box, until)
    service.configure()
    # RestartSec is 5 s for the sake of the log of a daemon that cannot start; here nothing is shown by waiting.
    for unit in (PLAIN, "mydaemon@.service"):
        service.drop_in(unit, RestartSec="50ms")
    yield service
    for name in ("go", "sharing.1", "sharing.2", "sharing.3"):
        with contextlib.suppress(OSError):
            service.mark(name).touch()
    with contextlib.suppress(OSError):
        service.mark("hold").unlink()
    service.clear()


def test_the_installed_units_are_verified_and_rated(box: Box) -> None:
    units = [f"/usr/local/lib/systemd/system/mydaemon{suffix}" for suffix in (".service", "@.service", ".target")]
    assert box.run("systemd-analyze", "verify", *units).stdout == ""
    for unit in ("mydaemon.service", "mydaemon@1.service"):
        box.run("systemd-analyze", "security", "--threshold=15", "--no-pager", unit)


def test_what_make_install_says_is_next_starts_all_daemons_of_the_project(service: Service, project: Path) -> None:
    said = service.box.run("make", "install", cwd=str(project)).stdout
    assert "/usr/local/bin/mydaemon /usr/local/bin/other" in said
    assert "/etc/mydaemon.conf /etc/other.conf" in said
    commands = [line.strip() for line in said.partition("Next, as root:\n")[2].splitlines()]
    assert len(commands) == 4
    for command in commands:
        service.box.run("sh", "-c", command)
    for name in ("mydaemon", "other"):
        service.until("ActiveState", "active", f"{name}.service")
        assert (
            service.box.run("stat", "--format=%a %U:%G", f"/var/spool/{name}/pending").stdout == f"700 {name}:piper\n"
        )
    service.systemctl("disable", "--now", "mydaemon", "other")


def test_it_is_active_only_when_its_components_are_set_up(service: Service) -> None:
    # Its directories are made by systemd, so this one is there after a first run.
    service.systemctl("start", PLAIN)
    service.systemctl("stop", PLAIN)
    service.mark("hold").touch()
    service.systemctl("start", "--no-block", PLAIN)
    service.wait(service.box.path("/run/mydaemon/mydaemon.pid").exists, "the pid file")
    assert service.state("ActiveState") == "activating"
    service.mark("hold").unlink()
    service.until("ActiveState", "active")
    assert service.state("StatusText") == "idle"


def test_it_processes_what_a_member_of_its_group_puts_into_its_queue(service: Service) -> None:
    service.systemctl("start", PLAIN)
    service.as_user("alice", f"umask 077; echo hello | {CTL} queue put {QUEUE}")
    service.comes_out("hello\n: attempt 1")
    assert service.as_user("alice", f"cat {DONE}/incoming/* && rm {DONE}/incoming/*") == "hello\n: attempt 1"
    service.wait(lambda: "1 message," in service.box.run("mydaemon", "--action=status").stdout, "the status")


def test_its_queue_is_made_like_piperctl_makes_one(service: Service) -> None:
    def modes(queue: str) -> str:
        return service.box.run("sh", "-c", f"cd {queue} && stat --format='%n %a %U:%G' *").stdout

    made = "/var/spool/made"
    service.box.run(CTL, "queue", "create", made, "--user", "mydaemon", "--group", "piper")
    assert modes(QUEUE) == modes(made)
    assert "incoming 3770 mydaemon:piper\ninstances 700 mydaemon:piper\n" in modes(made)
    assert service.box.run("stat", "--format=%a %U", QUEUE).stdout == "755 root\n"
    service.box.run("rm", "-r", made)


def test_members_of_its_group_can_enqueue_and_nothing_else(service: Service) -> None:
    service.put("waits")
    tried = [
        f"ls {QUEUE}/errors",
        f"touch {QUEUE}/state/it",
        f"touch {QUEUE}/it",
        f"rm -f {QUEUE}/incoming/*",
        f"mv {QUEUE}/incoming/* {QUEUE}/tmp",
        f"mv {QUEUE}/pending {QUEUE}/tmp",
        f"{CTL} queue put {KEPT} --create </dev/null",
    ]
    assert [service.as_user("alice", script) for script in tried] == [None] * len(tried)
    assert len(service.names(QUEUE, "incoming")) == 1


def test_others_read_nothing_of_it(service: Service) -> None:
    service.systemctl("start", PLAIN)
    service.as_user("alice", f"printf one | {CTL} queue put {QUEUE}")
    service.comes_out("one: attempt 1")
    service.systemctl("kill", "--signal=USR1", PLAIN)
    service.systemctl("kill", "--signal=USR2", PLAIN)
    service.wait(lambda: "State saved" in service.journal(), "the state")
    places = f"{QUEUE} {DONE} {KEPT} /run/mydaemon"
    files = service.box.run("find", *places.split(), "-type", "f").stdout.splitlines()
    kinds = (f"{DONE}/incoming/", "/run/mydaemon/mydaemon.pid", "/run/mydaemon/mydaemon.state", f"{KEPT}/mydaemon.2")
    assert all(any(file.startswith(kind) for file in files) for kind in kinds)
    assert service.as_user("nobody", f"find {places} -type f 2>/dev/null; true") == ""
    # Nor would they if they got there.
    assert service.box.run("find", *places.split(), "-type", "f", "-perm", "/007").stdout == ""


def test_an_unchanged_message_is_moved_and_not_copied(service: Service) -> None:
    """The sandbox leaves both queues on one file system: the file is the same one."""
    service.put("pass")
    (name,) = service.names(QUEUE, "incoming")
    inode = service.box.path(f"{QUEUE}/incoming/{name}").stat().st_ino
    service.systemctl("start", PLAIN)
    service.comes_out("pass")
    (name,) = service.names(DONE, "incoming")
    assert service.box.path(f"{DONE}/incoming/{name}").stat().st_ino == inode


def test_it_is_reloading_until_its_components_are_told(service: Service) -> None:
    service.systemctl("start", PLAIN)
    pid = service.state("MainPID")
    service.mark("hold").touch()
    service.configure(retry_limit=3, process_timeout=60)
    service.systemctl("reload", "--no-block", PLAIN)
    service.wait(lambda: "changed: process_timeout, retry_limit" in service.journal(), "the new configuration")
    service.until("ActiveState", "reloading")
    assert service.state("ActiveState") == "reloading"
    service.mark("hold").unlink()
    service.until("ActiveState", "active")
    assert service.state("WatchdogUSec") == "1min"
    service.configure(retry_limit="many")
    service.systemctl("reload", PLAIN)
    service.wait(lambda: "is refused, and the old one stays" in service.journal(), "the refusal")
    service.until("ActiveState", "active")
    assert service.state("MainPID") == pid


def test_a_stop_finishes_what_is_in_work_and_leaves_nothing_pending(service: Service) -> None:
    """Longer than TimeoutStopSec: the daemon asks for the time that its stop_timeout gives."""
    service.drop_in(PLAIN, TimeoutStopSec="1s")
    service.configure(queue_in_batch=10)
    service.systemctl("start", PLAIN)
    service.put("work 3", *(f"waits {number}" for number in range(9)))
    service.wait(lambda: service.names(QUEUE, "pending"), "a claim")
    service.systemctl("stop", PLAIN)
    assert service.state("Result") == "success"
    assert service.state("ExecMainStatus") == "0"
    assert service.names(QUEUE, "pending") == []
    assert "work 3: attempt 1" in service.done()
    assert len(service.done()) + len(service.names(QUEUE, "incoming")) == 10


def test_a_stop_ends_in_time_where_a_component_does_not(service: Service) -> None:
    service.configure(stop_timeout=0.5, process_timeout=60)
    service.systemctl("start", PLAIN)
    service.put("wait")
    service.wait(service.mark("begun").exists, "the message in work")
    service.systemctl("stop", PLAIN)
    assert (service.state("Result"), service.state("ExecMainStatus")) == ("exit-code", "1")
    service.mark("go").touch()
    service.systemctl("start", PLAIN)
    service.comes_out("wait: attempt 2")


def test_a_component_that_hangs_is_restarted_and_its_message_counted_as_crashed(service: Service) -> None:
    service.configure(crash_limit=2)
    service.systemctl("start", PLAIN)
    service.put("hang 1", "hang 9", "after")
    service.comes_out("hang 1: attempt 2", "after: attempt 1")
    service.wait(lambda: len(service.names(QUEUE, "errors")) == 2, "the dead letter, and its reason")
    (reason,) = (name for name in service.names(QUEUE, "errors") if name.endswith(".meta"))
    service.until("NRestarts", "3")
    service.until("ActiveState", "active")
    found = json.loads(service.box.path(f"{QUEUE}/errors/{reason}").read_text())
    assert found["reason"].startswith("2 times the daemon died")
    journal = service.journal()
    assert 'component.py", line' in journal  # where it hung
    errors = service.box.run("journalctl", "--quiet", "--output=cat", "--unit=mydaemon", "--priority=3..3").stdout
    (banished,) = (line for line in errors.splitlines() if "banished: 2 times the daemon died" in line)
    assert not banished.startswith("<")
    assert f"queue={QUEUE}, attempt=" in banished
    summary.add(f"systemd: a component that hung twice cost its message, which is in errors: {found['reason']}")


def test_a_component_that_reports_progress_is_left_alone(service: Service) -> None:
    service.systemctl("start", PLAIN)
    service.put("work 5")
    service.comes_out("work 5: attempt 1")
    assert service.state("NRestarts") == "0"


def test_messages_one_after_the_other_may_each_take_their_time(service: Service) -> None:
    """Each has the whole of process_timeout."""
    service.systemctl("start", PLAIN)
    service.put(*["slow 1.4"] * 3)
    service.comes_out(*["slow 1.4: attempt 1"] * 3)
    assert service.state("NRestarts") == "0"


def test_it_is_restarted_after_a_kill_and_the_message_comes_again(service: Service) -> None:
    service.configure(process_timeout=60)
    service.systemctl("start", PLAIN)
    pid = service.state("MainPID")
    service.put("wait")
    service.wait(service.mark("begun").exists, "the message in work")
    service.systemctl("kill", "--signal=KILL", PLAIN)
    service.until("NRestarts", "1")
    service.mark("go").touch()
    service.comes_out("wait: attempt 2")
    assert service.state("MainPID") != pid
    assert service.state("ActiveState") == "active"
    assert service.names(QUEUE, "pending") == []


def test_a_wrong_configuration_is_not_tried_again(service: Service) -> None:
    service.configure(queue_in_wiat=3)
    service.systemctl("start", PLAIN, check=False)
    assert service.state("ActiveState") == "failed"
    assert (service.state("ExecMainStatus"), service.state("NRestarts")) == ("78", "0")
    assert "did you mean queue_in_wait?" in service.journal()


def test_three_instances_share_the_work(service: Service) -> None:
    service.configure(queue_in_batch=4, process_timeout=60)
    service.systemctl("enable", "mydaemon@3")
    service.systemctl("start", "mydaemon.target")
    units = [f"mydaemon@{number}.service" for number in (1, 2, 3)]
    for unit in units:
        service.until("ActiveState", "active", unit)
    pids = {service.state("MainPID", unit) for unit in units}
    texts = [str(number) for number in range(60)]
    service.put(*(f"share {text}" for text in texts))
    service.wait(lambda: len(service.done()) == 60, "60 messages")
    found = [text.split() for text in service.done()]
    assert Counter(text for text, _ in found) == Counter(texts)
    # The daemon sees the process ids of the machine, and so do we.
    assert {pid for _, pid in found} == pids
    shown = service.box.run("mydaemon", "--action=status", "--paralel").stdout
    assert shown.count("running, pid") == 3
    # One that stops leaves the others what they share.
    service.systemctl("stop", units[0])
    assert service.box.run("mydaemon", "--action=status", "--paralel").stdout.count("running, pid") == 2
    service.systemctl("stop", "mydaemon.target")
    for unit in units:
        service.until("ActiveState", "inactive", unit)
    assert service.names(QUEUE, "pending") == []
    service.systemctl("disable", "mydaemon@3")
    counts = Counter(pid for _, pid in found)
    summary.add(f"systemd: three instances shared 60 messages: {', '.join(map(str, sorted(counts.values())))}")


def test_metrics_are_served_on_the_loopback_once_the_unit_allows_it(service: Service) -> None:
    service.configure(metrics_address="9464", metrics_file="/var/lib/mydaemon/it.prom")
    service.box.run(
        "install", "-D", "--mode=644", "--target-directory=/run/systemd/system/mydaemon.service.d",
        "/usr/local/share/mydaemon/monitoring/mydaemon.loopback.conf",
    )  # fmt: skip
    service.systemctl("daemon-reload")
    service.systemctl("start", PLAIN)
    service.put("one")
    service.comes_out("one: attempt 1")
    code = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9464/metrics').read().decode())"
    wanted = 'piper_messages_total{daemon="mydaemon",outcome="committed"} 1.0'
    service.wait(lambda: wanted in service.box.run("python3", "-c", code).stdout, "the count")
    assert "piper_queue_messages" in service.mark("it.prom").read_text()


def test_metrics_that_the_unit_does_not_allow_end_the_start_and_say_why(service: Service) -> None:
    service.configure(metrics_address="9464")
    service.systemctl("start", PLAIN, check=False)
    service.wait(lambda: service.state("ExecMainStatus") == "69", "the end")
    assert "metrics_address: cannot listen on 127.0.0.1:9464: Address family not supported" in service.journal()


@pytest.mark.parametrize(
    "spoil",
    [
        f"rm -rf {QUEUE}",
        f"rm -rf {QUEUE} && mkdir {QUEUE}",
        f"rmdir {QUEUE}/errors {QUEUE}/pending {QUEUE}/instances",
        f"chown -R root:root {QUEUE}",
        f"rm -rf {DONE}",
        f"rm -rf {DONE} {QUEUE}",
    ],
)
def test_doctor_as_root_leaves_queues_that_the_daemon_can_use(service: Service, spoil: str) -> None:
    service.box.run("sh", "-c", spoil)
    for fix in ("", "--fix"):
        service.box.run("sh", "-c", f"{CTL} doctor {fix} --config /etc/mydaemon.conf", check=False)
    service.systemctl("start", PLAIN)
    service.put("hello")
    service.comes_out("hello: attempt 1")


def test_doctor_finds_a_unit_that_systemd_has_not_read_and_names_what_mends_it(service: Service) -> None:
    def found() -> list[dict[str, Any]]:
        shown = service.box.run("sh", "-c", f"{CTL} doctor --json --config /etc/mydaemon.conf", check=False).stdout
        return [each for each in json.loads(shown)["findings"] if each["check"] == "unit"]

    service.systemctl("start", PLAIN)
    assert found() == []
    with open(service.box.path(f"/usr/local/lib/systemd/system/{PLAIN}"), "a") as file:
        file.write("# changed\n")
    (finding,) = found()
    assert finding["where"] == PLAIN
    service.box.run("sh", "-c", finding["mend"])
    assert found() == []


DENIED = "Read-only file system"
NOT_PERMITTED = "Operation not permitted"
RIGHTS: dict[str, Any] = {
    "open('/etc/it', 'w')": DENIED,
    "open('/usr/local/lib/mydaemon/it', 'w')": DENIED,
    "open('/var/lib/it', 'w')": DENIED,
    "open('/var/it', 'w')": DENIED,
    "open('/run/it', 'w')": "Permission denied",
    "open('/var/spool/it', 'w')": "Permission denied",
    "open('/var/spool/mydaemon/it', 'w')": "Permission denied",
    "open('/var/spool/done/pending/it', 'w')": "Permission denied",
    "open('/var/lib/mydaemon/it', 'w').close()": None,
    "open('/var/spool/mydaemon/tmp/.it', 'w').close()": None,
    "open('/tmp/it', 'w').close()": None,  # its own /tmp
    "os.listdir('/root')": "Permission denied",
    "os.listdir('/home')": "Permission denied",
    "open('/dev/kmsg')": "No such file or directory",
    "socket.socket(socket.AF_INET)": "Address family not supported by protocol",
    "socket.socket(socket.AF_NETLINK)": "Address family not supported by protocol",
    "socket.if_nameindex()": "Address family not supported by protocol",
    "os.setuid(0)": NOT_PERMITTED,
    "os.chown('/var/lib/mydaemon', 0, 0)": NOT_PERMITTED,
    "os.chmod('/var/lib/mydaemon', 0o4755)": NOT_PERMITTED,
    "ctypes.CDLL(None).unshare(0x10000000)": -1,
    "ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, 0)": -1,
    "[name for name in os.listdir('/proc') if name.isdigit()] == [str(os.getpid())]": True,
    "os.getgroups() == [os.getgid()]": True,
}


def test_it_has_no_more_rights_than_its_unit_says(service: Service) -> None:
    service.systemctl("start", PLAIN)
    service.put(*(f"try {code}" for code in RIGHTS))
    service.comes_out(*(f"{code} -> {outcome}" for code, outcome in RIGHTS.items()))
    assert not service.box.path("/tmp/it").exists()
    summary.add(f"systemd: {len(RIGHTS)} things tried from inside of a unit; those outside of its rights were denied")
