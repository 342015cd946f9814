"""An upgrade that is in the user's files and not committed yet: how it came there, and the way back.

What goes back is noted in the repository's own directory before anything is changed, so there is a way back from an
upgrade that was cut off, too. Once the user has committed, it is history like any other, and git's to undo.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Self

from piperkit.daemon.runlog import write_json
from piperkit.errors import PiperError
from piperkit.project.git import GitError, git, listed

_NOTE = "piperctl-upgrade.json"


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

    @classmethod
    def load(cls, project: Path) -> Self | None:
        """The upgrade that is in the files; None where there is none, or it was committed."""
        try:
            found = json.loads(_note(project).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        pending = cls(**{**found, "unmerged": tuple(found["unmerged"])})
        return pending if git(project, "rev-parse", "HEAD") == pending.head else None

    @property
    def conflicts(self) -> list[str]:
        """The files in conflict, from the repository's directory."""
        return sorted({line.split("\t", 1)[1] for line in self.unmerged})

    def apply(self) -> None:
        """Put it into the files and the index; all of it, or nothing where a file is in the way. Raises PiperError."""
        top = Path(self.top)
        for path in self._added():  # git would not see one that it ignores
            if os.path.lexists(top / path):
                raise PiperError(f"nothing was changed: {path} is in the way of the template's file; move it away")
        note = _note(top)
        write_json(str(note), dataclasses.asdict(self))
        try:
            git(top, "read-tree", "-m", "-u", self.head, self.tree)
        except GitError:
            note.unlink()
            raise
        if self.unmerged:
            stages = [f"0 {'0' * 40}\t{path}" for path in self.conflicts] + list(self.unmerged)
            git(top, "update-index", "--index-info", stdin=os.fsencode("".join(f"{line}\n" for line in stages)))

    def abort(self) -> None:
        """Files and index are as before the upgrade; what was changed since then is lost. Idempotent."""
        top = Path(self.top)
        git(top, "read-tree", "--reset", "-u", self.head)
        for path in self._added():  # what is in conflict and was not there before, git leaves
            file = top / path
            file.unlink(missing_ok=True)
            for directory in file.parents:
                if directory == top or not _removed(directory):
                    break
        _note(top).unlink()

    def _added(self) -> list[str]:
        """The files that were not there before."""
        top = Path(self.top)
        return listed(top, "diff-tree", "-r", "-z", "--name-only", "--diff-filter=A", self.head, self.tree)


def _note(project: Path) -> Path:
    return Path(project, git(project, "rev-parse", "--git-path", _NOTE))


def _removed(directory: Path) -> bool:
    """Whether a directory is not there, or not any more, since it was empty."""
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
