"""Root who looks at what belongs to others runs nothing of it, reads nothing beside it, and gives nothing away."""

from __future__ import annotations

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
from people import PRODUCER
from piperkit.dirq import DirectoryQueue

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
    assert [call for call in calls if str(trap) in call or ".env" in call] == []
    assert [call for call in calls if re.search(r'(\(|AT_FDCWD, )"[^/"]', call) and "ENOENT" not in call] == []


def test_a_daemon_reads_nothing_of_the_current_directory(trap: Path, project: Path) -> None:
    code = "import os; from birds.daemon import main; print(os.environ.get('EVIL'), flush=True); main()"
    more = {"env": {**os.environ, "PYTHONPATH": str(project / "src")}, "cwd": trap}
    command = [sys.executable, "-P", "-c", code, "--action", "describe"]
    done = subprocess.run(command, text=True, capture_output=True, check=True, **more)  # type: ignore[call-overload]
    assert done.stdout.startswith("None\n{")
