"""What each release of runtime and template brings, as the template's repository says in `releases.toml`.

The file at one release tells of that release and all before it, so whoever goes from one version to another reads the
newer one's. It may have been written for a later version of this program: what is not known here is left alone.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from piperkit.errors import PiperError
from piperkit.project.git import contents, succeeds

FILE = "releases.toml"


class BadReleases(PiperError):
    """The list of releases cannot be read; the text says what is wrong with it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Release:
    """One release, or what comes in the next one."""

    version: str | None  #: X.Y.Z; None: not released yet
    date: str | None = None
    commit: str | None = None  #: None for the newest, which cannot name its own
    behaviour: tuple[str, ...] = ()  #: sentences
    new_keys: tuple[str, ...] = ()
    renamed_keys: dict[str, str] = dataclasses.field(default_factory=dict)
    removed_keys: tuple[str, ...] = ()
    renamed_files: dict[str, str] = dataclasses.field(default_factory=dict)
    deleted_files: tuple[str, ...] = ()

    @classmethod
    def of(cls, table: dict[str, Any]) -> Self:
        """From its table in the file. Raises KeyError, TypeError and ValueError."""
        keys, files = table.get("keys", {}), table.get("files", {})
        return cls(
            version=str(table["version"]) if "version" in table else None,
            date=str(table["date"]) if "date" in table else None,
            commit=str(table["commit"]) if "commit" in table else None,
            behaviour=tuple(map(str, table.get("behaviour", ()))),
            new_keys=tuple(map(str, keys.get("new", ()))),
            renamed_keys=dict(keys.get("renamed", {})),
            removed_keys=tuple(map(str, keys.get("removed", ()))),
            renamed_files=dict(files.get("renamed", {})),
            deleted_files=tuple(map(str, files.get("deleted", ()))),
        )


def parse(text: str, where: str = FILE) -> list[Release]:
    """The releases, oldest first, and what is not released yet at the end. Raises BadReleases."""
    try:
        found = tomllib.loads(text)
        releases = [Release.of(table) for table in found.get("release", ())]
        if "unreleased" in found:
            releases.append(Release.of(found["unreleased"]))
    except (ValueError, TypeError, AttributeError) as error:
        raise BadReleases(f"{where} is not a list of releases: {error}") from error
    return releases


def since(releases: Iterable[Release], repository: Path, old: str) -> list[Release]:
    """Those that a project made from the commit `old` has not had yet.

    repository: a clone of the template's, with its history.
    """
    then = contents(repository, old, FILE)
    had = set() if then is None else {release.version for release in parse(then.decode())}
    return [release for release in releases if not _had(release, repository, old, had)]


def _had(release: Release, repository: Path, old: str, had: set[str | None]) -> bool:
    if release.commit is None:
        return release.version is not None and release.version in had
    return succeeds(repository, "merge-base", "--is-ancestor", release.commit, old)


def renamed(path: str, releases: Iterable[Release], answers: Mapping[str, Any]) -> str:
    """What a file of a project with these answers is called after these releases; the same where it was not renamed."""
    for release in releases:
        for old, new in release.renamed_files.items():
            found = _pattern(old).fullmatch(path)
            if found:
                first, *others = (part.format_map(answers) for part in new.split("*"))
                path = first + "".join(map("".join, zip(found.groups(), others, strict=True)))
                break
    return path


def is_deleted(path: str, releases: Iterable[Release]) -> bool:
    """Whether one of these releases has deleted a file of a generated project."""
    return any(_pattern(deleted).fullmatch(path) for release in releases for deleted in release.deleted_files)


def _pattern(path: str) -> re.Pattern[str]:
    """A path in which each * stands for a part of one name."""
    return re.compile("([^/]+)".join(map(re.escape, path.split("*"))))
