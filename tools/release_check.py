"""`make release-check`: versions, changelog, releases.toml, template and migration agree with each other.

Each check yields a sentence for each disagreement: what is wrong, in which file, and what would be right. What a
release has changed in keys and files is compared with the commits, so the history has to be there.
"""

from __future__ import annotations

import itertools
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml
from packaging.version import Version

from piperkit.errors import PiperError
from piperkit.project.git import contents, git, listed, succeeds
from piperkit.upgrade import releases
from piperkit.upgrade.releases import Release
from piperkit.versions import runtime_range

_KNOWN = {"": {"version", "date", "commit", "behaviour", "keys", "files"}, "keys": {"new", "renamed", "removed"},
          "files": {"renamed", "deleted"}}  # fmt: skip
_KEY = re.compile(r'^[\s#]*"(\w+)":', re.MULTILINE)
#: Answers, each of which can be anything.
_ANY: Mapping[str, str] = defaultdict(lambda: "*")
_HEADING = re.compile(r"^## (?:(?P<version>\d\S*), (?P<date>\S+)|Unreleased)$", re.MULTILINE)


class Repository:
    """The repository in a directory: the working tree, and the history behind it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.text = self.read(releases.FILE)
        self.releases = releases.parse(self.text)
        self.released = [release for release in self.releases if release.version]

    def read(self, path: str, revision: str | None = None) -> str:
        """A file of a revision, or of the working tree."""
        if revision is None:
            return (self.root / path).read_text(encoding="utf-8")
        return (contents(self.root, revision, path) or b"").decode()

    def template(self, revision: str | None) -> list[str]:
        """The template's files."""
        arguments = (
            ("ls-tree", "-r", "-z", "--name-only", revision)
            if revision
            else ("ls-files", "-z", "-co", "--exclude-standard")
        )
        return [
            path for path in listed(self.root, *arguments, "--", "template") if revision or (self.root / path).exists()
        ]

    def steps(self) -> Iterator[tuple[str, str | None, Release]]:
        """Each commit of a release, the next one or None for the working tree, and what was released between them."""
        coming = [] if self.releases[-1].version is None else [Release(None)]  # nothing is said to be unreleased
        for before, after in itertools.pairwise([*self.releases, *coming]):
            if before.commit:
                yield before.commit, after.commit, after


def versions(repository: Repository) -> Iterator[str]:
    """pyproject.toml, copier.yml and the newest release name the same version."""
    version = tomllib.loads(repository.read("pyproject.toml"))["project"]["version"]
    newest = repository.released[-1].version
    if version != newest:
        yield f"pyproject.toml has the version {version}, and the newest release in {releases.FILE} is {newest}"
    asked = yaml.safe_load(repository.read("copier.yml"))["runtime_range"]["default"]
    if asked != runtime_range(version):
        yield f"copier.yml: runtime_range is {asked}; with version {version} it must be {runtime_range(version)}"


def entries(repository: Repository) -> Iterator[str]:
    """releases.toml holds what it may hold, in order."""
    found = tomllib.loads(repository.text)
    for table in [*found.pop("release", ()), found.pop("unreleased", {})]:
        for place, known in _KNOWN.items():
            for key in (table.get(place, {}) if place else table).keys() - known:
                yield f"{releases.FILE}: {table.get('version', 'unreleased')} has an unknown key {key}"
    for key in found:
        yield f"{releases.FILE} has an unknown key {key}"
    numbers = [Version(release.version or "") for release in repository.released]
    if numbers != sorted(set(numbers)):
        yield f"{releases.FILE}: the releases are not in order, oldest first"
    for release in repository.releases:
        for sentence in release.behaviour:
            if not re.fullmatch(r"\S.*\.", sentence):
                yield f"{releases.FILE}: {release.version or 'unreleased'}: not a sentence: {sentence!r}"


def commits(repository: Repository) -> Iterator[str]:
    """Each release names its commit, which is in the history and has the tag, where that is there."""
    for release in repository.released:
        tag = f"v{release.version}"
        if not release.date:
            yield f"{releases.FILE}: {release.version} has no date"
        if release.commit is None:
            if release is not repository.releases[-1]:
                yield f"{releases.FILE}: {release.version} has no commit; add what {tag} stands for"
        elif not succeeds(repository.root, "merge-base", "--is-ancestor", release.commit, "HEAD"):
            yield f"{releases.FILE}: the commit {release.commit} of {release.version} is not in the history of HEAD"
        elif succeeds(repository.root, "rev-parse", "--verify", "--quiet", f"refs/tags/{tag}"):
            found = git(repository.root, "rev-parse", f"{tag}^{{commit}}")
            if found != release.commit:
                yield f"{releases.FILE}: {release.version} names {release.commit}, and the tag {tag} is at {found}"


