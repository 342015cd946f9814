"""A spool, and the page of it, served by a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from piperkit import Failure
from piperkit.dirq import DirectoryQueue
from web_page import Page


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Queues a to d; what is in them differs."""
    spool = tmp_path / "spool"
    for number, name in enumerate("abcd"):
        with DirectoryQueue(spool / name) as queue:
            for at in range(number):
                queue.enqueue({"n": at, "text": f"of {name}"}, f"{name}{at}")
    with DirectoryQueue(spool / "d") as queue:
        for at in range(4):
            queue.enqueue("x", f"e{at}")
        for claim in queue.claim(10):
            if claim.id.startswith("e"):
                queue.banish(claim.id, Failure("the host is down" if claim.id < "e3" else "too long"))
    return spool


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
