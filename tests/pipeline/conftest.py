"""A project with a pipeline, and `piperctl` in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import programs
from pipeline_project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "alerts")


@pytest.fixture
def piperctl(project: Project) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Call `piperctl` in the project's directory."""

    def call(*arguments: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
        if not more:
            return programs.text(programs.run("piperkit.cli", *arguments, cwd=project.path))
        command = [sys.executable, "-m", "piperkit.cli", *map(str, arguments)]
        more = {"cwd": project.path, "stdin": subprocess.DEVNULL, **more}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **more)

    return call


@pytest.fixture
def start(project: Project) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `piperctl` in the project's directory; it is ended with the test, and its daemons with it."""
    processes: list[subprocess.Popen[str]] = []

    def run(*arguments: str, **more: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "piperkit.cli", *arguments]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        output = open(project.path / "output", "w")  # noqa: SIM115
        process = subprocess.Popen(
            command, cwd=project.path, stdout=output, stderr=subprocess.STDOUT, text=True, env=environment, **more
        )
        output.close()
        processes.append(process)
        return process

    yield run
    for process in processes:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
