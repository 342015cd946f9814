"""Where the template is, and git, for tests of it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

import programs


def run_copier(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run copier as its users do, who cannot be asked anything; a failure raises CalledProcessError."""
    done = programs.text(programs.run("copier", *arguments, **{"cwd": Path.cwd(), **options}))
    done.check_returncode()
    return done


def answers(project: Path) -> dict[str, object]:
    """The recorded answers."""
    found = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


#: Makes a project: generate(folder, source, key=answer, ...); what is not answered has its default.
Generate = Callable[..., Path]
