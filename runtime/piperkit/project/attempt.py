"""An upgrade, done beside the user's files: in a working tree of its own, which git forgets again.

So nothing is touched before all of it has succeeded, and a look at what would change is the same as the change.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import copier
from copier.errors import CopierError

from piperkit.errors import PiperError
from piperkit.project import answers, carry, releases
from piperkit.project.answers import Answers
from piperkit.project.carry import Carried
from piperkit.project.git import git, listed
from piperkit.project.releases import Release
from piperkit.project.source import Source, same_repository


class UpgradeFailed(PiperError):
    """copier could not do it; nothing was changed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """What an upgrade makes of a project."""

    tree: str  #: as a tree of git
    unmerged: tuple[str, ...]  #: what `git ls-files --unmerged` says of the files in conflict
    carried: tuple[Carried, ...]  #: the user's changes to files that were renamed or deleted
    answered: Mapping[str, Any]  #: the answers to questions that are new
    news: tuple[Release, ...]  #: the releases that the project has not had yet


@contextlib.contextmanager
def worktree(project: Path) -> Iterator[Path]:
    """The project as committed, in a working tree of its own, until the end of the block."""
    top = Path(git(project, "rev-parse", "--show-toplevel"))
    with tempfile.TemporaryDirectory(prefix="piperctl-upgrade-") as directory:
        place = Path(directory, top.name)  # copier may ask what the directory is called
        git(top, "worktree", "add", "--quiet", "--detach", place, "HEAD")
        try:
            yield place / git(project, "rev-parse", "--show-prefix")
        finally:
            git(top, "worktree", "remove", "--force", place)


def attempt(place: Path, outdated: Sequence[Answers], source: Source, target: str, data: Mapping[str, Any]) -> Attempt:
    """Upgrade what these answers files stand for, in a working tree that is as HEAD. Raises UpgradeFailed."""
    if any(each.template != source.address for each in outdated):
        for each in outdated:
            _move(place / each.path.name, each, source.address)
        _commit(place)
    known = releases.parse(source.read(target, releases.FILE) or "", f"{source.address}, {releases.FILE}")
    news: list[Release] = []
    unmerged: list[str] = []
    carried: list[Carried] = []
    answered: dict[str, Any] = {}
    for each in outdated:
        before = answers.load_file(place / each.path.name)
        new = releases.since(known, source.path, each.version or "")
        news += [release for release in new if release not in news]
        carried += _update(place, each, source, target, data, new)
        unmerged += git(place, "ls-files", "--unmerged", "--full-name").splitlines()
        after = answers.load_file(place / each.path.name)
        answered |= {key: after.values[key] for key in after.values.keys() - before.values.keys()}
        _commit(place)
    return Attempt(git(place, "rev-parse", "HEAD^{tree}"), tuple(unmerged), tuple(carried), answered, tuple(news))


def _update(
    place: Path, each: Answers, source: Source, target: str, data: Mapping[str, Any], news: Sequence[Release]
) -> list[Carried]:
    with tempfile.TemporaryDirectory(prefix="piperctl-base-") as directory:
        base = Path(directory, place.name)
        try:
            carry.render_base(place, each.path.name, str(source.path), base)
            copier.run_update(
                place,
                {**data, "piperctl": True},  # the template's migration leaves the next step to us
                answers_file=each.path.name,
                vcs_ref=target,
                defaults=True,
                overwrite=True,
                quiet=True,
                unsafe=True,  # it may have migrations: whose runtime a project installs, it trusts with these too
            )
        except (CopierError, ValueError, OSError) as error:
            raise UpgradeFailed(f"nothing was changed: {each.path.name}: {_said(error)}") from error
        return carry.carry(place, base, news)


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "Question" in text and "required" in text:
        text += "; answer it: piperctl upgrade --data KEY=VALUE"
    return text


def _commit(place: Path) -> None:
    git(place, "add", "--all", "--", ":/")
    git(place, "commit", "--quiet", "--allow-empty", "--no-verify", "--message", "piperctl upgrade")


def _move(file: Path, each: Answers, address: str) -> None:
    """Have an answers file name another address of the template; and of the runtime, where both came from there."""
    text = file.read_text(encoding="utf-8")
    text = re.sub(r"^_src_path: .*$", lambda _: f"_src_path: {address}", text, flags=re.MULTILINE)
    if same_repository(str(each.values.get("runtime_from", "")), each.template):
        text = re.sub(r"^runtime_from: .*\n", "", text, flags=re.MULTILINE)  # its default follows the address
    file.write_text(text, encoding="utf-8")


def changed(place: Path, tree: str) -> list[str]:
    """What would change, from the repository's directory: git's letter for how, and the path."""
    names = listed(place, "diff-tree", "-r", "-z", "--name-status", "--no-renames", "HEAD", tree)
    return [f"{how} {path}" for how, path in zip(names[::2], names[1::2], strict=True)]
