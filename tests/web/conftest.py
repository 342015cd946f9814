"""A spool, and the page of it, served by a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import four_queues
from web_page import Page


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return four_queues.make(tmp_path / "spool")


@pytest.fixture
def serve(spool: Path) -> Iterator[Callable[..., Page]]:
    """Serve the page of the spool, with further options."""
    pages: list[Page] = []

    def start(*options: str) -> Page:
        command = [sys.executable, "-m", "piperkit.cli", "web", "--listen", "127.0.0.1:0", "--every", "0.2s"]
        if "--pipeline" not in options and not any("://" in each for each in options):
            command += ["--spool", str(spool)]
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"Open http://127\.0\.0\.1:(\d+)/\?token=(\S+?)(;.*)?\n", line)
        assert found is not None, line + process.stdout.read()
        pages.append(Page(int(found[1]), found[2], process))
        return pages[-1]

    yield start
    for page in pages:
        page.process.send_signal(signal.SIGINT)
        try:
            page.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            page.process.kill()
            page.process.communicate()
