"""`piperctl doctor` in a generated project: versions, upgrades, units; and the commands that it prints mend them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import Any

import pytest

import piperkit
from piperkit.dirq import DirectoryQueue
from repository import commit_all, git
from upgrade_project import NEXT, change, run

pytestmark = pytest.mark.slow


@pytest.fixture
def doctor(project: Path, world: dict[str, str]) -> Callable[..., list[dict[str, Any]]]:
    """Run it, and return what it has found, without what it has found about this machine's clock."""
    DirectoryQueue(project / "var" / "spool" / "birds").close()

    def look(*arguments: str | Path, **more: str) -> list[dict[str, Any]]:
        done = run(project, {**world, **more}, "piperkit.cli", "doctor", "--json", *arguments, project)
        return [each for each in json.loads(done.stdout)["findings"] if each["where"] != "the clock"]

    return look


def shell(command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command that was printed, with the commands of this virtual environment."""
    path = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return subprocess.run(command, shell=True, env={**environment, "PATH": path}, text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip


def without_tests(project: Path) -> None:
    """Tests that need no virtual environment of the project's own."""
    change(project / "Makefile", "\t.venv/bin/pytest $(ARGS)", "\ttrue")
    change(project / "Makefile", "test: .venv/.runtime", "test:")
    commit_all(project, "Our own tests")


def test_a_generated_project_is_in_order(doctor: Callable[..., list[dict[str, Any]]]) -> None:
    assert doctor() == []


def test_a_runtime_that_is_newer_than_the_template(
    project: Path,
    world: dict[str, str],
    release: Callable[..., None],
    doctor: Callable[..., list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    site = tmp_path / "site"
    shutil.copytree(Path(piperkit.__file__).parent, site / "piperkit", ignore=shutil.ignore_patterns("__pycache__"))
    (site / "piperkit-99.1.0.dist-info").mkdir()
    (site / "piperkit-99.1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: piperkit\nVersion: 99.1.0\n"
    )
    release("v99.1.0", lambda work: change(work / "copier.yml", 'default: ">=', 'default: ">=99.1,<100" #'))
    without_tests(project)
    (found,) = doctor(PYTHONPATH=str(site))
    assert found["check"] == "versions"
    assert "runs with piperkit 99.1.0, which is newer" in found["what"]
    assert found["mend"] == f"piperctl upgrade {quote(str(project))}"
    done = shell(found["mend"], world)
    assert done.returncode == 0, done.stdout
    git(project, "commit", "--quiet", "--message", "Upgrade")
    assert doctor(PYTHONPATH=str(site)) == []
    (found,) = doctor()  # and now the runtime of this virtual environment is too old
    assert f"runs with piperkit {importlib.metadata.version('piperkit')}, which is older" in found["what"]
    assert found["mend"] == f"make -C {quote(str(project))} clean test"


def test_an_upgrade_that_was_not_committed(
    project: Path, world: dict[str, str], release: Callable[..., None], doctor: Callable[..., list[dict[str, Any]]]
) -> None:
    release("v99.1.0", lambda work: change(work / "README.md", "# piperkit", "# Piperkit"))
    without_tests(project)
    assert run(project, world, "piperkit.cli", "upgrade").returncode == 0
    (found,) = doctor()
    assert found["what"] == "the upgrade from v99.0.0 to v99.1.0 is not committed"
    done = shell(found["mend"], world)
    assert done.returncode == 0, done.stdout
    assert doctor() == []


def test_what_an_update_could_not_merge(
    project: Path, world: dict[str, str], doctor: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    change(
        project / "README.md",
        "# birds\n",
        "<<<<<<< before updating\n# birds\n=======\n# Birds\n>>>>>>> after updating\n",
    )
    (project / "Makefile.rej").write_text("left\n")
    (tmp_path / "editor").write_text("#!/bin/sh\nsed -i -e '/^<<<</d' -e '/^====/,/^>>>>/d' \"$1\"\n")
    (tmp_path / "editor").chmod(0o755)
    found = doctor()
    assert {Path(each["where"]).name: each["what"] for each in found} == {
        "README.md": "it holds conflict markers",
        "Makefile.rej": "an update could not merge it",
    }
    for each in found:
        with_editor = {**world, "PATH": f"{tmp_path}:{world['PATH']}", "EDITOR": "editor"}
        assert shell(each["mend"], with_editor).returncode == 0
    assert doctor() == []
    assert git(project, "status", "--porcelain") == ""


def test_parts_of_different_versions(
    project: Path, world: dict[str, str], release: Callable[..., None], doctor: Callable[..., list[dict[str, Any]]]
) -> None:
    release("v99.1.0", lambda work: change(work / "README.md", "# piperkit", "# Piperkit"))
    without_tests(project)
    shutil.copy(project / ".copier-answers.yml", project / ".copier-answers.second.yml")
    commit_all(project, "A second one")
    update = ("copier", "update", "--defaults", "--trust", "--quiet", "--answers-file", ".copier-answers.second.yml")
    assert run(project, world, *update).returncode == 0
    commit_all(project, "Only that was updated")
    (found,) = doctor()
    assert found["what"] == "it is from v99.1.0 of the template, and the project from v99.0.0"
    done = shell(found["mend"], world)
    assert done.returncode == 0, done.stdout
    git(project, "commit", "--quiet", "--message", "Upgrade")
    assert doctor() == []


@pytest.mark.parametrize("tagged", [True, False])
def test_a_template_with_changes_that_nobody_has_committed(
    hub: Path, world: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, tagged: bool
) -> None:
    """Copier calls them a commit, which is in no clone."""
    checkout, project = tmp_path / "checkout", tmp_path / "birds"
    git(tmp_path, "clone", "--quiet", hub, checkout)
    if not tagged:
        for tag in git(checkout, "tag", "--list").splitlines():
            git(checkout, "tag", "--delete", tag)
    readme = checkout / "template" / "project" / "README.md.jinja"
    change(readme, "# {{ daemon_name }}\n", "# {{ daemon_name }}\n\nNot committed.\n")
    done = run(tmp_path, world, "copier", "copy", "--quiet", "--defaults", "--vcs-ref", "HEAD", checkout, project)
    assert done.returncode == 0, done.stdout
    git(project, "init", "--quiet")
    commit_all(project, "New")
    git(checkout, "checkout", "--quiet", readme)
    version = NEXT if tagged else git(checkout, "rev-parse", "HEAD")
    change(readme.parent / "Makefile.jinja", ".PHONY: help", "# New.\n.PHONY: help")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2099-01-01T00:00:00Z")  # not in the second in which the project was made
    commit_all(checkout, "99.1", "v99.1.0" if tagged else None)

    done = run(project, world, "piperkit.cli", "doctor", "--json", project)
    (found,) = (each for each in json.loads(done.stdout)["findings"] if each["check"] == "template")
    assert found["where"] == str(project / ".copier-answers.yml")
    assert f"made from a checkout near {version}, with changes that were not committed" in found["what"]
    if not tagged:
        return  # it is mended in the same way
    done = run(project, world, "piperkit.cli", "upgrade", "--no-tests")
    assert done.returncode == 69
    assert f"have it go on from {version}, with these changes as yours: {found['mend']}\n" in done.stdout
    done = shell(found["mend"], world)
    assert done.returncode == 0, done.stdout
    done = run(project, world, "piperkit.cli", "doctor", "--json", project)
    assert "template" not in {each["check"] for each in json.loads(done.stdout)["findings"]}
    done = run(project, world, "piperkit.cli", "upgrade", "--no-tests")
    assert done.returncode == 0, done.stdout
    assert "# New." in (project / "Makefile").read_text()
    assert "Not committed." in (project / "README.md").read_text()


def test_units_that_are_not_the_projects(
    project: Path, world: dict[str, str], doctor: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    make = f"make -C {quote(str(project))} install-files PREFIX=/usr DESTDIR={quote(str(root))}"
    assert shell(make, {**os.environ}).returncode == 0
    assert doctor("--root", root) == []
    change(project / "systemd" / "birds.service", "RestartSec=5", "RestartSec=6")
    commit_all(project, "Ours")
    (found,) = doctor("--root", root)
    unit = root / "usr" / "lib" / "systemd" / "system" / "birds.service"
    assert (found["check"], found["where"]) == ("unit", str(unit))
    done = shell(found["mend"], world)
    assert done.returncode == 0, done.stdout
    assert "ExecStart=/usr/bin/birds" in unit.read_text()
    assert "RestartSec=6" in unit.read_text()
    assert doctor("--root", root) == []
