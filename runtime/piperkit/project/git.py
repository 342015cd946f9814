"""git, as far as projects need it. Hooks of the user's do not run, and nothing is signed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from piperkit.errors import PiperError

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",  # which would be a program, too
    "core.quotePath=false",  # names as they are
    "commit.gpgSign=false",
    "user.name=piperctl",
    "user.email=piperctl@localhost",
)


class GitError(PiperError):
    """git has failed; the text says at what, and what git said."""


def git(
    where: Path, *arguments: str | Path, stdin: bytes | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """What a git command prints, without the last line end. Raises GitError."""
    return os.fsdecode(git_bytes(where, *arguments, stdin=stdin, more=environment)).removesuffix("\n")


def git_bytes(
    where: Path,
    *arguments: str | Path,
    stdin: bytes | None = None,
    good: range = range(1),
    more: Mapping[str, str] | None = None,
) -> bytes:
    """What a git command prints, whose exit status is a good one; `more`: for its environment. Raises GitError."""
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    command = ["git", "-C", str(where), *settings, *map(str, arguments)]
    environment = {**os.environ, "LC_ALL": "C", **(more or {})}
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, env=environment, check=False)
    except FileNotFoundError:
        raise GitError("this needs git; install the package git") from None
    if done.returncode not in good:
        said = done.stderr.decode(errors="backslashreplace").strip() or f"status {done.returncode}"
        raise GitError(f"git {arguments[0]} failed in {where}: {said}")
    return done.stdout


def succeeds(where: Path, *arguments: str | Path) -> bool:
    """Whether a git command that only asks says yes."""
    try:
        git_bytes(where, *arguments)
    except GitError:
        return False
    return True


def listed(where: Path, *arguments: str | Path) -> list[str]:
    """The names that a git command prints with -z."""
    return [name for name in git(where, *arguments).split("\0") if name]


def contents(where: Path, revision: str, path: str) -> bytes | None:
    """A file in a revision, its path from the top of the repository; None where that has no such file."""
    try:
        return git_bytes(where, "cat-file", "blob", f"{revision}:{path}")
    except GitError:
        return None
