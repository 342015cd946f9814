"""`piperctl upgrade`: what it refuses, what it says, and the ways on and back."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from checkout import ALL, VERSION
from needs import need
from piperkit.versions import runtime_range
from repository import commit_all, git
from upgrade_project import ADDRESS, NEXT, change, environment, released, run, tree

pytestmark = pytest.mark.slow

#: The condition of the template's own migration.
DONE_HERE = "{{ _stage == 'after' and 'piperctl' not in _copier_conf.data }}"

Release = Callable[[str, Callable[[Path], None]], None]


def upgrade(project: Path, world: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Exit status and output of `piperctl upgrade`, without the project's tests."""
    done = run(project, world, "piperkit.cli", "upgrade", "--no-tests", *arguments)
    return done.returncode, done.stdout


def makefile(work: Path) -> None:
    """A version with one change."""
    change(next(work.glob("template/**/Makefile.jinja")), ".PHONY: help", "# New.\n.PHONY: help")


def many_files(work: Path) -> None:
    """A version with changes to several files."""
    makefile(work)
    for name in (".gitignore.jinja", "README.md.jinja", ".pre-commit-config.yaml"):
        file = work / "template" / "project" / name
        file.write_text(file.read_text() + "# New.\n")


#: The files that a new version changes where the Makefile has a change; they name it, too.
CHANGED = [".copier-answers.yml", "Makefile", "pyproject.toml"]


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
    assert "is not a git repository with a commit, so an upgrade could not be undone" in said
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

    moved = (tmp_path / "moved.git").as_uri()
    status, said = upgrade(project, world, "--source", moved)
    assert status == 0, said
    recorded = yaml.safe_load((project / ".copier-answers.yml").read_text())
    assert recorded["_src_path"] == moved
    assert recorded["runtime_from"] == f"git+{moved}"  # the runtime came from there, too
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
    assert git(project, "diff", "--cached", "--name-only").split() == CHANGED


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
    """And keeps what was done meanwhile: in other files where it is, in those of the upgrade for git."""
    head = git(project, "rev-parse", "HEAD")
    change(project / "README.md", "# birds", "# Birds")
    change(project / "Makefile", "<<<<<<<", "half-way through")
    (project / "mine").write_text("mine\n")
    status, said = upgrade(project, world, "--abort")
    assert status == 0
    assert f"as they were before the upgrade from {NEXT} to v99.1.0" in said
    assert "What you had changed in them is kept: git diff HEAD refs/piperctl/aborted" in said
    assert "half-way through" in git(project, "show", "refs/piperctl/aborted:Makefile")
    assert git(project, "status", "--porcelain").splitlines() == [" M README.md", "?? mine"]
    change(project / "README.md", "# Birds", "# birds")
    (project / "mine").unlink()
    assert tree(project) == conflict
    assert git(project, "status", "--porcelain") == ""
    assert git(project, "rev-parse", "HEAD") == head
    assert not (project / "new").exists()
    status, said = upgrade(project, world, "--abort")
    assert status == 1
    assert "there is no upgrade in" in said


@pytest.mark.parametrize("all_of_it", [False, True], ids=["git is killed", "all is killed"])
@pytest.mark.parametrize("when", [2, 3] if ALL else [3])
def test_an_upgrade_that_was_cut_off_is_never_taken_for_a_whole_one(
    project: Path, world: dict[str, str], release: Release, tmp_path: Path, when: int, all_of_it: bool
) -> None:
    """While git puts the files into their places."""
    need("strace", shutil.which("strace") is not None, "strace(1)")
    release("v99.1.0", many_files)
    before = tree(project)
    wrapper = tmp_path / "bin" / "git"
    wrapper.parent.mkdir()
    inject = f"-f -o /dev/null -e trace=unlink -e inject=unlink:signal=KILL:when={when}"
    wrapper.write_text(
        f"""#!/bin/sh
case " $* " in *" read-tree -m -u "*)
    strace {inject} {shutil.which("git")} "$@"
    {"kill -9 $PPID" if all_of_it else ""}
    exit 1
esac
exec {shutil.which("git")} "$@"
"""
    )
    wrapper.chmod(0o755)
    status, said = upgrade(project, {**world, "PATH": f"{wrapper.parent}:{world['PATH']}"})
    assert status != 0
    assert all_of_it or "only a part of it is in the files" in said
    (project / ".git" / "index.lock").unlink()
    for option in ((), ("--finish",)):
        status, said = upgrade(project, world, *option)
        assert status == 1
        assert "was cut off, and only a part of it is in the files; go back to before" in said
    assert upgrade(project, world, "--abort")[0] == 0
    assert tree(project) == before
    assert git(project, "status", "--porcelain") == ""
    assert upgrade(project, world)[0] == 0
    assert "# New." in (project / "Makefile").read_text()


