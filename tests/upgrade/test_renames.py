"""What a user has changed in files that the template renames or deletes, by `piperctl upgrade` and by plain copier."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from repository import commit_all, git
from upgrade_project import NEXT, change, environment, run, tree

pytestmark = pytest.mark.slow

FILES = """
[[release]]
version = "99.1.0"
files.renamed = { "systemd/*.target" = "systemd/all-*.target", "systemd/sysusers.d/*.conf" = "systemd/account-*.conf", \
"systemd/tmpfiles.d/*.conf" = "systemd/files-*.conf", "LICENSE" = "COPYING", "systemd/*@.service" = "systemd/*.many" }
files.deleted = [".gitignore", "tests/test_daemon.py"]
"""


def rename(work: Path) -> None:
    """A version of the template that renames and deletes files, and changes some of them."""
    parts = work / "template"
    (systemd,) = (path for path in parts.glob("*/*systemd*") if not path.is_symlink())
    for old, new in (
        ("{{ daemon_name }}.target.jinja", "all-{{ daemon_name }}.target.jinja"),
        ("sysusers.d/{{ daemon_name }}.conf.jinja", "account-{{ daemon_name }}.conf.jinja"),
        ("tmpfiles.d/{{ daemon_name }}.conf.jinja", "files-{{ daemon_name }}.conf.jinja"),
    ):
        (systemd / old).rename(systemd / new)
    units = next(systemd.glob("*yield*.service.jinja"))
    units.rename(systemd / "{% yield many from ['.service', '.many'] %}{{ daemon_name }}{{ many }}{% endyield %}.jinja")
    licence = next(parts.rglob("*LICENSE*"))
    licence.rename(licence.parent / licence.name.replace("LICENSE", "COPYING"))
    change(systemd / "all-{{ daemon_name }}.target.jinja", "WantedBy=multi-user.target", "WantedBy=default.target")
    change(systemd / "account-{{ daemon_name }}.conf.jinja", "g piper -", "g piper 900")
    for gone in (".gitignore.jinja", "tests/*daemon.py.jinja"):
        next(parts.rglob(gone)).unlink()
    text = (work / "copier.yml").read_text(encoding="utf-8")
    (work / "copier.yml").write_text(re.sub(r"- version: \S+", f"- version: {NEXT}.post0", text), encoding="utf-8")
    with open(work / "releases.toml", "a", encoding="utf-8") as releases:
        releases.write(FILES)


def edit(project: Path) -> None:
    """What a user has made of these files."""
    change(project / "systemd" / "birds.target", "[Unit]\n", "[Unit]\n# Ours.\n")
    change(project / "systemd" / "sysusers.d" / "birds.conf", "g piper -", "g piper 700")
    (project / "systemd" / "tmpfiles.d" / "birds.conf").unlink()
    change(project / "LICENSE", "MIT License", "Our licence")
    (project / "COPYING").write_text("Ours.\n")
    with open(project / ".gitignore", "a") as ignored:
        ignored.write("ours/\n")
    commit_all(project, "Ours")


@pytest.fixture(scope="module")
def renaming(history: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The world of a user, where the version that renames is out."""
    directory = tmp_path_factory.mktemp("renaming")
    shutil.copytree(history, directory / "hub.git")
    git(directory, "clone", "--quiet", directory / "hub.git", "work")
    rename(directory / "work")
    commit_all(directory / "work", "99.1", "v99.1.0")
    git(directory / "work", "push", "--quiet", "--tags", "origin", "HEAD")
    return environment(directory / "home", directory / "hub.git")


