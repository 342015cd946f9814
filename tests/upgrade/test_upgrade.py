"""`piperctl upgrade`: what it refuses, what it says, and the ways on and back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from checkout import VERSION
from piperkit.versions import runtime_range
from repository import commit_all, git
from upgrade_project import ADDRESS, NEXT, change, environment, released, run, tree

pytestmark = pytest.mark.slow

Release = Callable[[str, Callable[[Path], None]], None]


def upgrade(project: Path, world: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Exit status and output of `piperctl upgrade`, without the project's tests."""
    done = run(project, world, "piperkit.cli", "upgrade", "--no-tests", *arguments)
    return done.returncode, done.stdout


def makefile(work: Path) -> None:
    """A version with one change."""
    change(next(work.glob("template/**/Makefile.jinja")), ".PHONY: help", "# New.\n.PHONY: help")


# -- what it refuses -------------------------------------------------------------------------------------------------


def test_changes_that_are_not_committed(project: Path, world: dict[str, str], release: Release) -> None:
    release("v99.1.0", makefile)
    (project / "notes").write_text("mine\n")
    change(project / "README.md", "# birds", "# Birds")
    status, said = upgrade(project, world)
    assert status == 1
    assert "has changes that are not committed; commit them, or put them aside with git stash" in said
    assert " M README.md" in said
    assert "?? notes" in said


def test_a_project_without_git(project: Path, world: dict[str, str]) -> None:
    shutil.rmtree(project / ".git")
    status, said = upgrade(project, world)
    assert status == 1
    assert "is no git repository with a commit, so an upgrade could not be undone" in said
    assert "git init && git add --all && git commit" in said


def test_a_directory_that_is_no_project(tmp_path: Path, world: dict[str, str]) -> None:
    status, said = upgrade(tmp_path, world)
    assert status == 66
    assert "was not made from the template: it has no .copier-answers.yml" in said


def test_a_way_back_to_an_older_version(project: Path, world: dict[str, str]) -> None:
    for version in released():
        status, said = upgrade(project, world, "--to", version)
        assert status == 64
        assert f".copier-answers.yml is at {NEXT}, which is newer than {version}; there is no way back" in said


def test_a_version_that_does_not_exist(project: Path, world: dict[str, str]) -> None:
    status, said = upgrade(project, world, "--to", "98.0")
    assert status == 64
    assert f"the template {ADDRESS} has no version 98.0; it has: {', '.join([*released(), NEXT])}" in said


def test_an_answer_to_no_question(project: Path, world: dict[str, str], release: Release) -> None:
    release("v99.1.0", makefile)
    status, said = upgrade(project, world, "--data", "licens=ISC")
    assert status == 64
    assert "--data licens: the template asks no such question; did you mean licence?" in said


def test_copier_that_is_not_installed(project: Path, world: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "copier.py").write_text("raise ImportError\n")  # stands before the real one
    status, said = upgrade(project, {**world, "PYTHONPATH": str(tmp_path)})
    assert status == 69
    assert "install it with: pip install 'piperkit[template]'" in said


def test_a_template_that_has_gone_and_where_it_is_now(
    project: Path, world: dict[str, str], release: Release, hub: Path, tmp_path: Path
) -> None:
    release("v99.1.0", makefile)
    hub.rename(tmp_path / "moved.git")
    status, said = upgrade(project, world)
    assert status == 69
    assert f"the template {ADDRESS} cannot be reached" in said
    assert "if it has moved, say where it is now: piperctl upgrade --source ADDRESS" in said
    assert git(project, "status", "--porcelain") == ""

    status, said = upgrade(project, world, "--source", f"file://{tmp_path}/moved.git")
    assert status == 0, said
    recorded = yaml.safe_load((project / ".copier-answers.yml").read_text())
    assert recorded["_src_path"] == f"file://{tmp_path}/moved.git"
    assert recorded["runtime_from"] == f"git+file://{tmp_path}/moved.git"  # the runtime came from there, too
    assert "# New." in (project / "Makefile").read_text()


