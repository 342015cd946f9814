"""A template's repository: its versions, and what a version of it says."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from shlex import quote
from typing import Self
from urllib.parse import unquote

from piperkit.errors import ExitStatus, PiperError, UsageError
from piperkit.project.answers import Answers
from piperkit.project.git import GitError, contents, git, succeeds

_HOSTS = {"gh:": "https://github.com/", "gl:": "https://gitlab.com/"}
#: A commit without a tag, as `git describe --tags --always` calls it.
_DESCRIBED = re.compile(r"(?:(?P<tag>.+)-\d+-g)?[0-9a-f]{7,40}")
_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")


class NoTemplate(PiperError):
    """The template cannot be reached, or is not the one that the project was made from."""

    exit_status = ExitStatus.UNAVAILABLE


class UncommittedTemplate(NoTemplate):
    """A project was made from a checkout of the template with changes that nobody has committed."""

    def __init__(self, answers: Answers, address: str, version: str) -> None:
        file, where = quote(str(answers.path)), quote(str(answers.path.parent))
        self.problem = (
            f"{answers.path.name} names {answers.version}, which the template {address} does not have: it was"
            f" made from a checkout near {version}, with changes that were not committed or are gone"
        )
        self.mend = (  #: a command
            f"sed -i 's/^_commit: .*/_commit: {version}/' {file}"
            f" && git -C {where} commit --message 'The template is {version}' {answers.path.name}"
        )
        super().__init__(f"{self.problem}; have it go on from {version}, with these changes as yours: {self.mend}")


class TemplateRepository:
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

    def origin(self, answers: Answers) -> str:
        """The commit that a project, or a part of it, was made from. Raises NoTemplate, UncommittedTemplate."""
        version = answers.version or ""
        if not self.has(version) and (near := self._near(answers)):
            raise UncommittedTemplate(answers, self.address, near)
        return self.commit(version)

    def _near(self, answers: Answers) -> str | None:
        """A version not long before one that nobody has; None where it cannot be told, as in another template."""
        described = _DESCRIBED.fullmatch(answers.version or "")
        if described is None:
            return None
        if described["tag"]:
            return described["tag"] if self.has(described["tag"]) else None
        if not os.path.isdir(url(self.address)):
            return None  # only a checkout can have what is not committed
        try:
            when = git(answers.path.parent, "log", "-1", "--format=%cI", "--", answers.path.name)
        except GitError:
            return None
        return git(self.path, "rev-list", "-1", f"--before={when}", "HEAD") if when else None

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
    _, scheme, rest = url(address).rpartition("://")
    host, colon, path = (unquote(rest) if scheme else rest).partition(":")
    return f"{host}/{path}".removesuffix(".git") if colon else host.removesuffix(".git")
