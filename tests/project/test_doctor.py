"""`piperctl doctor`: each check finds its trouble, and the command that it prints mends it."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import programs
import repository
from needs import need
from piperkit.dirq import DirectoryQueue, layout
from piperkit.doctor import project_checks, queue_checks
from piperkit.doctor.subjects import Queue
from piperkit.message import Failure
from piperkit.operating import HOLDING

DAEMON = """
from piperkit import Component, PiperDaemon


class Pass(Component):
    def process(self, message):
        return message.commit()


def main():
    PiperDaemon(name="birds", description="Counts birds", anchor=__file__, components=[Pass()]).run()
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The commands of this virtual environment are found."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


Doctor = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def doctor(environment: dict[str, str], tmp_path: Path) -> Doctor:
    """Run it, and return what it has found, without what it has found about this machine's clock."""

    def run(*arguments: str | Path) -> list[dict[str, Any]]:
        done = programs.run("piperkit.cli", "doctor", "--json", *arguments, cwd=tmp_path, env=environment)
        assert done.stdout, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
        assert done.returncode == (1 if any(not each["warning"] for each in found) else 0)
        return [each for each in found if each["where"] != "the clock"]

    return run


@pytest.fixture
def mended(doctor: Doctor, environment: dict[str, str], tmp_path: Path) -> Callable[..., None]:
    """Run the commands that were printed; then there is nothing to find any more."""

    def run(*arguments: str | Path, **more: str) -> None:
        for command in dict.fromkeys(each["mend"] for each in doctor(*arguments)):
            subprocess.run(command, shell=True, env={**environment, **more}, cwd=tmp_path, check=True,
                           stdout=subprocess.DEVNULL)  # fmt: skip
        assert doctor(*arguments) == []

    return run


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    DirectoryQueue(tmp_path / "queue").close()
    return tmp_path / "queue"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a daemon, as far as it is looked at."""
    return make_project(tmp_path / "project")


def make_project(project: Path) -> Path:
    (project / "src" / "birds").mkdir(parents=True)
    (project / "etc").mkdir()
    (project / "src" / "birds" / "daemon.py").write_text(DAEMON)
    (project / "pyproject.toml").write_text('[project]\nname = "birds"\nscripts = { birds = "birds.daemon:main" }\n')
    (project / ".copier-answers.yml").write_text("_commit: v0.1.0\n_src_path: gh:org/piper-template\n")
    DirectoryQueue(project / "var" / "spool" / "birds").close()
    configure(project)
    return project


def configure(project: Path, **config: object) -> Path:
    file = project / "etc" / "birds.conf"
    file.write_text(json.dumps({"orphan_age": 0, **config}))
    return project / "var" / "spool" / "birds"


def kill_in(code: str, queue: Path, **more: object) -> None:
    """Run code on the open queue in a process that dies of it."""
    whole = (
        "import os, signal, sys; from piperkit.dirq import DirectoryQueue;"
        f"queue = DirectoryQueue({str(queue)!r}, **{more!r});{code};os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", whole], check=False).returncode == -9


# -- queues ----------------------------------------------------------------------------------------------------------


def test_a_queue_in_order(queue: Path, doctor: Doctor) -> None:
    assert doctor(queue) == []


@pytest.mark.slow
def test_a_queue_that_is_not_there(tmp_path: Path, doctor: Doctor, mended: Callable[..., None]) -> None:
    (found,) = doctor(tmp_path / "none")
    assert (found["check"], found["what"]) == ("queue", "there is no such directory")
    assert found["fixable"] == (os.geteuid() != 0)  # root would have to know whose it is to be
    mended(tmp_path / "none", ACCOUNT="root")
    assert (tmp_path / "none" / "incoming").is_dir()


@pytest.mark.slow
def test_a_part_that_is_not_there(queue: Path, doctor: Doctor, mended: Callable[..., None]) -> None:
    (queue / "errors").rmdir()
    assert doctor(queue)[0]["what"] == "it has no directory errors"
    mended(queue)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "mode", "wanted"),
    [
        ("", 0o2770, 0o755),  # whoever may write there could put something else in the place of a part
        ("incoming", 0o777, 0o3777),  # without the sticky bit, whoever may enqueue may remove others' messages
        ("pending", 0o775, 0o700),
        ("state", 0o500, 0o700),
    ],
)
def test_a_part_with_another_mode(
    queue: Path, doctor: Doctor, mended: Callable[..., None], part: str, mode: int, wanted: int
) -> None:
    (queue / part).chmod(mode)
    (found,) = doctor(queue)
    assert (found["check"], found["where"]) == ("owner and mode", str(queue / part))
    assert found["what"] == f"it has the mode {mode:o}, and must have {wanted:o}"
    mended(queue)
    assert (queue / part).stat().st_mode & 0o7777 == wanted


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o2755])
@pytest.mark.slow
def test_a_stricter_mode_of_the_queue_itself_is_right(queue: Path, doctor: Doctor, mode: int) -> None:
    queue.chmod(mode)
    assert doctor(queue) == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", [0o2770, 0o775])
def test_a_queue_of_an_earlier_version_is_brought_over(
    queue: Path, doctor: Doctor, mended: Callable[..., None], mode: int
) -> None:
    (queue / "instances").rmdir()
    (queue / "incoming" / "message").write_text("hello")
    for path in (queue, *queue.iterdir()):
        path.chmod(mode)
    assert {each["check"] for each in doctor(queue)} == {"owner and mode"}
    mended(queue)
    modes = {path.name: f"{path.stat().st_mode & 0o7777:o}" for path in (queue, *queue.iterdir())}
    shared = "3770" if mode == 0o2770 else "3775"
    ours = dict.fromkeys(("pending", "deferred", "outgoing", "hold", "errors", "state", "history"), "700")
    assert modes == {"queue": "755", "tmp": shared, "incoming": shared, **ours}


@pytest.mark.slow
@pytest.mark.parametrize("part", layout.PARTS)
def test_a_part_that_root_makes_belongs_to_whoever_works_on_the_queue(queue: Path, doctor: Doctor, part: str) -> None:
    need("root", os.geteuid() == 0, "root, to give files away")
    for path in queue.iterdir():
        os.chown(path, 54321, 54321)
    (queue / part).rmdir()
    assert doctor("--fix", queue) == []
    if part in layout.PROTOCOL:  # a daemon makes the others
        assert ((queue / part).stat().st_uid, (queue / part).stat().st_gid) == (54321, 54321)


@pytest.mark.slow
def test_a_part_of_root_is_given_to_whoever_works_on_the_queue(
    queue: Path, doctor: Doctor, mended: Callable[..., None]
) -> None:
    need("root", os.geteuid() == 0, "root, to give files away")
    for path in (queue, *queue.iterdir()):
        os.chown(path, 54321, 54321)
    os.chown(queue / "pending", 0, 0)
    (found,) = doctor(queue)
    assert found["where"] == str(queue / "pending")
    assert found["what"] == "it belongs to uid 0, and not to uid 54321, who works on the queue"
    mended(queue)
    assert ((queue / "pending").stat().st_uid, (queue / "pending").stat().st_gid) == (54321, 54321)


@pytest.mark.slow
def test_a_part_of_somebody_else_is_left_to_its_administrator(
    queue: Path, doctor: Doctor, mended: Callable[..., None]
) -> None:
    need("root", os.geteuid() == 0, "root, to give files away")
    for path in (queue, *queue.iterdir()):
        os.chown(path, 54321, 54321)
    os.chown(queue / "pending", 54322, 54322)
    (found,) = doctor("--fix", queue)
    assert (found["where"], found["fixable"]) == (str(queue / "pending"), False)
    assert found["what"] == "it belongs to uid 54322, and not to uid 54321, who works on the queue"
    mended(queue)


@pytest.mark.slow
def test_a_part_that_is_a_link(queue: Path, elsewhere: Path, doctor: Doctor, mended: Callable[..., None]) -> None:
    (queue / "incoming").rmdir()
    (elsewhere / "message").write_text("hello")
    (queue / "incoming").symlink_to(elsewhere)
    before = elsewhere.stat()
    (found,) = doctor("--fix", queue)
    assert (found["check"], found["where"], found["fixable"]) == ("queue", str(queue / "incoming"), False)
    assert found["what"] == f"it is a link, to {elsewhere}; a part of a queue must be a directory"
    assert str(elsewhere) not in found["mend"]
    mended(queue)
    assert (elsewhere / "message").read_text() == "hello"
    assert (elsewhere.stat().st_mode, elsewhere.stat().st_ctime) == (before.st_mode, before.st_ctime)


@pytest.mark.slow
def test_a_part_that_something_is_mounted_on(queue: Path, doctor: Doctor, mended: Callable[..., None]) -> None:
    need("root", os.geteuid() == 0, "root, to mount a file system")
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=3770", "tmpfs", queue / "incoming"]
    need("mount", subprocess.run(mount, check=False, capture_output=True).returncode == 0, "permission to mount")
    try:
        (found,) = doctor(queue)
        assert (found["check"], found["mend"]) == ("one file system", f"umount {shlex.quote(f'{queue}/incoming')}")
        mended(queue)
        assert not os.path.ismount(queue / "incoming")
    finally:
        subprocess.run(["umount", "--quiet", "--lazy", queue / "incoming"], check=False, capture_output=True)


@pytest.mark.slow
def test_an_output_queue_on_another_file_system(
    project: Path, elsewhere: Path, doctor: Doctor, mended: Callable[..., None]
) -> None:
    with DirectoryQueue(elsewhere / "next") as following:
        following.enqueue("hello", "message")
    queue = configure(project, queue_out_dir=str(elsewhere / "next"))
    (found,) = doctor(project)
    assert "is on another file system than" in found["what"]
    mended(project)
    assert (elsewhere / "next" / "incoming" / "message").read_text() == "hello"
    assert (elsewhere / "next").stat().st_dev == queue.stat().st_dev


@pytest.mark.slow
def test_orphans(project: Path, doctor: Doctor, mended: Callable[..., None]) -> None:
    queue = configure(project)
    kill_in("queue.enqueue('hello', 'message'); queue.claim()", queue)
    (found,) = doctor(project)
    assert (found["check"], found["fixable"]) == ("orphans", True)
    assert found["what"] == "1 of its messages is claimed by a process that is dead"
    mended(project)
    assert (queue / "incoming" / "message").read_text() == "hello"


@pytest.mark.slow
def test_a_claim_of_a_process_that_lives_is_none(project: Path, doctor: Doctor) -> None:
    with DirectoryQueue(configure(project)) as queue:
        queue.enqueue("hello")
        queue.claim()
        assert doctor(project) == []


def test_a_message_on_its_way_out_is_left_to_whoever_knows_where_to(queue: Path) -> None:
    """Recovery that knows no output queue would take it for committed, and drop it."""
    (queue / "outgoing" / "message").write_text("hello")
    (found,) = queue_checks.orphans(Queue(str(queue), "again", orphan_age=0))
    assert found.fix is None
    assert found.mend == "start the daemon"
    (found,) = queue_checks.orphans(Queue(str(queue), "again", orphan_age=0, knows_next=True))
    assert found.fix is not None


@pytest.mark.slow
def test_litter(project: Path, doctor: Doctor, mended: Callable[..., None]) -> None:
    queue = configure(project)
    (queue / "tmp" / "1700000000.000000001.1.host").write_text("half a mess")
    (queue / "tmp" / "1700000000.000000001.1.host").chmod(0o1600)
    (queue / "state" / "gone").write_text("{}")
    (found,) = doctor(project)
    assert found["check"] == "litter"
    assert found["what"].startswith("2 files are left behind, such as ")
    mended(project)
    assert os.listdir(queue / "tmp") == os.listdir(queue / "state") == []


@pytest.mark.slow
def test_what_is_no_message(queue: Path, doctor: Doctor, mended: Callable[..., None]) -> None:
    (queue / "incoming" / "directory").mkdir()
    (queue / "incoming" / "link").symlink_to("/etc/passwd")
    assert sorted(each["what"].partition(",")[0] for each in doctor(queue)) == ["it is a directory", "it is a link"]
    mended(queue)
    assert queue.with_name("queue.link").is_symlink()


@pytest.mark.slow
def test_a_full_disk(small_disk: Path, doctor: Doctor, mended: Callable[..., None]) -> None:
    with DirectoryQueue(small_disk / "queue", min_free=0) as queue:
        queue.enqueue(b"x" * 400_000)
        (claim,) = queue.claim()
        queue.banish(claim.id, Failure("no good"))
    month = time.time() - 40 * 86400
    os.utime(small_disk / "queue" / "errors" / claim.id, (month, month))
    (small_disk / "ballast").write_bytes(b"x" * 100_000)
    (found,) = doctor(small_disk / "queue")
    assert found["check"] == "free space"
    assert "no message can be written" in found["what"]
    mended(small_disk / "queue")


@pytest.mark.slow
def test_a_disk_that_is_full_of_something_else(small_disk: Path, doctor: Doctor) -> None:
    """Only its owner knows what can go: the command shows where the room is."""
    DirectoryQueue(small_disk / "queue").close()
    ballast = small_disk / "queue" / "tmp" / ".ballast"
    ballast.write_bytes(b"x" * 500_000)
    (found,) = doctor(small_disk / "queue")
    assert found["check"] == "free space"
    shown = subprocess.run(found["mend"], shell=True, check=True, capture_output=True, text=True).stdout
    assert str(ballast) in [line.split("\t")[1] for line in shown.splitlines()[-3:]]
    ballast.unlink()
    assert doctor(small_disk / "queue") == []


@pytest.mark.slow
def test_an_instance_of_an_earlier_version(queue: Path, doctor: Doctor) -> None:
    with open(queue / "state" / f".1700000000.000000001.{os.getpid()}.host", "w", encoding="ascii") as record:
        fcntl.flock(record, fcntl.LOCK_EX)
        (found,) = doctor(queue)
    assert found["what"].startswith(f"an instance of piperkit 0.4 or older, with pid {os.getpid()}, works on {queue}")
    assert found["mend"] == f"kill {os.getpid()}"


@pytest.mark.slow
def test_files_that_were_moved_aside(queue: Path, doctor: Doctor, mended: Callable[..., None]) -> None:
    (queue / "state" / ".unreadable.message").mkdir()
    (queue / "errors" / ".unreadable.x.meta").write_text("[" * 100_000)
    found = doctor(queue)
    assert {(each["check"], each["where"]) for each in found} == {
        ("unreadable", str(queue / "state")),
        ("unreadable", str(queue / "errors")),
    }
    assert {each["what"] for each in found} == {
        "1 unreadable file was moved aside: .unreadable.message",
        "1 unreadable file was moved aside: .unreadable.x.meta",
    }
    mended(queue)


@pytest.mark.slow
def test_looking_changes_nothing(queue: Path, doctor: Doctor) -> None:
    """Not even what a daemon would put right at once: parts that are missing, records that nobody can read."""
    for part in ("instances", "outgoing"):
        (queue / part).rmdir()
    (queue / "deferred" / "message").write_text("hello")
    (queue / "state" / "message").write_text("[" * 100_000)
    (queue / "pending" / "other").write_text("hello")
    (queue / "state" / "other").mkdir()
    (queue / "errors" / ".x.meta").write_text("{}")
    queue.chmod(0o2770)

    def state() -> list[tuple[str, int, int, int]]:
        found = [(path, path.lstat()) for path in (queue, *queue.rglob("*"))]
        probed = ("tmp", *HOLDING)  # a file is made in tmp, renamed, and removed
        return sorted(
            (str(path), stat.st_mode, stat.st_size, 0 if path.name in probed else stat.st_ctime_ns)
            for path, stat in found
        )

    before = state()
    assert "owner and mode" in {each["check"] for each in doctor(queue)}
    assert state() == before


# -- the machine -----------------------------------------------------------------------------------------------------


@pytest.fixture
def sysctl() -> Iterator[None]:
    """The limit of inotify instances may be raised; it is put back."""
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    able = os.geteuid() == 0 and os.access(limit, os.W_OK) and shutil.which("sysctl") is not None
    need("sysctl", able, "root, a /proc/sys that can be written, and sysctl from the package procps")
    before = limit.read_text()
    yield
    limit.write_text(before)


@pytest.mark.slow
def test_an_account_without_inotify_instances(
    queue: Path, sysctl: None, doctor: Doctor, mended: Callable[..., None]
) -> None:
    for path in (queue, *queue.iterdir()):
        os.chown(path, 54321, 54321)
    code = (
        "import ctypes, os, sys; os.setgid(54321); os.setuid(54321); libc = ctypes.CDLL(None)\n"
        "while libc.inotify_init() >= 0: pass\n"
        "print('all', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout.readline() == "all\n"
            (found,) = doctor(queue)
            assert (found["check"], found["where"]) == ("inotify", "uid 54321")
            mended(queue)
        finally:
            process.kill()


def test_hard_links_to_files_of_others_are_a_finding_where_the_kernel_allows_them() -> None:
    """The setting is the whole machine's, so no test turns it off."""
    assert list(project_checks.hard_links(protected=True)) == []
    (found,) = project_checks.hard_links(protected=False)
    assert found.mend == "sysctl -w fs.protected_hardlinks=1"