def test_a_template_that_is_another(project: Path, world: dict[str, str], tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "other")
    commit_all(tmp_path / "other", "Other", "v100.0.0")
    status, said = upgrade(project, world, "--source", str(tmp_path / "other"))
    assert status == 69
    assert f"does not know {NEXT}, which this project was made from" in said


# -- what it says and does -------------------------------------------------------------------------------------------


def test_nothing_to_do_is_said(project: Path, world: dict[str, str]) -> None:
    assert upgrade(project, world) == (0, "Already up to date: there is no newer version of the template.\n")


def test_a_dry_run_says_the_same_and_changes_nothing(project: Path, world: dict[str, str], release: Release) -> None:
    release("v99.1.0", makefile)
    before = tree(project)
    status, said = upgrade(project, world, "--dry-run")
    assert status == 0
    assert f"Template {NEXT} -> v99.1.0\n" in said
    assert "changed: Makefile\n" in said
    assert said.endswith("Nothing was changed.\n")
    assert tree(project) == before
    assert git(project, "status", "--porcelain") == ""
    assert git(project, "worktree", "list").count("\n") == 0
    status, really = upgrade(project, world)
    assert status == 0
    assert really.partition("\nDone")[0] == said.partition("\nNothing")[0]
    assert git(project, "diff", "--cached", "--name-only").split() == [".copier-answers.yml", "Makefile"]


def test_keys_behaviour_and_the_runtimes_range_are_told(project: Path, world: dict[str, str], release: Release) -> None:
    def alter(work: Path) -> None:
        change(work / "copier.yml", 'default: ">=', 'default: ">=99.1,<100" #')
        with open(work / "releases.toml", "a", encoding="utf-8") as file:
            file.write(
                '\n[[release]]\nversion = "99.1.0"\nbehaviour = ["Birds are counted twice."]\n'
                'keys = { new = ["queue_new"], renamed = { retry_limit = "retries" }, removed = ["crash_limit"] }\n'
            )

    change(project / "etc" / "birds.conf", '# "retry_limit": 5', '"retry_limit": 7,')
    change(project / "etc" / "birds.conf", '# "crash_limit": 3', '"crash_limit": 4')
    commit_all(project, "Ours")
    release("v99.1.0", alter)
    status, said = upgrade(project, world)
    assert status == 1
    assert f"Runtime piperkit{runtime_range(VERSION)} -> piperkit>=99.1,<100\n" in said
    assert "Changed behaviour:\n  Birds are counted twice.\n" in said
    assert "Configuration keys that are new:\n  queue_new\n" in said
    assert "Renamed configuration keys:\n  retry_limit -> retries\n" in said
    assert "Removed configuration keys:\n  crash_limit\n" in said
    hand = said.partition("Needs your attention:\n")[2]
    assert "etc/birds.conf sets retry_limit, which is called retries now: rename it there" in hand
    assert "etc/birds.conf sets crash_limit, which was removed: delete it there" in hand


def test_a_new_question_has_its_default_or_asks_for_an_answer(
    project: Path, world: dict[str, str], release: Release
) -> None:
    def asks(question: str) -> Callable[[Path], None]:
        return lambda work: change(work / "copier.yml", "# --- Asked", f"{question}\n\n# --- Asked")

    release("v99.1.0", asks("colour:\n  type: str\n  default: green"))
    status, said = upgrade(project, world)
    assert status == 0
    assert "Answers that are new:\n  colour: green\n" in said
    commit_all(project, "99.1")

    release("v99.2.0", asks("size:\n  type: int"))
    before = tree(project)
    status, said = upgrade(project, world)
    assert status == 1
    assert "nothing was changed: .copier-answers.yml: " in said
    assert '"size" is required; answer it: piperctl upgrade --data KEY=VALUE' in said
    assert tree(project) == before
    status, said = upgrade(project, world, "--data", "size=3")
    assert status == 0, said
    assert yaml.safe_load((project / ".copier-answers.yml").read_text())["size"] == 3


