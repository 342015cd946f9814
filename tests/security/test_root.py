"""Root who looks at what belongs to others runs nothing of it, reads nothing beside it, and gives nothing away."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from needs import need
from people import DAEMON, PRODUCER
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.acts import Operator
from piperkit.dirq.layout import PARTS, SHARED
from piperkit.doctor.examine import Subjects, examine, mend
from piperkit.doctor.subjects import bare_queue
from piperkit.errors import QueueMissing
from piperkit.operating import Entry

pytestmark = pytest.mark.slow

WITH_PIPERCTL = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
PIPERCTL = [sys.executable, "-P", "-m", "piperkit.cli"]
DOCTOR = [*PIPERCTL, "doctor", "--json"]

DAEMON_PY = """
import pathlib
from piperkit import Component, PiperDaemon

pathlib.Path(__file__).with_name("ran").touch()


def main():
    PiperDaemon(name="birds", description="Counts birds", anchor=__file__, components=[Component()]).run()
"""


def findings(*arguments: object, **more: Any) -> list[dict[str, Any]]:
    command = [*DOCTOR, *map(str, arguments)]
    done = subprocess.run(command, text=True, capture_output=True, check=False, **more)
    assert done.stdout, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return [each for each in found if each["where"] != "the clock"]


# -- the current directory, and projects -----------------------------------------------------------------------------


@pytest.fixture
def trap(machine: Path) -> Path:
    """A current directory that a producer has prepared."""
    trap = machine / "trap"
    (trap / "modules").mkdir(parents=True)
    code = f"import pathlib; pathlib.Path({str(machine / 'ran')!r}).touch()"
    for path in ("sitecustomize.py", "modules/sitecustomize.py", "json.py", "birds.py", "tomllib.py", "pyzenkit.py"):
        (trap / path).write_text(code)
    for name in (".env", ".env.local"):
        (trap / name).write_text(f"PYTHONPATH={trap / 'modules'}\nPATH={trap}\nEVIL=1\n")
    for path in (trap, *trap.rglob("*")):
        os.chown(path, PRODUCER.uid, PRODUCER.gid)
    return trap


@pytest.fixture
def project(machine: Path) -> Path:
    """A project with a daemon, as far as doctor looks at it, with a git that runs something."""
    project = machine / "project"
    (project / "src" / "birds").mkdir(parents=True)
    (project / "etc").mkdir()
    (project / "src" / "birds" / "daemon.py").write_text(DAEMON_PY)
    (project / "pyproject.toml").write_text('[project]\nname = "birds"\nscripts = { birds = "birds.daemon:main" }\n')
    (project / ".copier-answers.yml").write_text("_commit: v0.1.0\n_src_path: gh:org/piper-template\n")
    DirectoryQueue(project / "var" / "spool" / "birds").close()
    subprocess.run(["git", "init", "--quiet", project], check=True)
    subprocess.run(["git", "-C", project, "config", "core.fsmonitor", f"touch {project}/git-ran; false"], check=True)
    return project


def ran(project: Path) -> set[str]:
    return {path.name for path in project.rglob("*ran")}


@pytest.mark.parametrize("command", ["doctor PROJECT", "doctor QUEUE", "queue ls QUEUE"])
def test_nothing_of_the_current_directory_is_read(trap: Path, project: Path, command: str) -> None:
    need("strace", shutil.which("strace") is not None, "strace(1)")
    words = {"PROJECT": str(project), "QUEUE": str(project / "var" / "spool" / "birds")}
    trace = ["strace", "-f", "-qq", "--trace=%file", "-o", project.parent / "trace", *PIPERCTL]
    done = subprocess.run([*trace, *(words.get(word, word) for word in command.split())], cwd=trap, check=False)
    assert done.returncode in (0, 1)
    calls = (project.parent / "trace").read_text().splitlines()
    assert len(calls) > 100
    names = "|".join(re.escape(path.name) for path in trap.iterdir())
    assert [call for call in calls if re.search(rf'"({re.escape(str(trap))}/|(\./)?({names})\b)', call)] == []


def test_a_daemon_reads_nothing_of_the_current_directory(trap: Path, project: Path) -> None:
    code = "import os; from birds.daemon import main; print(os.environ.get('EVIL'), flush=True); main()"
    more = {"env": {**os.environ, "PYTHONPATH": str(project / "src")}, "cwd": trap}
    command = [sys.executable, "-P", "-c", code, "--action", "describe"]
    done = subprocess.run(command, text=True, capture_output=True, check=True, **more)  # type: ignore[call-overload]
    assert done.stdout.startswith("None\n{")


@pytest.mark.parametrize("what", ["", ".git", "src/birds/daemon.py", ".venv", "pyproject.toml"])
def test_nothing_of_somebody_elses_project_is_run(project: Path, what: str) -> None:
    (project / ".venv").mkdir()
    os.chown(project / what, PRODUCER.uid, PRODUCER.gid)
    # git trusts whoever has called sudo(8), too.
    (found,) = findings(project, env={**os.environ, "SUDO_UID": str(PRODUCER.uid)})
    assert (found["check"], found["where"]) == ("owner", str(project))
    assert found["what"].startswith(f"it belongs to #{PRODUCER.uid}, or a part of it does")
    assert found["mend"] == f"sudo -u '#{PRODUCER.uid}' piperctl doctor {project}"
    assert ran(project) == set()


def test_nothing_of_roots_own_project_is_run_either(project: Path) -> None:
    """Nor what its git is told to run, which it does where others ask it."""
    assert findings(project) == []
    assert ran(project) == set()
    subprocess.run(["git", "-C", project, "status", "--porcelain"], check=True, stdout=subprocess.DEVNULL)
    assert ran(project) == {"git-ran"}


# -- acting on messages ----------------------------------------------------------------------------------------------


def test_root_acts_as_the_account_of_the_queue(used: Path) -> None:
    done = subprocess.run([*PIPERCTL, "queue", "requeue", used, "--all"], text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, "2 messages requeued\n"), done.stderr
    account = {path.stat().st_uid for part in ("state", "instances", "errors") for path in (used / part).iterdir()}
    assert account == {DAEMON.uid}
    claimed = DAEMON.do(lambda: [each.id for each in DirectoryQueue(used, min_free=0).claim(9)])
    assert {"errors", "deferred"} <= set(claimed)


@pytest.mark.parametrize("command", ["requeue", "rm"])
def test_a_producer_may_not_act(used: Path, command: str) -> None:
    before = sorted(str(path) for path in used.rglob("*"))

    def act() -> str:
        entry = Entry("errors", "errors", 6, 0.0, 0, None, None, str(used / "errors" / "errors"))
        operator = Operator(used, "mallory")
        try:
            (operator.requeue if command == "requeue" else operator.remove)(entry)
        except QueueMissing as error:
            return str(error)
        return "done"

    assert f"belongs to uid {DAEMON.uid}, and not to uid {PRODUCER.uid}" in PRODUCER.do(act)
    assert sorted(str(path) for path in used.rglob("*")) == before


# -- queues that their producers could change ------------------------------------------------------------------------


@pytest.fixture
def old(queue: Path) -> Path:
    """A queue of version 0.4: whoever may enqueue may change everything in it."""
    for path in (queue, *queue.iterdir()):
        path.chmod(0o2770)
    return queue


@pytest.mark.parametrize("part", ["tmp", "pending", "state"])
def test_a_part_that_a_producer_made_a_link_is_not_followed(old: Path, part: str) -> None:
    victim = old.parent / "victim"
    victim.mkdir(0o711)
    for name in ("file", "1700000000.000000001.1.host"):
        (victim / name).write_text("secret")
        (victim / name).chmod(0o1600)
        os.utime(victim / name, (0, 0))

    def state() -> list[tuple[object, ...]]:
        stats = [path.stat() for path in sorted([victim, *victim.iterdir()])]
        return [(stat.st_ino, stat.st_mode, stat.st_uid, stat.st_gid, stat.st_ctime_ns) for stat in stats]

    PRODUCER.shell(f"mv {part} aside && ln -s {victim} {part}", old)
    before = state()
    (found,) = findings("--fix", old)
    assert (found["check"], found["where"]) == ("queue", f"{old}/{part}")
    assert str(victim) not in found["mend"]
    subprocess.run(found["mend"], shell=True, check=True, env=WITH_PIPERCTL, stdout=subprocess.DEVNULL)
    assert state() == before
    assert {path.stat().st_uid for path in old.iterdir()} == {DAEMON.uid}


def test_a_directory_that_a_producer_put_in_a_parts_place_is_not_worked_in(old: Path) -> None:
    PRODUCER.shell("mv pending aside && mkdir pending && echo x > pending/x", old)
    subjects = Subjects((), (), (dataclasses.replace(bare_queue(str(old)), orphan_age=0),))
    assert {each.check for each in mend(subjects)} == {"owner and mode"}
    words = f"it belongs to uid {PRODUCER.uid}, and not to uid {DAEMON.uid}, who works on the queue"
    assert (f"{old}/pending", words) in [(each.where, each.what) for each in examine(subjects)]
    assert (old / "pending" / "x").read_text() == "x\n"


def test_no_advice_is_a_producers(old: Path) -> None:
    """Such as to end a process of its choice."""
    record = old / "state" / ".1700000000.000000001.1.host"
    PRODUCER.do(record.touch)
    with record.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert {each["check"] for each in findings(old)} == {"owner and mode"}
        assert findings("--fix", old) == []
    modes = {path.name: f"{path.stat().st_mode & 0o7777:o}" for path in old.iterdir()}
    assert modes == {part: "3770" if part in SHARED else "700" for part in PARTS}


def test_whoever_may_not_look_is_told_so(used: Path) -> None:
    """A producer sees what it may of the queue, and that is no fault of the queue's."""
    subjects = Subjects((), (), (bare_queue(str(used)),))
    found = PRODUCER.do(lambda: [(each.what, each.warning) for each in examine(subjects)])
    assert [what for what, warning in found if not warning] == []
    assert "you may not look there, or not write there, so not all of it was examined" in [what for what, _ in found]