def test_an_upgrade_that_was_taken_back_by_other_means_is_not_finished(
    project: Path, world: dict[str, str], release: Release
) -> None:
    release("v99.1.0", many_files)
    assert upgrade(project, world)[0] == 0
    git(project, "reset", "--quiet", "--hard")
    status, said = upgrade(project, world, "--finish")
    assert status == 1
    assert "the upgrade to v99.1.0 is not in the files any more; begin it anew" in said
    assert upgrade(project, world)[0] == 0


def test_abort_after_a_commit_of_something_else(project: Path, world: dict[str, str], release: Release) -> None:
    release("v99.1.0", makefile)
    assert upgrade(project, world)[0] == 0
    (project / "mine").write_text("mine\n")
    git(project, "add", "mine")
    git(project, "commit", "--quiet", "--message", "Mine", "--", "mine")
    assert upgrade(project, world, "--abort")[0] == 0
    assert "# New." not in (project / "Makefile").read_text()
    assert (project / "mine").read_text() == "mine\n"
    assert git(project, "status", "--porcelain") == ""


@pytest.mark.parametrize("what", ["file", "link to a directory", *(["link", "file of the same name"] if ALL else [])])
def test_what_git_ignores_is_never_overwritten(
    project: Path, world: dict[str, str], release: Release, tmp_path: Path, what: str
) -> None:
    """Where the template has a new file in a directory of that name."""

    def new_directory(work: Path) -> None:
        directory = next(work.glob("template/project")) / "extra"
        directory.mkdir()
        (directory / "file").write_text("new\n")

    release("v99.1.0", new_directory)
    change(project / ".gitignore", "var/\n", "var/\nextra\n")
    commit_all(project, "Mine")
    mine = project / "extra"
    precious = tmp_path / "precious"
    precious.mkdir()
    match what:
        case "file":
            mine.write_text("mine\n")
        case "link":
            mine.symlink_to("nowhere")
        case "link to a directory":
            mine.symlink_to(precious)
        case _:
            mine.mkdir()
            (mine / "file").write_text("mine\n")
    status, said = upgrade(project, world)
    assert status == 1
    name = "extra/file" if what == "file of the same name" else "extra"
    assert f"nothing was changed: {name} is in the way of the template's; move it away" in said
    assert git(project, "status", "--porcelain") == ""
    assert list(precious.iterdir()) == []
    if not what.startswith("link"):
        assert (project / name).read_text() == "mine\n"


@pytest.mark.parametrize("answer", ["y", "n"])
def test_who_has_a_terminal_is_asked_what_the_template_may_execute(
    project: Path, world: dict[str, str], release: Release, public: Path, answer: str
) -> None:
    executed = public / "executed"

    def dangerous(work: Path) -> None:
        makefile(work)
        with open(work / "copier.yml", "a", encoding="utf-8") as file:
            file.write(f"_tasks:\n  - touch {executed}\n")

    release("v99.1.0", dangerous)
    ours, theirs = os.openpty()
    os.write(ours, f"{answer}\n".encode())
    command = [sys.executable, "-m", "piperkit.cli", "upgrade", "--no-tests"]
    done = subprocess.run(command, cwd=project, env=world, stdin=theirs, capture_output=True, text=True, check=False)
    os.close(ours)
    os.close(theirs)
    assert f"executes commands on this machine in an upgrade:\n  touch {executed}\n" in done.stdout
    assert executed.exists() is (answer == "y")
    assert (done.returncode == 0) is (answer == "y"), done.stderr