def test_a_clock_that_nobody_keeps_is_a_warning() -> None:
    assert list(project_checks.clock_is_synchronised(0)) == []
    (found,) = project_checks.clock_is_synchronised(5)
    assert found.warning
    assert found.mend == "timedatectl set-ntp true"
    assert project_checks.kernel_clock() in range(6)


# -- daemons ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_project_in_order(project: Path, doctor: Doctor) -> None:
    assert doctor(project) == []


@pytest.mark.slow
def test_a_wrong_configuration(
    project: Path, doctor: Doctor, mended: Callable[..., None], environment: dict[str, str], tmp_path: Path
) -> None:
    configure(project, retry_limits=7)
    (found,) = doctor(project)
    assert (found["check"], found["where"]) == ("configuration", "birds")
    assert "unknown key retry_limits; did you mean retry_limit?" in found["what"]
    (tmp_path / "editor").write_text('#!/bin/sh\nsed -i s/retry_limits/retry_limit/ "$1"\n')
    (tmp_path / "editor").chmod(0o755)
    mended(project, PATH=f"{tmp_path}:{environment['PATH']}", EDITOR="editor")


@pytest.mark.slow
def test_a_program_that_is_none(project: Path, doctor: Doctor) -> None:
    file = project / "src" / "birds" / "daemon.py"
    file.write_text("import PiperDaemon as\n")
    (found,) = doctor(project)
    assert found["what"] == f"{file}, line 1: invalid syntax"
    assert found["mend"] == f"${{EDITOR:-vi}} {shlex.quote(str(file))}"


