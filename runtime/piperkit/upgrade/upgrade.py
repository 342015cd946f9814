"""Upgrading a project: template and runtime together, in one step that can be undone.

The new version is worked out beside the user's files (`attempt`), told of (`Report`), and then put into them, staged
and not committed (`journal`). The runtime that the project asks for is part of what the template generates, so its next
`make` installs that.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from piperkit.config import nearest
from piperkit.errors import PiperError, UsageError
from piperkit.project import answers
from piperkit.project.answers import Answers
from piperkit.project.git import GitError, contents, git, listed
from piperkit.project.template_repository import TemplateRepository, same_repository
from piperkit.upgrade import carry_over, consent
from piperkit.upgrade.carry_over import Carried, What
from piperkit.upgrade.pending import CUT_OFF, Pending, Unfinished
from piperkit.upgrade.releases import Release
from piperkit.upgrade.worktree import attempt, changed, worktree

_RUNTIME = re.compile(rb'"piperkit(?:\[[^\]]*\])?\s*([~=!<>][^"]*)"')
_KEY = re.compile(r'^\s*"(\w+)"\s*:', re.MULTILINE)


class NotReady(PiperError):
    """The project cannot be upgraded as it is; the text says what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What an upgrade does to a project. Paths are from the repository's directory."""

    old: str  #: version of the template
    new: str
    runtime: tuple[str, str] | None = None  #: the range of the runtime before and after, where it changes
    changed: tuple[tuple[str, str], ...] = ()  #: git's letter (A, M, D) and the path
    conflicts: tuple[str, ...] = ()
    carried: tuple[Carried, ...] = ()
    answered: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    news: tuple[Release, ...] = ()
    outdated_keys: tuple[str, ...] = ()  #: sentences on keys that the project's configuration sets

    @property
    def hand(self) -> list[str]:
        """What needs the user's hand, in a sentence each."""
        needs = [f"{path} is in conflict: settle what is between <<<<<<< and >>>>>>>" for path in self.conflicts]
        for each in self.carried:
            if each.what is What.KEPT:
                needs.append(f"{each.old} was changed by you and is no longer in the template: keep it or delete it")
            elif each.what is What.TAKEN:
                needs.append(f"{each.old} is called {each.new} now, which was taken: move your changes, and delete it")
        return needs + list(self.outdated_keys)


@dataclasses.dataclass(frozen=True, slots=True)
class Upgrade:
    """An upgrade that was worked out; `pending.apply` does it."""

    report: Report
    pending: Pending


def plan(
    project: Path,
    to: str | None = None,
    address: str | None = None,
    data: Mapping[str, Any] | None = None,
    allow: Callable[[str, Sequence[str]], bool] = lambda address, commands: False,
) -> Upgrade | None:
    """Work out an upgrade to a version, by default the newest; None where there is nothing to do. Changes no file.

    address: where the template is now, if it has moved. data: answers. allow: whether the template of an address may
    execute these commands; asked where there are any, before anything is executed.
    Raises PiperError, whose text says what to do.
    """
    main, *others = answers.load(project)
    found = [main, *(each for each in others if same_repository(each.template, main.template))]
    _check(project)
    with TemplateRepository(address or main.template) as source:
        target = source.target(to) if to else source.newest()
        outdated = _outdated(found, source, target, explicit=to is not None)
        if data or any(each.template != source.address for each in found):
            outdated = found
        if not outdated:
            return None
        _check_data(source, target, data or {})
        commands = consent.commands(source, target, {source.origin(each) for each in outdated})
        if commands and not allow(source.address, commands):
            raise NotReady(
                f"nothing was done: the template {source.address} executes commands in an upgrade, which a look does"
                " not do; piperctl upgrade asks whether it may, and --trust says yes:\n"
                + "\n".join(f"  {command}" for command in commands)
            )
        with worktree(project) as place:
            made = attempt(place, outdated, source, target, data or {})
            pending = Pending(
                git(project, "rev-parse", "--show-toplevel"),
                git(project, "rev-parse", "HEAD"),
                made.tree,
                main.version or "",
                target,
                made.unmerged,
            )
            report = Report(
                pending.old,
                target,
                _runtime(project, made.tree),
                tuple(changed(project, made.tree)),
                tuple(pending.conflicts),
                made.carried,
                made.answered,
                made.news,
                tuple(_outdated_keys(project, made.news)),
            )
    return Upgrade(report, pending)


