"""The template's repository with its versions, where git finds it at its real address, and projects made from it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from checkout import ROOT, copy_parts
from needs import need
from piperkit.upgrade import releases
from repository import commit_all, git, pack
from upgrade_project import ADDRESS, NEXT, environment, released, run


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare repository with a tag for each released version, and the working tree as the next one."""
    directory = tmp_path_factory.mktemp("history")
    known = subprocess.run(["git", "-C", str(ROOT), "cat-file", "--batch-check"], input="\n".join(released().values()),
                           capture_output=True, text=True, check=False)  # fmt: skip
    complete = known.returncode == 0 and "missing" not in known.stdout
    need("history", complete, "a clone with the whole history: git fetch --unshallow")
    work = directory / "work"
    git(directory, "clone", "--quiet", ROOT, work)
    for tag in git(work, "tag", "--list").splitlines():
        git(work, "tag", "--delete", tag)
    for version, at in released().items():
        git(work, "tag", version, at)
    copy_parts(work)
    listed, _, unreleased = (work / releases.FILE).read_text(encoding="utf-8").partition("\n[unreleased]\n")
    entry = f'\n[[release]]\nversion = "{NEXT[1:]}"\ndate = 2099-01-01\n'
    (work / releases.FILE).write_text(listed + entry + unreleased, encoding="utf-8")
    commit_all(work, "The working tree", NEXT)
    hub = directory / "hub.git"
    git(directory, "clone", "--quiet", "--bare", work, hub)
    pack(hub)
    return hub


@pytest.fixture(scope="session")
def made(history: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A project as its user has just made it: made(version, key=answer, ...). It is shared: copy it."""
    projects: dict[tuple[str, str], Path] = {}
    home = tmp_path_factory.mktemp("home")

    def make(version: str, **answers: object) -> Path:
        key = (version, repr(sorted(answers.items())))
        if key not in projects:
            project = tmp_path_factory.mktemp("made") / str(answers.get("daemon_name", "birds"))
            data = [part for name, answer in answers.items() for part in ("--data", f"{name}={answer}")]
            copy = ("copier", "copy", "--quiet", "--defaults", "--vcs-ref", version, *data, ADDRESS, project)
            done = run(home, environment(home, history), *copy)
            assert done.returncode == 0, done.stdout
            git(project, "init", "--quiet", "--initial-branch", "main")
            commit_all(project, "New")
            projects[key] = project
        return projects[key]

    return make


@pytest.fixture
def hub(history: Path, tmp_path: Path) -> Path:
    """The test's own copy of the template's repository, which may get further versions."""
    shutil.copytree(history, tmp_path / "hub.git", symlinks=True)
    return tmp_path / "hub.git"


@pytest.fixture
def world(hub: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a user."""
    return environment(tmp_path / "home", hub)


@pytest.fixture
def release(hub: Path, tmp_path: Path) -> Callable[[str, Callable[[Path], None]], None]:
    """Release a further version of the template: release("v99.1.0", change), where `change` is given a working tree."""

    def make(version: str, alter: Callable[[Path], None]) -> None:
        work = tmp_path / f"work-{version}"
        git(tmp_path, "clone", "--quiet", hub, work)
        alter(work)
        commit_all(work, version, version)
        git(work, "push", "--quiet", "--tags", "origin", "HEAD")

    return make


@pytest.fixture
def project(made: Callable[..., Path], tmp_path: Path) -> Path:
    """A project made from the working tree."""
    shutil.copytree(made(NEXT), tmp_path / "birds")
    return tmp_path / "birds"
