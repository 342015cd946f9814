"""The page as tests ask for it."""

from __future__ import annotations

import dataclasses
import http.client
import re
import subprocess
from urllib.parse import urlencode


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
        fields = {"word": fields["word"] if "word" in fields else self.word(), **fields}
        return self.ask(
            f"/queues/{queue}/act",
            method="POST",
            body=urlencode(fields, doseq=True),
            Origin=self.address if origin is None else origin,
            Content_Type="application/x-www-form-urlencoded",
        )
