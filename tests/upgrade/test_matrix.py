"""Every released version, upgraded to the working tree, by a user who has made the project their own.

No edit is lost without a word, and the project's own tests, lint and daemon pass afterwards.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

from checkout import ALL, ROOT, VERSION
from installing import with_uv
from piperkit.upgrade import releases
from repository import commit_all, git
from upgrade_edits import check_kept, edit, settle
from upgrade_project import GITHUB, NEXT, change, environment, released, run, tree

pytestmark = pytest.mark.slow

ANSWERS: dict[str, dict[str, object]] = {
    "defaults": {"daemon_name": "birds", "description": "Counts birds"},
    "little": {"daemon_name": "a-b", "messages": "json", "systemd": "false", "licence": "none", "author": "Åsa O'Neil"},
    "much": {"daemon_name": "much", "messages": "bytes", "licence": "BSD-3-Clause", "network": "true",
             "description": "Doesn't lose 50 % of {{ anything }}, “really”"},
}  # fmt: skip


def kinds() -> Iterator[tuple[str, str]]:
    """Each released version, with each kind of component that its template has besides the first."""
    for version, at in released().items():
        asked = yaml.safe_load(git(ROOT, "show", f"{at}:copier.yml")).get("kind")
        for kind in asked["choices"].values() if asked else ():
            if kind != asked["default"]:
                yield version, kind


VERSIONS = list(released())
EACH = list(kinds())
#: By default each kind of the first version that has it.
KINDS = EACH if ALL else [(version, kind) for kind, version in {kind: at for at, kind in reversed(EACH)}.items()]
OPTIONS = "\n    # --- options of this daemon ---\n"
LISTED = releases.parse((ROOT / releases.FILE).read_text(encoding="utf-8"))


@pytest.fixture
def world(history: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a user; since nothing is released here, all have one repository of the template."""
    return environment(tmp_path / "home", history)


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


#: Each version meets some answers, and each answers some version.
EDITED = [
    (version, answers)
    for number, version in enumerate(released())
    for place, answers in enumerate(ANSWERS)
    if ALL or number % len(ANSWERS) == place
]


@pytest.mark.parametrize(("version", "answers"), EDITED)
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
    before = edit(project)
    done = run(project, world, "piperkit.cli", "upgrade", "--no-tests")
    said = done.stdout
    conflicts = settle(project)
    assert done.returncode == (1 if conflicts else 0), said
    for path in conflicts:
        assert f"{path} is in conflict" in said
    for release in LISTED:
        is_news = release.version is None or Version(release.version) > Version(version)
        for sentence in release.behaviour:
            assert (f"\n  {sentence}\n" in said) == is_news
    if conflicts:
        done = run(project, world, "piperkit.cli", "upgrade", "--finish", "--no-tests")
        assert done.returncode == 0, done.stdout
    git(project, "commit", "--quiet", "--message", "Upgrade")
    after = tree(project)

    check_kept(before, after)
    for path in before.keys() - after.keys():
        assert path in said
    recorded = yaml.safe_load(after[".copier-answers.yml"])
    assert recorded["_commit"] == NEXT
    assert {key: recorded[key] for key in ANSWERS[answers] if key in ("description", "author", "messages")}.items() <= (
        ANSWERS[answers].items()
    )

    cache = tmp_path_factory.getbasetemp() / "mypy-cache"
    in_project(project, "ruff", "check", "--no-cache")
    in_project(project, "ruff", "format", "--check", "--no-cache")
    in_project(project, "mypy", "--strict", "--cache-dir", str(cache))
    # The walk over all crash points takes long: the next test has it.
    in_project(project, "pytest", "-q", "-p", "no:cacheprovider", "-k", "not wherever_it_is_killed")
    passes_a_message_on(project, until)


def configure(project: Path) -> dict[str, bytes]:
    """A user sets the first option of the component, and a key in the middle; returns all files."""
    file = project / "etc" / "birds.conf"
    change(file, '# "retry_limit": 5', '"retry_limit": 7,')
    before, mark, options = file.read_text(encoding="utf-8").partition(OPTIONS)
    file.write_text(before + mark + options.replace('# "', '"', 1), encoding="utf-8")
    commit_all(project, "Ours")
    return tree(project)


