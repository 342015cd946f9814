"""A component or a daemon more, in a project that is there.

What is added is rendered by itself, from the version of the template that the project is at, and then laid beside what
is there: no file is ever replaced. One line is added to one file, the command of a daemon to pyproject.toml. An answers
file of its own remembers it, so it is updated by itself.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from piperkit.config import nearest
from piperkit.errors import ExitStatus, PiperError, UsageError
from piperkit.project import answers as answers_files
from piperkit.project.answers import Answers
from piperkit.project.rendering import check_names, questions, render

#: Answers of the project that hold for a daemon of it, too.
_SHARED = ("systemd", "metrics", "network", "database")
_SCRIPTS = re.compile(r"^\[project\.scripts\]\n(?:.*\S.*\n?)*", re.MULTILINE)


class InTheWay(PiperError):
    """Something of that name is there already; nothing was added."""

    exit_status = ExitStatus.CANNOT_CREATE


@dataclasses.dataclass(frozen=True, slots=True)
class Added:
    """What was added, as the user needs to know it for the rest."""

    files: list[str]  #: new ones, from the project's directory
    daemon: str
    package: str  #: of that daemon
    module: str = ""  #: of a component
    class_name: str = ""
    script: str | None = None  #: the line that is missing in pyproject.toml, where it could not be added
    needs: str = ""  #: a requirement of it that the project has to name among its own


def daemons(project: list[Answers]) -> list[str]:
    """The names of a project's daemons, the first one first."""
    return [each.values["daemon_name"] for each in project if each.values.get("part", "project") != "component"]


def component(
    project: Path, name: str, answers: Mapping[str, Any], *, daemon: str | None = None, version: str | None = None
) -> Added:
    """Add a component, its test and its answers file; the daemon does not use it yet.

    daemon: whose package gets it; None where there is only one. version: of the template; None: the project's.

    Raises NoProject, UsageError, InTheWay; then nothing is added.
    """
    found = answers_files.load(project)
    known = daemons(found)
    if daemon is None and len(known) > 1:
        raise UsageError(f"this project has several daemons; say which one gets it: --daemon {'|'.join(known)}")
    daemon = daemon or known[0]
    if daemon not in known:
        raise UsageError(f"this project has no daemon {daemon}{nearest(daemon, known)}; it has: {', '.join(known)}")
    given = {"part": "component", "daemon_name": daemon, "component_name": name, **answers}
    files, needs = _add(project, found[0], name, given, version)
    class_name = "".join(word.capitalize() for word in name.split("-"))
    return Added(files, daemon, daemon.replace("-", "_"), name.replace("-", "_"), class_name, needs=needs)


def daemon(project: Path, name: str, answers: Mapping[str, Any], *, version: str | None = None) -> Added:
    """Add a daemon: package, configuration, tests, answers file, what else the project's daemons have, its command.

    Raises as `component`.
    """
    found = answers_files.load(project)
    shared = {key: found[0].values[key] for key in _SHARED if key in found[0].values}
    given = {"part": "daemon", "daemon_name": name, **shared, **answers}
    files, needs = _add(project, found[0], name, given, version)
    package = name.replace("-", "_")
    line = f'{name} = "{package}.daemon:main"'
    script = None if _add_script(project / "pyproject.toml", name, line) else line
    return Added(files, name, package, script=script, needs=needs)


def _add(
    project: Path, main: Answers, name: str, given: Mapping[str, Any], version: str | None
) -> tuple[list[str], str]:
    """Render a part, and lay it beside what is there; returns its files, and a requirement that is not named yet."""
    version = version or main.version
    known = questions(main.template, version)
    if "part" not in known:
        raise UsageError(f"the template {version} of this project cannot add to it; first: piperctl upgrade {project}")
    check_names(given, known)
    answers_file = f".copier-answers.{name}.yml"
    if (project / answers_file).exists():
        raise InTheWay(f"{project / answers_file} is there already: the project has a {name}; choose another name")
    with tempfile.TemporaryDirectory(prefix="piperctl-add-") as directory:
        part = Path(directory, project.resolve().name or "project")
        needs = render(main.template, version, part, given, answers_file=answers_file).get("needs", "")
        files = sorted(str(path.relative_to(part)) for path in part.rglob("*") if path.is_file())
        there = [file for file in files if (project / file).exists()]
        if there:
            raise InTheWay(f"{project / there[0]} is there already, and would be replaced; choose another name")
        for file in files:
            (project / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(part / file, project / file)
    return files, "" if needs and needs in (project / "pyproject.toml").read_text(encoding="utf-8") else needs


def _add_script(path: Path, name: str, line: str) -> bool:
    """Add a line to the table project.scripts of pyproject.toml, and nothing else; returns whether it is there."""
    try:
        text = path.read_text(encoding="utf-8")
        before = tomllib.loads(text)
        if name in before["project"]["scripts"]:
            return True
        new = _SCRIPTS.sub(lambda table: table[0].rstrip("\n") + f"\n{line}\n", text, count=1)
        after = tomllib.loads(new)
        if after["project"]["scripts"].pop(name, None) is None or after != before:
            return False
    except (OSError, ValueError, KeyError, TypeError):
        return False  # the user has arranged it otherwise, and is told what to add
    path.write_text(new, encoding="utf-8")
    return True