def test_the_projects_own_tests_decide(project: Path, world: dict[str, str], release: Release) -> None:
    (project / "verdict").write_text("false\n")
    change(project / "Makefile", "\t.venv/bin/pytest $(ARGS)", "\tsh -e verdict")
    change(project / "Makefile", "test: .venv/.runtime", "test:")
    commit_all(project, "Our own tests")
    release("v99.1.0", makefile)
    done = run(project, world, "piperkit.cli", "upgrade")
    assert done.returncode == 1
    assert "the project's tests fail, see above" in done.stdout
    (project / "verdict").write_text("true\n")
    done = run(project, world, "piperkit.cli", "upgrade", "--finish")
    assert done.returncode == 0, done.stdout
    assert "Done, and staged" in done.stdout
    assert git(project, "diff", "--name-only") == ""


def test_a_file_in_the_way_stops_it_before_anything_is_changed(
    project: Path, world: dict[str, str], release: Release
) -> None:
    """One that git does not see, so the tree is clean, and git could not bring it back."""
    with open(project / ".gitignore", "a") as ignored:
        ignored.write("NEWS\n")
    commit_all(project, "Ours")
    (project / "NEWS").write_text("mine\n")
    release("v99.1.0", lambda work: (next(work.glob("template/**/Makefile.jinja")).parent / "NEWS").write_text("new\n"))
    status, said = upgrade(project, world)
    assert status == 1
    assert "nothing was changed: " in said
    assert "NEWS" in said
    assert (project / "NEWS").read_text() == "mine\n"
    assert git(project, "status", "--porcelain") == ""


# -- conflicts, the way on and the way back --------------------------------------------------------------------------


@pytest.fixture
def conflict(project: Path, world: dict[str, str], release: Release) -> dict[str, bytes]:
    """An upgrade that ended in a conflict; the files before it."""
    change(project / "Makefile", "PYTHON ?= python3", "PYTHON ?= python3.11")
    commit_all(project, "Ours")
    before = tree(project)

    def alter(work: Path) -> None:
        change(next(work.glob("template/**/Makefile.jinja")), "PYTHON ?= python3", "PYTHON ?= python3.99")
        (next(work.glob("template/**/Makefile.jinja")).parent / "new").mkdir()
        (next(work.glob("template/**/Makefile.jinja")).parent / "new" / "file").write_text("new\n")

    release("v99.1.0", alter)
    status, said = upgrade(project, world)
    assert status == 1
    assert "Needs your attention:\n  Makefile is in conflict: settle what is between <<<<<<< and >>>>>>>\n" in said
    assert said.endswith("Then: piperctl upgrade --finish; or back to before: piperctl upgrade --abort\n")
    return before


def test_finish_wants_every_conflict_settled(project: Path, world: dict[str, str], conflict: dict[str, bytes]) -> None:
    status, said = upgrade(project, world, "--finish")
    assert status == 1
    assert "Makefile is in conflict" in said
    text = (project / "Makefile").read_text()
    begin, end = text.index("<<<<<<<"), text.index(">>>>>>> after updating\n")
    (project / "Makefile").write_text(
        text[:begin] + "PYTHON ?= python3.99\n" + text[end + len(">>>>>>> after updating\n") :]
    )
    (project / "README.md.rej").write_text("left\n")
    status, said = upgrade(project, world, "--finish")
    assert status == 1
    assert "README.md.rej is left by a failed update" in said
    (project / "README.md.rej").unlink()
    status, said = upgrade(project, world, "--finish")
    assert status == 0, said
    git(project, "commit", "--quiet", "--message", "99.1")
    assert git(project, "status", "--porcelain") == ""
    status, said = upgrade(project, world, "--finish")
    assert status == 1
    assert "there is no upgrade in" in said


def test_abort_goes_back_exactly_to_before(project: Path, world: dict[str, str], conflict: dict[str, bytes]) -> None:
    head = git(project, "rev-parse", "HEAD")
    change(project / "README.md", "# birds", "# Birds")  # half-way through
    status, said = upgrade(project, world, "--abort")
    assert status == 0
    assert f"as they were before the upgrade from {NEXT} to v99.1.0" in said
    assert tree(project) == conflict
    assert git(project, "status", "--porcelain") == ""
    assert git(project, "rev-parse", "HEAD") == head
    assert not (project / "new").exists()
    status, said = upgrade(project, world, "--abort")
    assert status == 1
    assert "there is no upgrade in" in said