def changelog(repository: Repository) -> Iterator[str]:
    """CHANGELOG.md has a part for each release, with its date, and one for what is not released."""
    found = [(each["version"], each["date"]) for each in _HEADING.finditer(repository.read("CHANGELOG.md"))]
    wanted = [(release.version, release.date) for release in reversed(repository.releases)]
    for version, date in wanted:
        if (version, date) not in found:
            heading = f"## {version}, {date}" if version else "## Unreleased"
            yield f"CHANGELOG.md has no heading '{heading}', and {releases.FILE} has that"
    for version, date in found:
        if (version, date) not in wanted:
            yield f"{releases.FILE} lacks what CHANGELOG.md has: {f'{version}, {date}' if version else 'unreleased'}"
    if [each for each in found if each in wanted] != [each for each in wanted if each in found]:
        yield "CHANGELOG.md: the releases are not in order, newest first"


def keys(repository: Repository) -> Iterator[str]:
    """Each release names the configuration keys that the template's configuration file has gained and lost."""
    for before, after, release in repository.steps():
        old, new = _keys(repository, before), _keys(repository, after)
        name = release.version or "unreleased"
        named = {*release.new_keys, *release.renamed_keys.values()}, {*release.removed_keys, *release.renamed_keys}
        for word, real, said in (("new", new - old, named[0]), ("removed or renamed", old - new, named[1])):
            for key in sorted(real - said):
                yield f"{releases.FILE}: {name}: the key {key} is {word}, and is not listed"
            for key in sorted(said - real):
                yield f"{releases.FILE}: {name}: the key {key} is listed as {word}, and is not"


def _keys(repository: Repository, revision: str | None) -> set[str]:
    files = [path for path in repository.template(revision) if path.endswith("/etc/{{ daemon_name }}.conf.jinja")]
    return {key for path in files for key in _KEY.findall(repository.read(path, revision))}


def files(repository: Repository) -> Iterator[str]:
    """Each release names the files of a generated project that it has renamed or deleted."""
    for before, after, release in repository.steps():
        old, new = _files(repository, before), _files(repository, after)
        name = release.version or "unreleased"
        lost = {path for path in old if not _is_among(path, new)}
        for path in sorted(lost):
            if not _is_among(releases.renamed(path, [release], _ANY), new) and not releases.is_deleted(path, [release]):
                yield f"{releases.FILE}: {name}: the template's file {path} is no more, and is not listed"
        for path in [*release.renamed_files, *release.deleted_files]:
            if path not in lost:
                yield f"{releases.FILE}: {name}: {path} is listed as renamed or deleted, and is not"


def _is_among(path: str, files: set[str]) -> bool:
    """Whether one of the files can be called so."""
    return any(re.fullmatch("[^/]*".join(map(re.escape, file.split("*"))), path) for file in files)


def _files(repository: Repository, revision: str | None) -> set[str]:
    """The files of a generated project; * stands for what the answers decide."""
    parts = "{{" in yaml.safe_load(repository.read("copier.yml", revision))["_subdirectory"]
    found = set()
    for path in repository.template(revision):
        path = path.replace("{{ _copier_conf.answers_file }}", ".copier-answers.yml")
        path = re.sub(r"\{%.*?%\}", "", path.removeprefix("template/").removesuffix(".jinja"))
        path = re.sub(r"(\{\{.*?\}\})+", "*", path)
        found.add(path.partition("/")[2] if parts else path)
    return found


def migration(repository: Repository) -> Iterator[str]:
    """The migration in copier.yml meets whoever comes from before the newest release that needs it: one that renames or
    deletes files, or has other options for the components that it makes.
    """
    needing = None
    for (last, each), (before, after, _) in zip(
        itertools.pairwise(repository.releases), repository.steps(), strict=False
    ):
        revisions = [before, after] if after else [before]
        # Those of a kind that is new are nobody's yet.
        changed = ["diff", "--exit-code", "--diff-filter=a", *revisions, "--", "template/kinds/*/keys.conf.jinja"]
        options = succeeds(repository.root, *changed)
        if each.renamed_files or each.deleted_files or not options:
            needing = last, each
    if needing is None:
        return
    last, each = needing
    for found in yaml.safe_load(repository.read("copier.yml")).get("_migrations", ()):
        if Version(str(found["version"])) == Version(f"{last.version}.post0"):
            return
    name = each.version or "what is unreleased"
    yield (
        f"copier.yml: {name} renames or deletes files, or changes options of components;"
        f" the version of the migration must be {last.version}.post0"
    )


CHECKS = (entries, versions, commits, changelog, keys, files, migration)


def main(root: Path) -> int:
    """Print what disagrees; the exit status."""
    try:
        repository = Repository(root)
        found = []
        for check in CHECKS:
            found += check(repository)
            if check is commits and found:
                break  # what follows compares with them
    except PiperError as error:
        found = [str(error)]
    for problem in found:
        print(problem, file=sys.stderr)
    if not found:
        print(f"Versions, changelog, {releases.FILE} and template agree.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parents[1]))
