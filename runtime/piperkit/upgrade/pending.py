"""An upgrade that is in the user's files and not committed yet: how it came there, and the way back.

What goes back is noted in the repository's own directory before anything is changed, so there is a way back from an
upgrade that was cut off, too. Once the user has committed, it is history like any other, and git's to undo.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from piperkit.daemon.runlog import write_json
from piperkit.errors import PiperError
from piperkit.project.git import GitError, git, listed, succeeds

_NOTE = "piperctl-upgrade.json"
#: Where what was in the files before an upgrade was taken back is kept.
KEPT = "refs/piperctl/aborted"
CUT_OFF = (
    "the upgrade to {version} was cut off, and only a part of it is in the files; go back to before, and begin anew:"
    " piperctl upgrade --abort && piperctl upgrade"
)


class Unfinished(PiperError):
    """There is an upgrade in the files already, or there is none; the text says what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pending:
    """An upgrade in the user's files."""

    top: str  #: the repository's directory
    head: str  #: the commit before it
    tree: str  #: what it made, as a tree of git
    old: str  #: version of the template before
    new: str  #: and after
    unmerged: tuple[str, ...] = ()  #: what `git ls-files --unmerged` says of the files in conflict
    applied: bool = True  #: all of it is in the files; otherwise it was cut off

    @classmethod
    def load(cls, project: Path) -> Self | None:
        """The upgrade that is in the files; None where there is none, or it was committed, or what it is about was."""
        try:
            found = json.loads(_note(project).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        pending = cls(**{**found, "unmerged": tuple(found["unmerged"])})
        if not succeeds(project, "merge-base", "--is-ancestor", pending.head, "HEAD"):
            return None
        committed = git(project, "diff", "--name-only", "-z", "--no-renames", pending.head, "HEAD")
        return None if set(committed.split("\0")) & set(pending._touched()) else pending

    @property
    def conflicts(self) -> list[str]:
        """The files in conflict, from the repository's directory."""
        return sorted({line.split("\t", 1)[1] for line in self.unmerged})

    def apply(self) -> None:
        """Put it into the files and the index; all of it, or nothing where a file is in the way. Raises PiperError."""
        top = Path(self.top)
        known = set(listed(top, "ls-tree", "-r", "-t", "-z", "--name-only", self.head))
        for path in self._added():  # git would not see what it ignores
            for place in (path, *list(map(str, Path(path).parents))[:-1]):
                there = top / place
                if place not in known and os.path.lexists(there) and (place == path or not _is_directory(there)):
                    raise PiperError(f"nothing was changed: {place} is in the way of the template's; move it away")
        note = _note(top)
        write_json(str(note), dataclasses.asdict(dataclasses.replace(self, applied=False)))
        try:
            git(top, "read-tree", "-m", "-u", self.head, self.tree)
        except GitError as error:
            if self.is_gone():
                note.unlink()
                raise
            raise Unfinished(f"{error}\n{CUT_OFF.format(version=self.new)}") from error
        if self.unmerged:
            stages = [f"0 {'0' * 40}\t{path}" for path in self.conflicts] + list(self.unmerged)
            git(top, "update-index", "--index-info", stdin=os.fsencode("".join(f"{line}\n" for line in stages)))
        write_json(str(note), dataclasses.asdict(self))

    def abort(self) -> str | None:
        """What the upgrade has changed is as before it, in files and index; all else is left alone. Idempotent.

        Returns what git calls the state until then, which is kept, if somebody has changed it since.
        """
        top = Path(self.top)
        kept = self._keep()
        added = set(self._added())
        touched = self._touched()
        if touched:
            names = ("--pathspec-from-file=-", "--pathspec-file-nul")
            git(top, "reset", "--quiet", self.head, *names, stdin=_ended(touched))
        git(top, "checkout-index", "--force", "-z", "--stdin", stdin=_ended(set(touched) - added))
        for path in added:
            file = top / path
            if not _is_directory(file):
                file.unlink(missing_ok=True)
            for directory in file.parents:
                if directory == top or not _removed(directory):
                    break
        _note(top).unlink()
        return kept

    def _keep(self) -> str | None:
        """Keep the files that the upgrade has changed, as they are now, where that is not what it has made of them."""
        top = Path(self.top)
        with tempfile.TemporaryDirectory(prefix="piperctl-abort-") as directory:
            index = {"GIT_INDEX_FILE": f"{directory}/index"}
            git(top, "read-tree", self.tree, environment=index)
            names = _ended(self._touched())
            git(top, "update-index", "--add", "--remove", "-z", "--stdin", stdin=names, environment=index)
            tree = git(top, "write-tree", environment=index)
        if tree in (self.tree, git(top, "rev-parse", f"{self.head}^{{tree}}")):
            return None
        commit = git(top, "commit-tree", "-p", self.head, "-m", "Before piperctl upgrade --abort", tree)
        git(top, "update-ref", KEPT, commit)
        return KEPT

    def is_gone(self) -> bool:
        """Whether the files are as before it: somebody has taken it back by other means."""
        if any(os.path.lexists(Path(self.top, path)) for path in self._added()):
            return False
        return succeeds(Path(self.top), "diff", "--quiet", self.head, "--", *self._touched())

    def _touched(self, kinds: str = "AMDT") -> list[str]:
        """The files that it changes; kinds: git's letters for how."""
        options = ("-r", "-z", "--name-only", "--no-renames", f"--diff-filter={kinds}")
        return listed(Path(self.top), "diff-tree", *options, self.head, self.tree)

    def _added(self) -> list[str]:
        """The files that were not there before."""
        return self._touched("A")


def _ended(paths: Iterable[str]) -> bytes:
    """Names as git reads them with -z."""
    return b"".join(os.fsencode(path) + b"\0" for path in paths)


def _note(project: Path) -> Path:
    return Path(project, git(project, "rev-parse", "--git-path", _NOTE))


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _removed(directory: Path) -> bool:
    """Whether a directory is not there, or not any more, since it was empty."""
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
