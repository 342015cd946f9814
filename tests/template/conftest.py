"""The template as its users have it: a git repository, and projects made from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import copier
import pytest

import programs
from checkout import copy_parts
from repository import commit_all, git, pack
from template_project import Generate

collect_ignore = ["golden"]  # what the template makes has tests, too


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout without git, as from an archive."""
    directory = tmp_path_factory.mktemp("unpacked") / "piper-template"
    copy_parts(directory)
    return directory


@pytest.fixture(scope="session")
def template(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout as a git repository of its own, with everything committed and no tag."""
    directory = tmp_path_factory.mktemp("source") / "piper-template"
    shutil.copytree(unpacked, directory, symlinks=True)
    git(directory, "init", "--quiet", "--initial-branch", "main")
    commit_all(directory, "Everything")
    pack(directory)
    return directory


@pytest.fixture
def source(template: Path, tmp_path: Path) -> Path:
    """A template of the test's own, released as v0.2.0."""
    directory = tmp_path / "template"
    shutil.copytree(template, directory, symlinks=True)
    git(directory, "tag", "v0.2.0")
    return directory


@pytest.fixture
def generate(unpacked: Path, tmp_path: Path) -> Generate:
    """Make a project in the test's directory; by default from the archive, which is faster than from git."""

    def make(folder: str = "mydaemon", source: Path | str = unpacked, **answers: object) -> Path:
        target = tmp_path / folder
        copier.run_copy(str(source), target, answers, defaults=True, quiet=True)
        return target

    return make


@pytest.fixture
def bare_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment with an empty home, and nothing of this virtual environment in it."""
    home = tmp_path / "home"
    home.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "PYTHON", "COV", "PYTEST"))}
    kept.pop("VIRTUAL_ENV", None)
    kept.pop("MAKEFLAGS", None)
    kept.pop("MAKELEVEL", None)
    return {**kept, "HOME": str(home)}


@pytest.fixture
def piperctl(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Call `piperctl` as a process; by default in the test's directory."""

    def call(*arguments: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
        if more.keys() <= {"cwd", "env"}:
            return programs.text(programs.run("piperkit.cli", *arguments, **{"cwd": tmp_path, **more}))
        command = [sys.executable, "-m", "piperkit.cli", *map(str, arguments)]
        options = {"cwd": tmp_path, "stdin": subprocess.DEVNULL, **more}
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)

    return call
