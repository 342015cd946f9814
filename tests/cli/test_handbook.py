"""The commands of docs/operating.md do what it says, in the order in which they stand there."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shlex import quote

import pytest

from checkout import ROOT
from piperkit import Failure
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.view import QueueView

COMMANDS = re.findall(r"^    (piperctl .*)$", (ROOT / "docs" / "operating.md").read_text(), re.MULTILINE)


@pytest.mark.slow
def test_every_command_of_the_handbook_runs(tmp_path: Path, strict: Callable[[str], Path]) -> None:
    path, target = tmp_path / "queue", tmp_path / "other"
    DirectoryQueue(target).close()
    with DirectoryQueue(path) as queue:
        for number in range(30):
            queue.enqueue({"type": "test" if number % 3 else "real", "number": number}, f"m{number:02}")
        for claim in queue.claim(30):
            number = int(claim.id[1:])
            if number % 5 == 0:
                queue.retry(claim.id, 3600, Failure("busy"))
            else:
                queue.banish(claim.id, Failure(f"db{number}: the host is down" if number % 2 else "no rule"))
    view = QueueView(path)

    def counts() -> dict[str, int]:
        return {part: number for part, number in view.counts().items() if number}

    program = strict("lambda facts: facts['number'] % 4 == 0")
    (tmp_path / "mended").write_text('{"type": "real", "number": 99}')
    words = {
        "QUEUE": path, "TARGET": target, "SPOOL": tmp_path, "PROGRAM": program,
        "MENDED": tmp_path / "mended", "ARCHIVE": tmp_path / "archive.tar",
    }  # fmt: skip
    seen = [counts()]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    after: dict[str, dict[str, int]] = {}
    for command in COMMANDS:
        id = next(iter(view.entries("errors")), None)
        line = command.replace(" ID", f" {id.id if id else 'none'}")
        line = re.sub("|".join(words), lambda word: quote(str(words[word[0]])), line)
        done = subprocess.run(line, shell=True, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        assert "--dry-run" not in command or counts() == seen[-1]
        seen.append(counts())
        after[command.split()[2]] = counts()
    assert seen[0] == {"deferred": 6, "errors": 24}
    down = 12
    changes = [now for before, now in itertools.pairwise(seen) if now != before]
    assert changes[0] == {"incoming": down, "deferred": 6, "errors": 24 - down}
    passing = 6  # of those that are left, those with a number that four divides
    assert changes[1] == {"incoming": down + passing, "deferred": 6, "errors": 24 - down - passing}
    assert changes[2] == {"incoming": down + passing + 6, "errors": 24 - down - passing}
    assert after["edit"] == {"incoming": down + passing + 7, "errors": 5}
    assert after["release"] == after["edit"]
    assert after["rm"] == {"incoming": down + passing + 7, "errors": 2}
    assert QueueView(target).counts()["incoming"] == 2
    assert QueueView(target).counts()["hold"] == after["mv"]["incoming"]
