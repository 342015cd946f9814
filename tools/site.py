"""`make docs`: put the pages of the documentation site together, and build it; whatever is wrong with a page ends it.

The pages are the files of this repository, which read as well without the site: README.md is the first one, and links
between files become links between pages. Two are made from the code: the configuration's reference, which
tools/reference.py keeps in docs/, and the commands of piperctl, which are their help texts.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "build" / "docs"
SITE = ROOT / "build" / "site"

#: Files that are pages and stand elsewhere than in docs/, and what they are called on the site.
ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
}
_LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")


def main() -> int:
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES)
    for file in [*ELSEWHERE, *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]:
        (PAGES / page(file)).write_text(linked(file), encoding="utf-8")
    (PAGES / "commands.md").write_text(commands(), encoding="utf-8")
    shutil.rmtree(SITE, ignore_errors=True)
    build = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return subprocess.run(build, cwd=ROOT, check=False).returncode


def page(file: str) -> str:
    """What a file of the repository is called on the site. Raises KeyError where it is not on it."""
    return ELSEWHERE[file] if file in ELSEWHERE else re.sub("^docs/", "", file)


def linked(file: str) -> str:
    """The text of a file, with links as they have to be on the site. Raises SystemExit for one that leads nowhere."""

    def link(target: re.Match[str]) -> str:
        path = os.path.normpath(os.path.join(os.path.dirname(file), target[0]))
        if not (path in ELSEWHERE or path.startswith("docs/")) or not (ROOT / path).exists():
            raise SystemExit(f"{file}: the link to {target[0]} leads to nothing that is on the site")
        return page(path)

    return _LINK.sub(link, (ROOT / file).read_text(encoding="utf-8"))


def commands() -> str:
    """The help texts of piperctl and its commands, as a page."""
    made = [sys.executable, "-m", "typer", "--app", "cli", "piperkit.cli", "utils", "docs"]
    run = [*made, "--name", "piperctl", "--title", "Commands"]
    return subprocess.run(run, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


if __name__ == "__main__":
    sys.exit(main())
