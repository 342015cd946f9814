"""A template's repository: its versions, and what a version of it says."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Self

from piperkit.errors import ExitStatus, PiperError, UsageError
from piperkit.project.git import GitError, contents, git, succeeds

_HOSTS = {"gh:": "https://github.com/", "gl:": "https://gitlab.com/"}
_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")


class NoTemplate(PiperError):
    """The template cannot be reached, or is not the one that the project was made from."""

    exit_status = ExitStatus.UNAVAILABLE


class Source:
    """A copy of a template's repository, which is removed at the end. Raises NoTemplate.

    address: as copier takes it, and as it stands in the answers.
    hint: what to do where it cannot be reached.
    """

    def __init__(
        self, address: str, hint: str = "if it has moved, say where it is now: piperctl upgrade --source ADDRESS"
    ) -> None:
        self.address = address
        self._directory = tempfile.TemporaryDirectory(prefix="piperctl-template-")
        self.path = Path(self._directory.name, "template.git")  # by its end, copier takes it for a repository
        try:
            git(Path("/"), "clone", "--quiet", "--bare", "--", url(address), self.path)
        except GitError as error:
            self._directory.cleanup()
            raise NoTemplate(
                f"the template {address} cannot be reached: {str(error).splitlines()[-1]}; {hint}"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._directory.cleanup()

    def versions(self) -> list[str]:
        """The tags of released versions, oldest first."""
        tags = [tag for tag in git(self.path, "tag", "--list").splitlines() if _VERSION.fullmatch(tag)]
        return sorted(tags, key=version_numbers)

    def newest(self) -> str:
        """The newest released version; HEAD where none was released."""
        return (self.versions() or ["HEAD"])[-1]

    def target(self, version: str) -> str:
        """The tag or commit that somebody means; X.Y.Z stands for vX.Y.Z. Raises UsageError."""
        for name in (version, f"v{version}"):
            if self.has(name):
                return name
        known = ", ".join(self.versions()) or "none is released"
        raise UsageError(f"the template {self.address} has no version {version}; it has: {known}")

    def has(self, revision: str) -> bool:
        """Whether there is such a tag or commit."""
        return succeeds(self.path, "rev-parse", "--quiet", "--verify", "--end-of-options", f"{revision}^{{commit}}")

    def commit(self, revision: str) -> str:
        """The commit that a tag, or what `git describe` says, stands for. Raises NoTemplate."""
        if not self.has(revision):
            raise NoTemplate(
                f"the template {self.address} does not know {revision}, which this project was made from: it is another"
                " template, or its history was rewritten; say where the right one is: piperctl upgrade --source ADDRESS"
            )
        return git(self.path, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")

    def is_before(self, one: str, other: str) -> bool:
        """Whether a commit is an ancestor of another, or that itself."""
        return succeeds(self.path, "merge-base", "--is-ancestor", one, other)

    def read(self, revision: str, path: str) -> str | None:
        """A file of a version; None where it has no such file."""
        data = contents(self.path, revision, path)
        return None if data is None else data.decode("utf-8")


def version_numbers(version: str) -> tuple[int, ...]:
    """What a released version is sorted by."""
    found = _VERSION.fullmatch(version)
    assert found is not None
    return tuple(int(number or 0) for number in found.groups())


def url(address: str) -> str:
    """What git calls the repository that copier calls so."""
    for short, host in _HOSTS.items():
        if address.startswith(short):
            return f"{host}{address.removeprefix(short).strip('/').removesuffix('.git')}.git"
    return os.path.expanduser(address.removeprefix("git+"))


def same_repository(one: str, other: str) -> bool:
    """Whether two addresses, in copier's or pip's form, name one repository."""
    return _bare(one) == _bare(other)


def _bare(address: str) -> str:
    host, colon, path = url(address).rpartition("://")[2].partition(":")
    return f"{host}/{path}".removesuffix(".git") if colon else host.removesuffix(".git")
