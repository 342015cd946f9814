"""The template's history as its users have it, and projects that were made from it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import programs
from checkout import ROOT
from piperkit.upgrade import releases
from repository import git

TEMPLATE = ROOT / "template"
ADDRESS = "gh:org/piper-template"
GITHUB = "https://github.com/org/piper-template.git"
#: What the working tree is released as, later than any version that was.
NEXT = "v99.0.0"


def environment(home: Path, hub: Path, **more: str) -> dict[str, str]:
    """An environment in which git finds GITHUB in the repository `hub`."""
    home.mkdir(exist_ok=True)
    configuration = home / "gitconfig"
    configuration.write_text(f'[url "{hub}"]\n\tinsteadOf = {GITHUB}\n[user]\n\tname = A User\n\temail = u@x\n')
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "PYTEST", "MAKE"))}
    places = {"HOME": str(home), "GIT_CONFIG_GLOBAL": str(configuration), "COPIER_CACHE_DIR": str(home / "cache")}
    return {**kept, **places, **more}


def run(where: Path, environment: Mapping[str, str], *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command of this virtual environment there; what it prints is one text."""
    module, *arguments = command
    return programs.text(programs.run(str(module), *arguments, cwd=where, env=environment, together=True))


def tree(project: Path) -> dict[str, bytes]:
    """Every file that git knows or could know, with its contents."""
    names = git(project, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    return {name: (project / name).read_bytes() for name in sorted(set(names)) if (project / name).is_file()}


def change(path: Path, old: str, new: str) -> None:
    """Replace a text that is there."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path} does not hold {old!r}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def released() -> dict[str, str]:
    """The released versions and their commits."""
    found = releases.parse((ROOT / releases.FILE).read_text(encoding="utf-8"))
    return {f"v{release.version}": release.commit for release in found if release.commit and release.version}
