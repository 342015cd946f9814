"""The command as a process, and a queue for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from piperkit.dirq import DirectoryQueue

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*arguments: str | Path | bytes, **more: Any) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "piperkit.cli", *arguments]
        more = {"stdin": subprocess.DEVNULL, **more} if "input" not in more else more
        return subprocess.run(command, capture_output=True, timeout=60, check=False, cwd=tmp_path, **more)

    return call


@pytest.fixture
def queue(tmp_path: Path) -> DirectoryQueue:
    return DirectoryQueue(tmp_path / "queue")