def check_configuration(before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """What the component was made with is there, and what the template has now of it is not."""
    old, new = (files["etc/birds.conf"].decode() for files in (before, after))
    assert OPTIONS in old
    assert new.partition(OPTIONS)[1:] == old.partition(OPTIONS)[1:]
    assert '"retry_limit": 7,' in new
    assert "queue_seal" in new


@pytest.mark.parametrize(("version", "kind"), [pair for pair in KINDS if "source" in pair])
def test_plain_copier_leaves_the_options_of_a_component_alone_too(
    made: Callable[..., Path], world: dict[str, str], tmp_path: Path, version: str, kind: str
) -> None:
    project = tmp_path / "project"
    shutil.copytree(made(version, daemon_name="birds", kind=kind), project)
    before = configure(project)
    done = run(project, world, "copier", "update", "--trust", "--defaults")
    assert done.returncode == 0, done.stdout
    check_configuration(before, tree(project))
    assert not git(project, "ls-files", "--unmerged")


@pytest.mark.parametrize(("version", "kind"), KINDS)
def test_a_component_runs_as_the_template_of_its_time_made_it(
    made: Callable[..., Path],
    world: dict[str, str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    version: str,
    kind: str,
) -> None:
    """On its own and as one of two, with its tests; what it takes from elsewhere is as it was."""
    project = tmp_path / "project"
    shutil.copytree(made(version, daemon_name="birds", kind=kind), project)
    added = run(project, world, "piperkit.cli", "add", "component", "second", "--data", f"kind={kind}")
    assert added.returncode == 0, added.stdout
    before = configure(project)
    done = run(project, world, "piperkit.cli", "upgrade", "--no-tests")
    assert done.returncode == 0, done.stdout
    after = tree(project)
    for path in before:
        if path.endswith(("component.py", "second.py")):
            assert after[path] == before[path], path
    check_configuration(before, after)
    in_project(project, "mypy", "--strict", "--cache-dir", str(tmp_path_factory.getbasetemp() / "mypy-cache"))
    in_project(project, "pytest", "-q", "-p", "no:cacheprovider", "-k", "not wherever_it_is_killed")
    in_project(project, "birds", "--action", "config-check")


@pytest.mark.timeout(600)
def test_an_upgrade_runs_all_tests_of_the_project_with_the_new_runtime(
    made: Callable[..., Path], world: dict[str, str], tmp_path: Path
) -> None:
    """In its own virtual environment, with the runtime from the template's address."""
    version = list(released())[1]  # the first one that has the walk over the crash points among its tests
    project = tmp_path / "project"
    shutil.copytree(made(version, **ANSWERS["little"]), project)
    before = edit(project)
    done = run(project, with_uv(world), "piperkit.cli", "upgrade")
    assert done.returncode == 0, done.stdout
    assert f"Making .venv, with the runtime from git+{GITHUB}@{NEXT}" in done.stdout
    (installed,) = project.glob(".venv/lib/python*/site-packages/piperkit-*.dist-info")
    assert installed.name == f"piperkit-{VERSION}.dist-info"
    check_kept(before, tree(project))


@pytest.mark.parametrize("version", VERSIONS if ALL else [VERSIONS[0], VERSIONS[-1]])
def test_plain_copier_loses_no_edit_either(
    made: Callable[..., Path], world: dict[str, str], history: Path, tmp_path: Path, version: str
) -> None:
    """By the migration, which can run twice."""
    project = tmp_path / "project"
    shutil.copytree(made(version, **ANSWERS["defaults"]), project)
    before = edit(project)
    done = run(project, world, "copier", "update", "--trust", "--defaults")
    assert done.returncode == 0, done.stdout
    updated = tree(project), git(project, "status", "--porcelain")
    git(tmp_path, "clone", "--quiet", "--branch", NEXT, history, "template")
    done = run(project, world, "piperkit.upgrade.carry_over", tmp_path / "template", ".copier-answers.yml")
    assert done.returncode == 0, done.stdout
    assert (tree(project), git(project, "status", "--porcelain")) == updated
    settle(project)
    check_kept(before, tree(project))


@pytest.mark.parametrize("version", released())
def test_every_file_that_is_no_more_is_listed(made: Callable[..., Path], version: str) -> None:
    """As renamed or deleted, in releases.toml: what is not would be lost by a plain `copier update`."""
    news = releases.since(LISTED, ROOT, released()[version])
    for answers in ANSWERS.values():
        old, new = (set(git(made(at, **answers), "ls-files").splitlines()) for at in (version, NEXT))
        for path in old - new:
            now = releases.renamed(path, news, answers)
            assert now in new or releases.is_deleted(path, news), f"{path} of {version} is neither renamed nor deleted"
