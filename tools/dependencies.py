"""Write docs/dependencies.md anew: what the runtime needs, what that needs, and under which licences.

Run it after a change to the dependencies in pyproject.toml: .venv/bin/python tools/dependencies.py
"""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "dependencies.md"
#: Extras of those who work on piperkit, not of those who use it.
OURS = {"dev", "docs"}
HEAD = """# Dependencies and their licences

<!-- Written by tools/dependencies.py from pyproject.toml and what is installed: change that, and run it. -->

piperkit has the MIT licence. The directory queue, `piperkit.dirq`, needs Python's standard library only; a daemon
needs the first table; each extra adds its own. `make dist` publishes none of them, the Debian package and a project's
container image contain what they need, each with its licence.

Two of them are not permissive: psycopg (LGPL) is used as a library, unchanged; and copier, which only `piperctl new`,
`add` and `upgrade` start, brings jinja2-ansible-filters (GPL). A daemon whose queues are directories has neither.
"""
#: Where metadata has words instead of an expression of SPDX.
_NAMES = {
    "": None,
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "BSD": None,
    "BSD License": "BSD",
    "GPL3": "GPL-3.0",
    "ISC License": "ISC",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}


def licence(name: str) -> str:
    """The licence of an installed package, as its metadata has it: expression, field, or classifier."""
    metadata = importlib.metadata.metadata(name)
    classified = [each.rpartition(" :: ")[2] for each in metadata.get_all("Classifier") or () if "License ::" in each]
    field = metadata.get("License-Expression") or metadata.get("License") or ""
    for found in (field if "\n" not in field and len(field) < 60 else "", *classified):
        if spdx := _NAMES.get(found, found):
            return spdx
    return "unknown"


def needed(requirements: list[str]) -> dict[str, list[str]]:
    """The packages that these requirements name, and for each those that come with it, in the order of their names."""
    return {
        each.name: sorted(_closure(each) - {canonicalize_name(each.name)})
        for each in sorted(map(Requirement, requirements), key=lambda each: each.name)
        if each.name != "piperkit"
    }


def _closure(requirement: Requirement, known: set[str] | None = None) -> set[str]:
    known = set() if known is None else known
    known.add(str(canonicalize_name(requirement.name)))
    for text in importlib.metadata.requires(requirement.name) or ():
        next = Requirement(text)
        extras = requirement.extras or {""}
        wanted = next.marker is None or any(next.marker.evaluate({"extra": extra}) for extra in extras)
        if wanted and canonicalize_name(next.name) not in known:
            _closure(next, known)
    return known


def tables() -> dict[str, dict[str, list[str]]]:
    """For the runtime, named "", and each extra: the packages, and what comes with each."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return {"": needed(project["dependencies"]), **{name: needed(extras[name]) for name in extras if name not in OURS}}


def render() -> str:
    """The page."""
    lines = [HEAD]
    for extra, packages in tables().items():
        lines += [f"## {f'`piperkit[{extra}]`' if extra else 'Every daemon'}", ""]
        lines += ["| package | licence | comes with it |", "|---|---|---|"]
        for name, more in packages.items():
            lines.append(f"| {name} | {licence(name)} | {', '.join(f'{each} ({licence(each)})' for each in more)} |")
        lines.append("")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n") + "\n"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
    print(f"{TARGET} is written")