@pytest.mark.slow
def test_nothing_of_a_project_is_executed(project: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Not its program, nor a Python that comes with it, nor what its git is told to run."""
    ran = tmp_path / "ran"
    queue = configure(project)
    touch = f"open({str(ran)!r}, 'w')\n"
    for path in ("src/birds/__init__.py", "src/birds/component.py", "sitecustomize.py", "src/sitecustomize.py"):
        (project / path).write_text(touch)
    with open(project / "src" / "birds" / "daemon.py", "a", encoding="utf-8") as daemon:
        daemon.write(touch)
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    (project / ".venv" / "bin").mkdir(parents=True)
    for path in (program, project / ".venv" / "bin" / "python", project / ".venv" / "bin" / "birds"):
        shutil.copy(program, path) if path != program else None
        path.chmod(0o755)
    repository.git(project, "init", "--quiet")
    (project / ".gitattributes").write_text("* filter=ours diff=ours\n")
    (project / ".gitignore").write_text(".venv\n")
    repository.commit_all(project, "All")
    for setting in ("core.fsmonitor", "filter.ours.clean", "filter.ours.smudge", "diff.ours.textconv"):
        repository.git(project, "config", setting, str(program))
    kill_in("queue.enqueue('hello', 'message'); queue.claim()", queue)
    (project / "src" / "birds" / "component.py").touch()
    for fix in ((), ("--fix",)):
        command = ["piperctl", "doctor", *fix]
        done = subprocess.run(command, env=environment, cwd=project, capture_output=True, text=True, check=False)
        assert "1 of its messages is claimed by a process that is dead" in done.stdout, done.stderr
    assert not ran.exists()


@pytest.mark.slow
def test_options_of_components_are_theirs(project: Path, doctor: Doctor) -> None:
    """Be they the runtime's, the project's, or unknown here."""
    configure(project, batch_size=7, follow="/var/log/app", elsewhere=True, retry_limits=3)
    with open(project / "src" / "birds" / "daemon.py", "a", encoding="utf-8") as daemon:
        daemon.write("OWN = 'retry_limits'\n")
    assert doctor(project) == []


@pytest.mark.slow
def test_a_daemon_that_cannot_be_started(tmp_path: Path, doctor: Doctor, environment: dict[str, str]) -> None:
    command = tmp_path / "bin" / "birds"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nimport nothing_of_that_name\n")
    command.chmod(0o755)
    environment["PATH"] = f"{command.parent}:{environment['PATH']}"
    (found,) = doctor("--config", tmp_path / "birds.conf")
    assert "it cannot be started: ModuleNotFoundError: No module named 'nothing_of_that_name'" in found["what"]
    assert found["mend"] == "birds --action describe"


@pytest.mark.slow
def test_an_installed_daemon_by_its_configuration(
    project: Path, tmp_path: Path, doctor: Doctor, environment: dict[str, str]
) -> None:
    command = tmp_path / "bin" / "birds"
    command.parent.mkdir()
    path = f"sys.path.insert(0, {str(project / 'src')!r})"
    command.write_text(f"#!{sys.executable}\nimport sys\n{path}\nfrom birds.daemon import main\nmain()\n")
    command.chmod(0o755)
    environment["PATH"] = f"{command.parent}:{environment['PATH']}"
    config = tmp_path / "birds.conf"
    config.write_text(json.dumps({"queue_in_dir": str(tmp_path / "elsewhere")}))
    (found,) = doctor("--config", config)
    assert found["where"] == str(tmp_path / "elsewhere")
    DirectoryQueue(tmp_path / "elsewhere").close()
    assert doctor("--config", config) == []


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_fix_mends_what_is_safe_as_whoever_works_on_it(
    environment: dict[str, str],
) -> None:
    # Not in pytest's own directory: each run of pytest, as of a project's tests, closes that to other accounts.
    home = Path(tempfile.mkdtemp(prefix="piperkit-doctor-"))
    try:
        _fix_mends(make_project(home / "project"), environment, home)
    finally:
        shutil.rmtree(home)


def _fix_mends(project: Path, environment: dict[str, str], home: Path) -> None:
    queue = configure(project)
    kill_in("queue.enqueue('hello', 'message'); queue.claim()", queue)
    if os.geteuid() == 0:
        for path in (queue, *queue.rglob("*")):
            os.chown(path, 54321, 54321)
        for path in (home, *home.parents):
            if path.stat().st_mode & 0o001 == 0:
                path.chmod(path.stat().st_mode | 0o001)
    (queue / "incoming").chmod(0o777)  # not for --fix: somebody may have wanted it so
    (queue / "errors").rmdir()
    queue.chmod(0o2770)
    command = ["piperctl", "doctor", "--fix", project]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"mended: {queue}: 1 of its messages is claimed by a process that is dead\n" in done.stdout
    assert f"wrong: {queue}/incoming: everybody may write there" in done.stdout
    assert f"    chmod 3770 {shlex.quote(f'{queue}/incoming')}\n" in done.stdout
    assert f"mended: {queue}: it has the mode 2770, and must have 755\n" in done.stdout
    assert done.stdout.endswith("1 thing to mend.\n")
    assert (queue / "incoming" / "message").exists()
    assert {path.stat().st_uid for path in queue.rglob("*")} == {queue.stat().st_uid}


@pytest.mark.slow
def test_nothing_to_examine_is_an_error(tmp_path: Path, environment: dict[str, str]) -> None:
    for arguments, said in (
        ([], "this is not a project: name a project, queues, or --config FILE"),
        (["--config", "/nowhere/birdsong.conf"], "there is no command birdsong to go with it"),
    ):
        command = ["piperctl", "doctor", *arguments]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 66
        assert said in done.stderr


def test_neither_the_daemon_nor_copier_is_imported_for_queues(environment: dict[str, str]) -> None:
    code = "import sys, piperkit.cli; print([name for name in ('copier', 'yaml', 'pyzenkit') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_paused_queue_is_a_warning(tmp_path: Path) -> None:
    with DirectoryQueue(tmp_path / "queue") as queue:
        (tmp_path / "queue" / "paused").touch()
        found = list(queue_checks.pause(Queue(queue.path, "")))
    assert [(finding.warning, "has paused the queue" in finding.what) for finding in found] == [(True, True)]