@pytest.fixture(scope="module", params=["piperctl", "copier"])
def updated(
    request: pytest.FixtureRequest,
    made: Callable[..., Path],
    renaming: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """An edited project after the update, and what that printed."""
    project = tmp_path_factory.mktemp(request.param) / "birds"
    shutil.copytree(made(NEXT), project)
    edit(project)
    commands = {
        "piperctl": ("piperkit.cli", "upgrade", "--no-tests"),
        "copier": ("copier", "update", "--trust", "--defaults"),
    }
    return project, run(project, renaming, *commands[request.param])


Updated = tuple[Path, subprocess.CompletedProcess[str]]


def test_changes_to_a_renamed_file_are_carried_over(updated: Updated) -> None:
    project, done = updated
    text = (project / "systemd" / "all-birds.target").read_text()
    assert "[Unit]\n# Ours.\n" in text
    assert "WantedBy=default.target" in text
    assert not (project / "systemd" / "birds.target").exists()
    assert "the changes were carried over" in done.stdout


def test_a_conflict_is_one_for_git_too(updated: Updated) -> None:
    project, done = updated
    text = (project / "systemd" / "account-birds.conf").read_text()
    assert "<<<<<<< before updating\ng piper 700\n" in text
    assert "=======\ng piper 900\n>>>>>>> after updating\n" in text
    assert not (project / "systemd" / "sysusers.d").exists()
    assert "systemd/account-birds.conf" in git(project, "diff", "--name-only", "--diff-filter=U").splitlines()
    assert "in conflict" in done.stdout
    with pytest.raises(subprocess.CalledProcessError):
        git(project, "commit", "--quiet", "--message", "No")


def test_a_file_that_was_deleted_does_not_come_back_under_its_new_name(updated: Updated) -> None:
    project, done = updated
    assert not (project / "systemd" / "files-birds.conf").exists()
    assert not (project / "systemd" / "tmpfiles.d" / "birds.conf").exists()
    assert "left out under its new name too" in done.stdout


def test_a_new_name_that_is_taken_loses_neither_file(updated: Updated) -> None:
    project, done = updated
    assert "Our licence" in (project / "LICENSE").read_text()
    assert "Ours.\n" in (project / "COPYING").read_text()
    assert "the new name was taken" in done.stdout


def test_a_deleted_file_is_kept_if_it_was_changed(updated: Updated) -> None:
    project, done = updated
    assert (project / ".gitignore").read_text().endswith("ours/\n")
    assert not (project / "tests" / "test_daemon.py").exists()
    assert "no longer in the template; kept" in done.stdout


def test_a_renamed_file_that_nobody_changed_is_just_renamed(updated: Updated) -> None:
    project, _ = updated
    assert (project / "systemd" / "birds.many").exists()
    assert not (project / "systemd" / "birds@.service").exists()


def test_what_needs_the_users_hand_is_the_exit_status_of_piperctl(updated: Updated) -> None:
    _, done = updated
    if "update" in done.args:
        assert done.returncode == 0  # copier's, which is why there is piperctl
        return
    assert done.returncode == 1
    hand = done.stdout.partition("Needs your attention:\n")[2]
    for name in ("systemd/account-birds.conf", "LICENSE", ".gitignore"):
        assert f"  {name} " in hand


def test_plain_copier_without_trust_changes_nothing_and_says_why(project: Path, renaming: dict[str, str]) -> None:
    edit(project)
    before = tree(project)
    done = run(project, renaming, "copier", "update", "--defaults")
    assert done.returncode != 0
    assert "migrations" in done.stdout
    assert "--trust" in done.stdout
    assert tree(project) == before
    assert git(project, "status", "--porcelain") == ""


def test_the_migration_can_run_twice(project: Path, renaming: dict[str, str], tmp_path: Path) -> None:
    edit(project)
    run(project, renaming, "copier", "update", "--trust", "--defaults")
    before = tree(project), git(project, "status", "--porcelain")
    hub = Path(renaming["HOME"]).parent / "hub.git"
    git(tmp_path, "clone", "--quiet", "--branch", "v99.1.0", hub, "template")
    done = run(project, renaming, "piperkit.upgrade.carry_over", tmp_path / "template", ".copier-answers.yml")
    assert done.returncode == 0, done.stdout
    assert (tree(project), git(project, "status", "--porcelain")) == before
