"""`make release-check` finds each disagreement between versions, changelog, releases.toml, template and migration."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from checkout import ROOT, copy_parts
from repository import commit_all, git, pack
from upgrade_project import change, released

#: Something always comes after it, whatever is released by now.
FIRST = next(iter(released()))


@pytest.fixture(scope="module")
def whole(history: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree with its history."""
    directory = tmp_path_factory.mktemp("checked") / "repository"
    git(directory.parent, "clone", "--quiet", ROOT, directory)
    for tag in git(directory, "tag", "--list").splitlines():
        git(directory, "tag", "--delete", tag)
    copy_parts(directory)
    shutil.copy(ROOT / "CHANGELOG.md", directory)
    commit_all(directory, "The working tree")
    pack(directory)
    return directory


@pytest.fixture
def repository(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "repository", symlinks=True)
    return tmp_path / "repository"


def check(repository: Path) -> tuple[int, str]:
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'tools')!r}); import release_check, pathlib;"
    code += f"sys.exit(release_check.main(pathlib.Path({str(repository)!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_the_repository_agrees(repository: Path) -> None:
    assert check(repository) == (0, "Versions, changelog, releases.toml and template agree.\n")


def conf(repository: Path) -> Path:
    return next(repository.glob("template/**/etc/{{ daemon_name }}.conf.jinja"))


def add(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def line(path: Path, begin: str) -> str:
    return next(each for each in path.read_text(encoding="utf-8").splitlines() if each.startswith(begin))


def wrong_version(repository: Path) -> None:
    change(repository / "pyproject.toml", line(repository / "pyproject.toml", "version = "), 'version = "98.7.6"')


def wrong_range(repository: Path) -> None:
    change(repository / "copier.yml", 'default: ">=', 'default: ">=77.')


def unknown_key(repository: Path) -> None:
    add(repository / "releases.toml", "\nkyes = {}\n")


def no_sentence(repository: Path) -> None:
    change(repository / "releases.toml", "behaviour = [\n", 'behaviour = [\n    "no full stop",\n')


def not_toml(repository: Path) -> None:
    add(repository / "releases.toml", "\n[[release\n")


def foreign_commit(repository: Path) -> None:
    change(repository / "releases.toml", released()[FIRST], "0" * 40)


def wrong_tag(repository: Path) -> None:
    git(repository, "tag", FIRST, "HEAD")


def no_commit(repository: Path) -> None:
    change(repository / "releases.toml", f'commit = "{released()[FIRST]}"\n', "")


def no_date(repository: Path) -> None:
    text = (repository / "releases.toml").read_text()
    (repository / "releases.toml").write_text("\n".join(x for x in text.splitlines() if not x.startswith("date = ")))


def not_in_changelog(repository: Path) -> None:
    change(repository / "CHANGELOG.md", f"## {FIRST[1:]}, ", f"## {FIRST[1:]} of ")


def only_in_changelog(repository: Path) -> None:
    change(repository / "CHANGELOG.md", "\n## ", "\n## 98.0.0, 2030-01-01\n\n## ")


def wrong_order(repository: Path) -> None:
    first, *parts = (repository / "CHANGELOG.md").read_text().split("\n## ")
    (repository / "CHANGELOG.md").write_text("\n## ".join([first, *reversed(parts)]))


def new_key(repository: Path) -> None:
    change(conf(repository), '    # "retry_limit"', '    # "retry_new": 5\n\n    # "retry_limit"')


def lost_key(repository: Path) -> None:
    change(conf(repository), '    # "retry_limit"', "    # ")


def stale_key(repository: Path) -> None:
    add(repository / "releases.toml", '\nkeys.removed = ["retry_limit"]\n')


def lost_file(repository: Path) -> None:
    next(repository.glob("template/**/Makefile.jinja")).unlink()


def stale_file(repository: Path) -> None:
    change(repository / "releases.toml", "files.renamed = { ", 'files.renamed = { "Makefile" = "makefile", ')


def old_migration(repository: Path) -> None:
    change(repository / "copier.yml", line(repository / "copier.yml", "  - version: "), "  - version: 0.0.1")


def later_migration(repository: Path) -> None:
    change(repository / "copier.yml", "_migrations:", "_ours:")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (wrong_version, "pyproject.toml has the version 98.7.6, and the newest release in releases.toml is"),
        (wrong_range, "copier.yml: runtime_range is >=77."),
        (unknown_key, "has an unknown key kyes"),
        (no_sentence, "not a sentence: 'no full stop'"),
        (not_toml, "releases.toml is not a list of releases"),
        (foreign_commit, f"the commit {'0' * 40} of {FIRST[1:]} is not in the history of HEAD"),
        (wrong_tag, f"and the tag {FIRST} is at "),
        (no_commit, f"releases.toml: {FIRST[1:]} has no commit; add what {FIRST} stands for"),
        (no_date, f"releases.toml: {FIRST[1:]} has no date"),
        (not_in_changelog, f"CHANGELOG.md has no heading '## {FIRST[1:]}, "),
        (only_in_changelog, "releases.toml lacks what CHANGELOG.md has: 98.0.0, 2030-01-01"),
        (wrong_order, "CHANGELOG.md: the releases are not in order, newest first"),
        (new_key, "the key retry_new is new, and is not listed"),
        (lost_key, "the key retry_limit is removed or renamed, and is not listed"),
        (stale_key, "the key retry_limit is listed as removed or renamed, and is not"),
        (lost_file, "the template's file Makefile is no more, and is not listed"),
        (stale_file, "Makefile is listed as renamed or deleted, and is not"),
        (old_migration, "the version of the migration must be"),
        (later_migration, "the version of the migration must be"),
    ],
)  # fmt: skip
def test_it_finds(repository: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(repository)
    status, output = check(repository)
    assert status == 1
    assert said in output
