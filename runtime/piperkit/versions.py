"""Which projects a runtime works with: those that a template of its own series has made.

Runtime and template are released together, under one version. Before 1.0 a series is 0.MINOR. From then on it is MAJOR,
and the template must not be newer than the runtime. That is the range that a generated project asks pip for, too.
"""

from __future__ import annotations

import re
import shlex

from piperkit.errors import ExitStatus, PiperError


class VersionMismatch(PiperError):
    """The template of a project and the runtime that is installed do not go together; the text says what to do."""

    exit_status = ExitStatus.CONFIG  # starting again cannot help

    def __init__(self, problem: str, where: str, mend: str) -> None:
        super().__init__(f"{problem}; {where}: {mend}")
        self.problem = problem
        self.mend = mend  #: a command


def series(version: str) -> tuple[int, int]:
    """MAJOR and MINOR of a version. Raises ValueError."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    if found is None:
        raise ValueError(f"{version!r} is not a version such as 0.1")
    return int(found[1]), int(found[2])


def runtime_range(template: str) -> str:
    """The versions of the runtime that go with a template, as pip takes them."""
    major, minor = series(template)
    # A candidate comes before its release, so it is named itself; then pip takes candidates at all.
    least = template.removeprefix("v") if re.search(r"\d(?:a|b|rc)\d", template) else f"{major}.{minor}"
    return f">={least},<0.{minor + 1}" if major == 0 else f">={least},<{major + 1}"


def check(template: str, runtime: str, checkout: str | None) -> None:
    """Raises VersionMismatch where they do not go together, with the command that mends it.

    checkout: the project's directory, where it runs from there; None: it is installed.
    """
    made, here = series(template), series(runtime)
    if here >= made and (here == made if here[0] == 0 else here[0] == made[0]):
        return
    word = "older" if here < made else "newer"
    mend = "make wheels && sudo make install" if checkout is None else f"make -C {shlex.quote(checkout)} clean test"
    if here > made:
        mend = f"piperctl upgrade {shlex.quote(checkout)}" if checkout else f"piperctl upgrade && {mend}"
    raise VersionMismatch(
        f"it was made by template {template}, for piperkit{runtime_range(template)}, and runs with piperkit {runtime},"
        f" which is {word}",
        "mend that with" if checkout else "in its project",
        mend,
    )