def test_a_second_upgrade_waits_for_the_first(project: Path, world: dict[str, str], conflict: dict[str, bytes]) -> None:
    status, said = upgrade(project, world)
    assert status == 1
    assert "the upgrade to v99.1.0 is not committed yet; finish it: piperctl upgrade --finish" in said


def test_the_projects_hooks_catch_what_was_not_settled(
    project: Path, world: dict[str, str], conflict: dict[str, bytes]
) -> None:
    """Also where git was told that it was."""
    (project / "README.md.rej").write_text("left\n")
    git(project, "add", "--all")
    for hook, file in (("conflict-markers", "Makefile"), ("rejects", "README.md.rej")):
        done = run(project, world, "pre_commit", "run", hook)
        assert done.returncode == 1, done.stdout
        assert file in done.stdout
    assert upgrade(project, world, "--abort")[0] == 0
    for hook in ("conflict-markers", "rejects"):
        assert run(project, world, "pre_commit", "run", hook, "--all-files").returncode == 0


# -- where a project can be ------------------------------------------------------------------------------------------


def test_a_project_in_a_directory_of_a_repository(
    project: Path, world: dict[str, str], release: Release, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    shutil.rmtree(project / ".git")
    shutil.move(project, whole / "birds")
    (whole / "other").write_text("other\n")
    git(whole, "init", "--quiet")
    commit_all(whole, "All")
    release("v99.1.0", makefile)
    status, said = upgrade(whole / "birds", world)
    assert status == 0, said
    assert git(whole, "diff", "--cached", "--name-only").split() == ["birds/.copier-answers.yml", "birds/Makefile"]


def test_each_answers_file_is_upgraded(project: Path, world: dict[str, str], release: Release) -> None:
    """Those of daemons and components that were added later; one of another template is left alone."""

    def alter(work: Path) -> None:
        makefile(work)
        conf = next(work.glob("template/**/etc/{{ daemon_name }}.conf.jinja"))
        change(conf, "# longest delay before a retry", "# new words")

    for name, answers in (
        ("wolves", ("part=daemon", "daemon_name=wolves", "metrics=false")),
        ("bears", ("part=component", "daemon_name=birds", "component_name=bears")),
    ):
        data = [each for answer in answers for each in ("--data", answer)]
        more = ("copier", "copy", "--quiet", "--defaults", *data, "--answers-file", f".copier-answers.{name}.yml")
        done = run(project, world, *more, ADDRESS, project)
        assert done.returncode == 0, done.stdout
    shutil.copy(project / ".copier-answers.bears.yml", project / ".copier-answers.foreign.yml")
    change(project / ".copier-answers.foreign.yml", ADDRESS, "gh:other/template")
    change(project / "etc" / "wolves.conf", '# "retry_limit": 5', '"retry_limit": 7')
    commit_all(project, "More")
    release("v99.1.0", alter)
    status, said = upgrade(project, world)
    assert status == 0, said
    text = (project / "etc" / "wolves.conf").read_text()
    assert "# new words" in text
    assert '\n    "retry_limit": 7\n' in text
    assert "# New." in (project / "Makefile").read_text()
    recorded = {
        name: yaml.safe_load((project / f".copier-answers{name}.yml").read_text())["_commit"]
        for name in ("", ".wolves", ".bears", ".foreign")
    }
    assert recorded == {"": "v99.1.0", ".wolves": "v99.1.0", ".bears": "v99.1.0", ".foreign": NEXT}
    assert upgrade(project, world, "--abort")[0] == 0
    assert git(project, "status", "--porcelain") == ""


def test_environment_of_another_repository_does_not_matter(
    project: Path, hub: Path, tmp_path: Path, release: Release
) -> None:
    """As git sets it for its hooks."""
    release("v99.1.0", makefile)
    world = environment(tmp_path / "home", hub, GIT_DIR=str(hub))
    status, said = upgrade(project, world)
    assert status == 0, said
