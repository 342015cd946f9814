"""What a project remembers of the template: the answers that it was made with, in .copier-answers*.yml.

The project has one such file, and each component or daemon that was added later has one of its own, so each is updated
by itself. Copier comes with the extra `template`; without it there is one clear error.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from piperkit.errors import ExitStatus, PiperError

#: The project's own answers.
MAIN = ".copier-answers.yml"
_PATTERN = ".copier-answers*.yml"


class NoCopier(PiperError):
    """The package copier is not installed."""

    exit_status = ExitStatus.UNAVAILABLE


class NoProject(PiperError):
    """A directory is not a project that was made from the template; the text says what it lacks."""

    exit_status = ExitStatus.NO_INPUT


def load_copier() -> ModuleType:
    """The package copier, which keeps the environment that it is imported in. Raises NoCopier."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"):
        os.environ.pop(name, None)  # git sets them for its hooks; they would name another repository than the one meant
    try:
        import copier
    except ImportError:
        raise NoCopier("this needs copier; install it with: pip install 'piperkit[template]'") from None
    return copier


@dataclasses.dataclass(frozen=True, slots=True)
class Answers:
    """One answers file."""

    path: Path
    values: dict[str, Any]

    @property
    def template(self) -> str:
        """Where the template is, as copier takes it."""
        return str(self.values["_src_path"])

    @property
    def version(self) -> str | None:
        """The version of the template, a tag or what `git describe` says; None where it has none."""
        found = self.values.get("_commit")
        return None if found is None else str(found)


def load(project: Path) -> list[Answers]:
    """The answers files of a project, its own first. Raises NoProject."""
    if not (project / MAIN).is_file():
        raise NoProject(f"{project} was not made from the template: it has no {MAIN}; name a project's directory")
    others = sorted(path for path in project.glob(_PATTERN) if path.name != MAIN)
    return [load_file(path) for path in (project / MAIN, *others)]


def load_file(path: Path) -> Answers:
    """One answers file. Raises NoProject."""
    import yaml  # copier brings it

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NoProject(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict) or "_src_path" not in values:
        raise NoProject(f"{path} does not say which template it is from: _src_path is missing")
    return Answers(path, values)