def test_project_whose_name_has_been_reserved_since_is_upgraded_all_the_same(
    made: Callable[..., Path], world: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(made("v0.4.0", daemon_name="sort"), tmp_path / "sort")
    status, said = upgrade(tmp_path / "sort", world, "--dry-run")
    assert status == 0, said


#: Every form in which a template may ask for a command; each leaves a file of its own.
COMMANDS = f"""\
_tasks:
  - touch PLACE/task
  - command: [touch, PLACE/list]
_migrations:
  - touch PLACE/migration
  - version: 99.0.5
    before: [touch PLACE/before]
  - command: touch PLACE/when
    when: "{{{{ _stage == 'after' }}}}"
  - version: 99.0.5
    before: [touch PLACE/done]
    when: "{DONE_HERE}"
"""
FORMS = {"task", "list", "migration", "before", "when", "done"}


def test_template_executes_nothing_in_a_look_and_else_only_what_its_user_has_allowed(
    project: Path, world: dict[str, str], release: Release, public: Path
) -> None:
    place = public / "executed"
    place.mkdir()

    def executed() -> set[str]:
        return {path.name for path in place.iterdir()}

    def dangerous(work: Path) -> None:
        makefile(work)
        file = work / "copier.yml"
        kept = re.sub(r"^_migrations:\n(?:  .*\n)+", "", file.read_text(), flags=re.MULTILINE)
        file.write_text(kept + COMMANDS.replace("PLACE", str(place)))

    release("v99.1.0", dangerous)
    for option in ("--dry-run", "--no-tests"):
        status, said = upgrade(project, world, option)
        assert status == 1
        assert f"nothing was done: the template {ADDRESS} executes commands in an upgrade" in said
        assert {form for form in FORMS if f"\n  touch {place}/{form}" in said} == FORMS
        assert executed() == set()
        assert git(project, "status", "--porcelain") == ""
    assert upgrade(project, world, "--trust")[0] == 0
    assert executed() >= FORMS - {"done"}  # which is for where the upgrade does not carry changes over itself
    assert upgrade(project, world, "--abort")[0] == 0
    for form in executed():
        (place / form).unlink()
    assert upgrade(project, world, "--dry-run")[0] == 1
    assert executed() == set()
    assert upgrade(project, world)[0] == 0  # it was asked once for this address


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a tpl.git", "a tpl"),
        ("tpl", "tpl2"),
        *([("tpl", "tpl.git"), ("tpl", "other"), ("tpl", "sub/tpl")] if ALL else []),
    ],
)
def test_address_that_is_the_beginning_of_another_moves(
    world: dict[str, str], history: Path, tmp_path: Path, old: str, new: str
) -> None:
    place = tmp_path / old
    git(tmp_path, "clone", "--quiet", history, place)
    project = tmp_path / "birds"
    made = run(tmp_path, world, "piperkit.cli", "new", str(project), "--template", str(place), "--vcs-ref", NEXT,
               "--defaults", "--git")  # fmt: skip
    assert made.returncode == 0, made.stdout
    (tmp_path / new).parent.mkdir(exist_ok=True)
    place.rename(tmp_path / new)
    status, said = upgrade(project, world, "--source", str(tmp_path / new))
    assert status == 0, said
    recorded = yaml.safe_load((project / ".copier-answers.yml").read_text())
    assert recorded["_src_path"] == str(tmp_path / new)
    text = (project / "Makefile").read_text() + (project / "pyproject.toml").read_text()
    assert str(tmp_path / new) in text
    assert not re.search(re.escape(str(place)) + r"(?![\w.])", text.replace(str(tmp_path / new), ""))
    assert f"{tmp_path / new}.git.git" not in text


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
    git(project, "rm", "--quiet", "--force", "README.md.rej")
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
    assert git(whole, "diff", "--cached", "--name-only").split() == [f"birds/{path}" for path in CHANGED]


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
    command = [sys.executable, "-m", "piperkit.cli", "upgrade", "--no-tests"]
    subprocess.run(command, cwd=project, env=world, check=True)
