"""Git, for tests of what is kept in it: with an identity, and without the settings and hooks of whoever runs them."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SETTINGS = ("user.name=A User", "user.email=user@example.org", "core.hooksPath=/dev/null", "commit.gpgSign=false")


def git(directory: Path, *arguments: str | Path) -> str:
    """Run git there, and return what it prints."""
    settings = (part for each in _SETTINGS for part in ("-c", each))
    command = ["git", "-C", str(directory), *settings, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.removesuffix("\n")


def commit_all(directory: Path, text: str, tag: str | None = None) -> None:
    """Commit everything that is there, if only the message is new, and tag it."""
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--allow-empty", "--message", text)
    if tag:
        git(directory, "tag", tag)


def pack(directory: Path) -> None:
    """Put its objects, a file each, into one file: a clone or a copy is as quick as that of a repository in use."""
    git(directory, "repack", "-a", "-d", "--quiet")
