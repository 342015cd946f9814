"""`copier update`: a project gets what is new in the template, and keeps what its owner has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkout import VERSION
from piperkit.versions import runtime_range
from repository import commit_all, git
from template_project import answers, run_copier

pytestmark = pytest.mark.slow


@pytest.fixture
def project(source: Path, tmp_path: Path) -> Path:
    """A project made from v0.2.0."""
    directory = tmp_path / "mydaemon"
    run_copier("copy", "--defaults", "--data", "description=Counts birds", source, directory)
    git(directory, "init", "--quiet", "--initial-branch", "main")
    commit_all(directory, "New")
    return directory


def files(project: Path) -> list[str]:
    return git(project, "ls-files").splitlines()


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def new_version(source: Path) -> None:
    """Release v0.3.0 of the template: every part that matters is changed."""
    parts = source / "template"
    change(parts / "project" / "Makefile.jinja", ".PHONY: help", "# new in 0.2\n\n.PHONY: help")
    change(parts / "daemon" / "etc" / "{{ daemon_name }}.conf.jinja", "# longest delay before a retry", "# new words")
    change(parts / "daemon" / "src" / "{{ package_name }}" / "daemon.py.jinja", '"""The daemon:', '"""New in 0.2:')
    change(parts / "kinds" / "transform-text" / "component.py.jinja", "This file is yours", "A new stub")
    change(parts / "kinds" / "transform-text" / "test_component.py.jinja", "What the component makes", "A new test")
    (parts / "project" / "NEWS.md").write_text("New in 0.2\n", encoding="utf-8")
    change(source / "copier.yml", runtime_range(VERSION), ">=99.0,<100")
    commit_all(source, "0.2", "v0.3.0")


def update(project: Path) -> None:
    run_copier("update", "--defaults", "--skip-answered", project)


def test_it_brings_what_is_new_and_keeps_what_was_changed(source: Path, project: Path) -> None:
    component = project / "src" / "mydaemon" / "component.py"
    change(component, "return message.commit(message.text)", "return message.commit(message.text.upper())")
    change(project / "tests" / "test_component.py", 'b"hello"', 'b"HELLO"')
    change(project / "etc" / "mydaemon.conf", '# "retry_limit": 5', '"retry_limit": 7')
    change(project / "src" / "mydaemon" / "daemon.py", "components=[Mydaemon()]", "components=[Mydaemon(), Mydaemon()]")
    change(project / "README.md", "Counts birds.", "Counts birds, and squirrels.")
    commit_all(project, "Work")
    written = component.read_bytes(), (project / "tests" / "test_component.py").read_bytes()
    new_version(source)
    update(project)

    texts = {name: (project / name).read_text(encoding="utf-8") for name in [*files(project), "NEWS.md"]}
    assert not [name for name, text in texts.items() if "<<<<<<<" in text]
    assert git(project, "ls-files", "--others").splitlines() == ["NEWS.md"]
    assert "# new in 0.2" in (project / "Makefile").read_text()
    assert '"retry_limit": 7' in texts["etc/mydaemon.conf"]
    assert "# new words" in texts["etc/mydaemon.conf"]
    assert "Mydaemon(), Mydaemon()" in texts["src/mydaemon/daemon.py"]
    assert texts["src/mydaemon/daemon.py"].startswith('"""New in 0.2:')
    assert "and squirrels" in texts["README.md"]
    assert texts["NEWS.md"] == "New in 0.2\n"
    assert 'dependencies = ["piperkit>=99.0,<100", ' in texts["pyproject.toml"]
    assert (component.read_bytes(), (project / "tests" / "test_component.py").read_bytes()) == written
    assert answers(project)["_commit"] == "v0.3.0"
    assert answers(project)["description"] == "Counts birds"


def test_the_stub_is_left_alone_even_if_nobody_has_changed_it(source: Path, project: Path) -> None:
    new_version(source)
    update(project)
    assert "This file is yours" in (project / "src" / "mydaemon" / "component.py").read_text()


def test_what_was_deleted_stays_deleted(source: Path, project: Path) -> None:
    for name in ("src/mydaemon/component.py", "tests/test_component.py", "systemd/mydaemon.service"):
        (project / name).unlink()
    commit_all(project, "Without them")
    new_version(source)
    update(project)
    assert git(project, "ls-files", "--others").splitlines() == ["NEWS.md"]


def test_an_update_without_anything_new_changes_nothing(source: Path, project: Path) -> None:
    update(project)
    assert git(project, "status", "--porcelain") == ""


def test_an_answer_can_be_changed_later(source: Path, project: Path) -> None:
    run_copier("update", "--defaults", "--data", "licence=ISC", project)
    assert (project / "LICENSE").read_text().startswith("ISC License")
    assert answers(project)["licence"] == "ISC"
    assert git(project, "diff", "--name-only").split() == [
        ".copier-answers.yml",
        "LICENSE",
        "README.md",
        "pyproject.toml",
    ]


def test_the_runtime_follows_the_template_from_a_git_address(template: Path, tmp_path: Path) -> None:
    """The answer names no version; the Makefile names the template's."""
    bare = tmp_path / "it.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(template), str(bare))
    git(bare, "tag", "v0.2.0")
    project = tmp_path / "mydaemon"
    run_copier("copy", "--defaults", bare, project)
    git(project, "init", "--quiet")
    commit_all(project, "New")
    assert f"RUNTIME_FROM ?= git+{bare.as_uri()}@v0.2.0\n" in (project / "Makefile").read_text()
    work = tmp_path / "work"
    git(tmp_path, "clone", "--quiet", str(bare), str(work))
    new_version(work)
    git(work, "push", "--quiet", "--tags", "origin", "main")
    update(project)
    assert f"RUNTIME_FROM ?= git+{bare.as_uri()}@v0.3.0\n" in (project / "Makefile").read_text()
    assert answers(project)["runtime_from"] == f"git+{bare.as_uri()}"
