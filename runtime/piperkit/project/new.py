"""A new project: `copier copy` with good manners. What is in the way is said before anything is asked or written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from piperkit.errors import ExitStatus, PiperError
from piperkit.project import answers as answers_files
from piperkit.project.git import GitError, git, succeeds
from piperkit.project.rendering import check_names, questions, render

_NOBODY = ("piperctl", "piperctl@localhost")


class BadTarget(PiperError):
    """No project can be made in a directory; the text says why, and what to do."""

    exit_status = ExitStatus.CANNOT_CREATE


def make(
    target: Path,
    answers: Mapping[str, Any],
    *,
    template: str,
    version: str | None = None,
    defaults: bool = True,
    inside: bool = False,
) -> answers_files.Answers:
    """Make a project in a directory that is not there or empty; returns what it remembers.

    template, version: as copier takes them; None: the newest release. defaults: ask nothing.
    inside: the directory may be in a git repository, as a part of that.

    Raises BadTarget, NoTemplate, UsageError; then nothing is left in the directory.
    """
    check_target(target, inside=inside)
    check_names(answers, questions(template, version))
    render(template, version, target, answers, defaults=defaults)
    return answers_files.load_file(target / answers_files.MAIN)


def check_target(target: Path, *, inside: bool = False) -> None:
    """Raises BadTarget where a project cannot be made there, or would be in the way of others."""
    if not target.parent.is_dir():
        raise BadTarget(f"{target.parent} is not a directory; make it first: mkdir -p {target.parent}")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise BadTarget(f"{target} is there already, and is not a directory; name another")
    if target.is_dir() and any(target.iterdir()):
        if (target / answers_files.MAIN).exists():
            raise BadTarget(f"{target} is a project already; for a newer template: piperctl upgrade {target}")
        raise BadTarget(f"{target} is not empty; name a directory that is not there yet")
    if not os.access(target if target.is_dir() else target.parent, os.W_OK | os.X_OK):
        raise BadTarget(f"{target.parent} may not be written to by this user")
    where = target if target.is_dir() else target.parent
    if not inside and succeeds(where, "rev-parse", "--is-inside-work-tree"):
        top = git(where, "rev-parse", "--show-toplevel")
        raise BadTarget(
            f"{target} is inside the git repository {top}; name a directory outside of it, or say --inside to make"
            " the project a part of that repository"
        )


def first_commit(project: Path, title: str) -> str | None:
    """Make a git repository of a project, with its first commit. Hooks do not run, and nothing is signed.

    Returns None; where git does not know who its user is, the name and address that it was made with instead.
    Raises GitError.
    """
    git(project, "init", "--quiet", "--initial-branch=main")
    git(project, "add", "--all")
    who = [_configured(project, f"user.{key}") for key in ("name", "email")]
    known = all(who)
    name, email = who if known else _NOBODY
    git(project, "-c", f"user.name={name}", "-c", f"user.email={email}", "commit", "--quiet", "--message", title)
    return None if known else f"{name} <{email}>"


def _configured(project: Path, key: str) -> str:
    """What the user's own configuration, or the environment, says."""
    variable = f"GIT_AUTHOR_{key.rpartition('.')[2].upper()}"
    if os.environ.get(variable):
        return os.environ[variable]
    try:
        found = git(project, "config", "--show-scope", "--get-all", key).splitlines()
    except GitError:
        return ""
    own = [line.partition("\t")[2] for line in found if not line.startswith("command\t")]  # that is what we say to git
    return own[-1] if own else ""
