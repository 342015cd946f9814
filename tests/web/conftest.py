"""A spool, and the page of it, served by a process of its own."""

from __future__ import annotations

import dataclasses
import http.client
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from piperkit import Failure
from piperkit.dirq import DirectoryQueue


@dataclasses.dataclass
class Answer:
    """What was answered."""

    status: int
    headers: dict[str, str]
    text: str


@dataclasses.dataclass
class Page:
    """The page that is served."""

    port: int
    token: str
    process: subprocess.Popen[str]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, *, method: str = "GET", body: str | None = None, **headers: str) -> Answer:
        """Ask for it; by default as its owner. Headers have - for _."""
        given = {"Host": f"127.0.0.1:{self.port}", "Cookie": f"piperctl-token={self.token}"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {name: value for name, value in given.items() if value})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, text)

    def word(self) -> str:
        """What the forms of the page have."""
        found = re.search(r'name="word" value="([0-9a-f]+)"', self.ask("/queues/d").text)
        assert found is not None
        return found[1]

    def act(self, queue: str, *, origin: str | None = None, **fields: object) -> Answer:
        """Send a form; by default one of the page itself."""
        fields = {"word": self.word(), **fields}
        return self.ask(
            f"/queues/{queue}/act",
            method="POST",
            body=urlencode(fields, doseq=True),
            Origin=self.address if origin is None else origin,
            Content_Type="application/x-www-form-urlencoded",
        )


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
        if "--pipeline" not in options:
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
