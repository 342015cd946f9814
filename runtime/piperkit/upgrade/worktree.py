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
from piperkit.project import answers
from piperkit.project.answers import Answers
from piperkit.project.git import git, listed
from piperkit.project.template_repository import TemplateRepository, same_repository
from piperkit.upgrade import carry_over, releases
from piperkit.upgrade.carry_over import Carried
from piperkit.upgrade.releases import Release

#: Answers as YAML writes them: a long one with spaces in it goes on in lines that are indented.
_ANSWER = {key: re.compile(rf"^{key}: .*\n(?:[ \t]+.*\n)*", re.MULTILINE) for key in ("_src_path", "runtime_from")}


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


def attempt(
    place: Path, outdated: Sequence[Answers], source: TemplateRepository, target: str, data: Mapping[str, Any]
) -> Attempt:
    """Upgrade what these answers files stand for, in a working tree that is as HEAD. Raises UpgradeFailed."""
    if any(each.template != source.address for each in outdated):
        outdated = _move(place, outdated, source)
    known = releases.parse(source.read(target, releases.FILE) or "", f"{source.address}, {releases.FILE}")
    news: list[Release] = []
    unmerged: list[str] = []
    carried: list[Carried] = []
    answered: dict[str, Any] = {}
    for each in outdated:
        new = releases.since(known, source.path, each.version or "")
        news += [release for release in new if release not in news]
        carried += _update(place, each, source, target, data, new)
        unmerged += git(place, "ls-files", "--unmerged", "--full-name").splitlines()
        after = answers.load_file(place / each.path.name)
        answered |= {key: after.values[key] for key in after.values.keys() - each.values.keys()}
        _commit(place)
    return Attempt(git(place, "rev-parse", "HEAD^{tree}"), tuple(unmerged), tuple(carried), answered, tuple(news))


def _update(
    place: Path,
    each: Answers,
    source: TemplateRepository,
    target: str,
    data: Mapping[str, Any],
    news: Sequence[Release],
) -> list[Carried]:
    try:
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
        carry_over.keep_options(place)
        if not git(place, "ls-files", "--deleted") and not any(release.renamed_files for release in news):
            return []
        with _rendered(place, each) as base:
            return carry_over.carry(place, base, news, each.values)
    except (CopierError, ValueError, OSError) as error:
        raise UpgradeFailed(f"nothing was changed: {each.path.name}: {_said(error)}") from error


@contextlib.contextmanager
def _rendered(place: Path, each: Answers) -> Iterator[Path]:
    """What the version that HEAD was made from generates."""
    with tempfile.TemporaryDirectory(prefix="piperctl-base-") as directory:
        base = Path(directory, place.name)
        carry_over.render_base(place, each.path.name, base)
        yield base


def _said(error: Exception) -> str:
    """What an error says; several lines stay lines."""
    lines = [line.strip().removeprefix("| ").strip() for line in str(error).strip().splitlines()]
    text = "\n  ".join(line for line in lines if line not in ("", "|"))
    if "Question" in text and "required" in text:
        text += "; answer it: piperctl upgrade --data KEY=VALUE"
    return text


def _commit(place: Path) -> None:
    """Commit all that is there: even what the user ignores, since nobody but git and copier has put it there."""
    git(place, "add", "--all", "--force", "--", ":/")
    git(place, "commit", "--quiet", "--allow-empty", "--no-verify", "--message", "piperctl upgrade")


def _move(place: Path, found: Sequence[Answers], source: TemplateRepository) -> list[Answers]:
    """Have a project name another address of its template, and of the runtime where both came from there.

    It is then as if it had been made from there, and the update finds no difference that is none.
    """
    for each in found:
        file = place / each.path.name
        text = _ANSWER["_src_path"].sub(lambda _: f"_src_path: {source.address}\n", file.read_text())
        if same_repository(str(each.values.get("runtime_from", "")), each.template):
            text = _ANSWER["runtime_from"].sub("", text)  # its default follows the address
        file.write_text(text)
    _commit(place)
    for each in found:
        with _rendered(place, each) as base:
            old = str(each.values.get("runtime_from"))
            new = str(answers.load_file(base / each.path.name).values.get("runtime_from"))
            pairs = {(old, new), (old.removeprefix("git+"), new.removeprefix("git+"))}  # pip's form, and uv's
            for path in (path.relative_to(base) for path in base.rglob("*") if path.is_file()):
                if old != new and (place / path).is_file():
                    for pair in sorted(pairs, reverse=True):
                        _rename(place / path, (base / path).read_bytes(), *map(str.encode, pair))
    _commit(place)
    return [dataclasses.replace(answers.load_file(place / each.path.name), path=each.path) for each in found]


def _rename(file: Path, like: bytes, old: bytes, new: bytes) -> None:
    """Have a file name the new address as `like` does, perhaps with a version. Of the two addresses, one may be the
    beginning of the other.
    """
    end = rb"(?:@[\w./-]+)?(?![\w-]|\.\w)"
    named = re.search(re.escape(new) + end, like)
    if named is None:
        return
    both = b"|".join(re.escape(each) for each in sorted((old, new), key=len, reverse=True))
    data = file.read_bytes()
    changed = re.sub(rb"(?<![\w/:+.-])(?:" + both + rb")" + end, lambda _: named[0], data)
    if changed != data:
        file.write_bytes(changed)


def changed(place: Path, tree: str) -> list[tuple[str, str]]:
    """What would change, from the repository's directory: git's letter for how, and the path."""
    names = listed(place, "diff-tree", "-r", "-z", "--name-status", "--no-renames", "HEAD", tree)
    return list(zip(names[::2], names[1::2], strict=True))