def _check(project: Path) -> None:
    """Raises NotReady where an upgrade could not be undone."""
    try:
        status = git(project, "status", "--porcelain", "--", ":/")
        git(project, "rev-parse", "--verify", "--quiet", "HEAD")
    except GitError:
        raise NotReady(
            f"{project} is not a git repository with a commit, so an upgrade could not be undone; make it one:"
            " git init && git add --all && git commit --message 'Before the upgrade'"
        ) from None
    pending = Pending.load(project)
    if pending is not None and status and not pending.applied:
        raise Unfinished(CUT_OFF.format(version=pending.new))
    if pending is not None and status:
        raise Unfinished(
            f"the upgrade to {pending.new} is not committed yet; finish it: piperctl upgrade --finish,"
            " or go back to before: piperctl upgrade --abort"
        )
    if status:
        lines = status.splitlines()
        more = f"\n  ... and {len(lines) - 5} more" if len(lines) > 5 else ""
        raise NotReady(
            f"{project} has changes that are not committed; commit them, or put them aside with git stash"
            f" --include-untracked:\n" + "\n".join(f"  {line}" for line in lines[:5]) + more
        )


def _outdated(found: list[Answers], source: TemplateRepository, target: str, *, explicit: bool) -> list[Answers]:
    """Those that are not at the target. Raises UsageError where it would be a way back."""
    wanted = source.commit(target)
    outdated = []
    for each in found:
        if each.version is None:
            raise NotReady(f"{each.path.name} names no version of its template: _commit is missing; copy it anew")
        here = source.origin(each)
        if here == wanted:
            continue
        if source.is_before(wanted, here):
            if explicit:
                raise UsageError(
                    f"{each.path.name} is at {each.version}, which is newer than {target}; there is no way back to an"
                    " older version but git's: git revert the commit of the upgrade"
                )
            continue
        outdated.append(each)
    return outdated


def _check_data(source: TemplateRepository, target: str, data: Mapping[str, Any]) -> None:
    """Raises UsageError for an answer to a question that the template does not ask."""
    asked = [key for key in yaml.safe_load(source.read(target, "copier.yml") or "{}") if not key.startswith("_")]
    for key in data:
        if key not in asked:
            raise UsageError(f"--data {key}: the template asks no such question{nearest(key, asked)}")


def _runtime(project: Path, tree: str) -> tuple[str, str] | None:
    """The range of the runtime before and after, where it changes."""
    path = git(project, "rev-parse", "--show-prefix") + "pyproject.toml"
    ranges = []
    for revision in ("HEAD", tree):
        found = _RUNTIME.search(contents(project, revision, path) or b"")
        ranges.append(found[1].decode() if found else "")
    return (ranges[0], ranges[1]) if ranges[0] != ranges[1] else None


def _outdated_keys(project: Path, news: Sequence[Release]) -> list[str]:
    """What is to be done about keys that the project's configuration files set and that were removed."""
    needs = []
    for file in sorted((project / "etc").glob("**/*.conf")):
        for key in _KEY.findall(file.read_text(encoding="utf-8", errors="replace")):
            name = file.relative_to(project)
            for release in news:
                if key in release.renamed_keys:
                    needs.append(f"{name} sets {key}, which is called {release.renamed_keys[key]} now: rename it there")
                elif key in release.removed_keys:
                    needs.append(f"{name} sets {key}, which was removed: delete it there")
    return needs


# -- after it --------------------------------------------------------------------------------------------------------


def finish(project: Path) -> list[str]:
    """Stage what the user has settled; what is still left to do, in a sentence each. Raises Unfinished."""
    pending = _pending(project)
    if not pending.applied:
        raise Unfinished(CUT_OFF.format(version=pending.new))
    if pending.is_gone():
        raise Unfinished(f"the upgrade to {pending.new} is not in the files any more; begin it anew: piperctl upgrade")
    top = Path(pending.top)
    left = [f"{path} is left by a failed update: settle it, and delete it" for path in _rejects(top)]
    for path in listed(top, "diff", "-z", "--name-only", "--diff-filter=d", pending.head):
        if (top / path).is_file() and carry_over.has_markers(top / path):
            left.append(f"{path} is in conflict: settle what is between <<<<<<< and >>>>>>>")
    if not left:
        git(top, "add", "--update")
    return left


def _rejects(top: Path) -> list[str]:
    return listed(top, "ls-files", "-z", "--cached", "--others", "--", "*.rej")


def abort(project: Path) -> tuple[Pending, str | None]:
    """What the upgrade has changed is as before it. Raises Unfinished where there is none to undo.

    Returns the upgrade, and what git calls the state until then, if somebody has changed it since.
    """
    pending = _pending(project)
    return pending, pending.abort()


def _pending(project: Path) -> Pending:
    pending = Pending.load(project)
    if pending is None:
        raise Unfinished(f"there is no upgrade in {project} that is not committed; git log shows those that are")
    return pending


def run_tests(project: Path) -> bool:
    """Whether the project's own tests succeed, with the runtime that it asks for now; they print what they print."""
    return subprocess.run(["make", "test"], cwd=project, check=False).returncode == 0
