"""The checkout that is tested, and copies of what users get of it: the template and its runtime."""

from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Whether there is time for all of what `make test` tries a part of: each version with each answer, say.
ALL = bool(os.environ.get("PIPER_ALL"))
#: Of the runtime and the template.
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
#: With .gitignore: what pip leaves where it builds would make a repository of the parts one with changes.
_PARTS = (".gitignore", "copier.yml", "releases.toml", "template", "pyproject.toml", "runtime", "LICENSE", "README.md")


def copy_parts(target: Path) -> None:
    """Put what the template and its runtime are made of, as in the working tree, in the place of what is there."""
    target.mkdir(exist_ok=True)
    for part in _PARTS:
        if (ROOT / part).is_dir():
            shutil.rmtree(target / part, ignore_errors=True)
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / part, target / part, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / part, target)
