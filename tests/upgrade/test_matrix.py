"""Every released version, upgraded to the working tree, by a user who has made the project their own.

No edit is lost without a word, and the project's own tests, lint and daemon pass afterwards.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from checkout import ROOT
from piperkit.project import releases
from repository import commit_all, git
from upgrade_project import NEXT, change, released, run, tree

pytestmark = pytest.mark.slow

ANSWERS: dict[str, dict[str, object]] = {
    "defaults": {"daemon_name": "birds", "description": "Counts birds"},
    "little": {"daemon_name": "a-b", "messages": "json", "systemd": "false", "licence": "none", "author": "Åsa O'Neil"},
    "much": {"daemon_name": "much", "messages": "bytes", "licence": "BSD-3-Clause", "network": "true",
             "description": "Doesn't lose 50 % of {{ anything }}, “really”"},
}  # fmt: skip

SECOND = '''\
"""A second component of ours."""

from piperkit import Component, Message


class Second(Component):
    """Leaves each message to the next component."""

    def process(self, message: Message) -> None:
        """Nothing to do."""
'''
TEST = '''\
"""A test of ours."""

from {package}.second import Second


def test_it_can_be_made() -> None:
    assert Second()
'''
FUNCTION = '''

def ours(text: str) -> str:
    """A function of ours."""
    return text.upper()
'''


def edit(project: Path) -> None:
    """What a user does to a project."""
    (package,) = (project / "src").iterdir()
    name = next((project / "etc").glob("*.conf")).stem
    with open(package / "component.py", "a", encoding="utf-8") as component:
        component.write(FUNCTION)
    (package / "second.py").write_text(SECOND, encoding="utf-8")
    change(package / "daemon.py", "components=[", "components=[Second(), ")
    imported = next(line for line in (package / "daemon.py").read_text().splitlines() if ".component import" in line)
    change(package / "daemon.py", imported, f"{imported}\nfrom {package.name}.second import Second")
    (project / "tests" / "test_ours.py").write_text(TEST.format(package=package.name), encoding="utf-8")
    change(project / "etc" / f"{name}.conf", '# "retry_limit": 5', '"retry_limit": 7')
    change(project / "README.md", f"# {name}\n", f"# {name}\n\nThis belongs to us.\n")
    (project / ".pre-commit-config.yaml").unlink()
    if (project / "systemd").exists():
        change(project / "systemd" / f"{name}.service", "Restart=on-failure", "Restart=always")
    commit_all(project, "Ours")


def settle(project: Path) -> list[str]:
    """Take the template's side of each conflict, with the user's change put in again; returns the files."""
    conflicts = git(project, "diff", "--name-only", "--diff-filter=U").splitlines()
    for path in conflicts:
        git(project, "checkout", "--theirs", "--", path)
        change(project / path, "Restart=on-failure", "Restart=always")
    return conflicts


def in_project(project: Path, *command: str) -> None:
    """One of its own checks, as if it were installed in this virtual environment."""
    done = run(project, {**os.environ, "PYTHONPATH": str(project / "src")}, *command)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}"


def passes_a_message_on(project: Path, until: Callable[..., None]) -> None:
    (package,) = (project / "src").glob("*/daemon.py")
    name = next((project / "etc").glob("*.conf")).stem
    spool = project / "var" / "spool"
    process = subprocess.Popen(
        [sys.executable, "-m", package.parent.name, "--no-daemon", "--quiet", "--queue-out-dir", "next"],
        env={**os.environ, "PYTHONPATH": str(project / "src")},
    )
    try:
        until((project / "var" / "run" / f"{name}.pid").exists, "the pid file")
        (spool / name / "tmp" / "one").write_text('{"number": 1}')
        os.rename(spool / name / "tmp" / "one", spool / name / "incoming" / "one")
        until((spool / "next" / "incoming" / "one").exists, "the message")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("answers", ANSWERS)
@pytest.mark.parametrize("version", released())
def test_an_edited_project_is_brought_up_to_date(
    made: Callable[..., Path],
    world: dict[str, str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    until: Callable[..., None],
    version: str,
    answers: str,
) -> None:
    project = tmp_path / "project"
    shutil.copytree(made(version, **ANSWERS[answers]), project)
    edit(project)
    before = tree(project)
    done = run(project, world, "piperkit.cli", "upgrade", "--no-tests")
    conflicts = settle(project)
    assert set(conflicts) <= {path for path in before if path.endswith(".service")}  # written anew after v0.1.0
    assert done.returncode == (1 if conflicts else 0), done.stdout
    for path in conflicts:
        assert f"{path} is in conflict" in done.stdout
    done = run(project, world, "piperkit.cli", "upgrade", "--finish", "--no-tests")
    assert done.returncode == 0, done.stdout
    commit_all(project, "Upgrade")
    after = tree(project)

    recorded = yaml.safe_load(after[".copier-answers.yml"])
    assert recorded["_commit"] == NEXT
    assert {key: recorded[key] for key in ANSWERS[answers] if key in ("description", "author", "messages")}.items() <= (
        ANSWERS[answers].items()
    )
    (package,) = {name.split("/")[1] for name in after if name.startswith("src/")}
    for name in (f"src/{package}/component.py", f"src/{package}/second.py", "tests/test_ours.py"):
        assert after[name] == before[name]
    assert b"components=[Second(), " in after[f"src/{package}/daemon.py"]
    configuration = next(name for name in after if name.startswith("etc/"))
    assert b'\n    "retry_limit": 7\n' in after[configuration]
    assert b"This belongs to us." in after["README.md"]
    assert ".pre-commit-config.yaml" not in after
    for name in after:
        assert not name.endswith(".rej")
        assert b"<<<<<<<" not in after[name]
        if name.endswith(".service") and "@" not in name:
            assert b"Restart=always" in after[name]

    cache = tmp_path_factory.getbasetemp() / "mypy-cache"
    in_project(project, "ruff", "check", "--no-cache")
    in_project(project, "ruff", "format", "--check", "--no-cache")
    in_project(project, "mypy", "--strict", "--cache-dir", str(cache))
    in_project(project, "pytest", "-q", "-p", "no:cacheprovider", "-k", "not wherever_it_is_killed")
    passes_a_message_on(project, until)
    assert "Already up to date" in run(project, world, "piperkit.cli", "upgrade").stdout


@pytest.mark.parametrize("version", released())
def test_every_file_that_is_no_more_is_listed(made: Callable[..., Path], version: str) -> None:
    """As renamed or deleted, in releases.toml: what is not would be lost by a plain `copier update`."""
    listed = releases.parse((ROOT / releases.FILE).read_text(encoding="utf-8"))
    news = releases.since(listed, ROOT, released()[version])
    for answers in ANSWERS.values():
        old, new = (set(git(made(at, **answers), "ls-files").splitlines()) for at in (version, NEXT))
        for path in old - new:
            now = releases.renamed(path, news, ANSWERS[answers])
            assert now in new or releases.is_deleted(path, news), f"{path} of {version} is neither renamed nor deleted"
