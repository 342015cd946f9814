"""Proof: messages flow through daemons, and operators do everything that piperctl can do to them, at random.

Every command is the real program on a terminal; some are killed in the middle. Then the books: each message has come
out once, but for those that were meant to be deleted; what is left over is nothing.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import summary
from checkout import ALL
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.view import QueueView
from terminal import read, start

APP = Path(__file__).with_name("operated_app.py")
MESSAGES = 10_000 if ALL else 4_000
#: Commands that are run while the messages flow.
COMMANDS = 100 if ALL else 50
KILLED = 0.35


class Operators:
    """Runs commands on a terminal."""

    def __init__(self, spool: Path, chance: random.Random) -> None:
        self.spool = spool
        self.chance = chance
        self.counts: collections.Counter[str] = collections.Counter()

    def run(self, *command: str, kill: bool = False, statuses: tuple[int, ...] = (0, 1, 3)) -> str:
        """Run a command; returns what it has shown."""
        editor = 'sed -i s/}/,\\"edited\\":1}/'
        process, terminal = start(*command, PIPER_SPOOL=str(self.spool), EDITOR=editor)
        if kill:
            time.sleep(self.chance.uniform(0.15, 0.45))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        text = read(terminal)
        status = process.wait()
        self.counts[f"{command[1]}{' killed' * (status == -9)}"] += 1
        assert status in ((*statuses, -9) if kill else statuses), f"{command} ended with {status}: {text}"
        assert "Traceback" not in text, text
        return text

    def do_something(self) -> None:
        """Any act."""
        queue = self.chance.choice(["in", "middle"])
        some = ["--limit", str(self.chance.choice([1, 5, 50, 500]))]
        trash = ["--where", "kind=trash"]
        acts: list[list[str]] = [
            ["requeue", queue, *some],
            ["requeue", queue, "--reason", "host is down", "--all"],
            ["requeue", queue, "--part", "deferred", *some, "--rate", "500/s"],
            ["hold", queue, *some, "--why", "wait"],
            ["hold", queue, "--where", f"n=~{self.chance.randrange(10)}$", *some],
            ["release", queue, "--all"],
            ["release", "--spool", str(self.spool), *some],
            ["banish", queue, *some, "--why", "for a while"],
            ["rm", queue, *trash, *some],
            ["rm", queue, "--part", "incoming", *trash, *some],
            ["mv", queue, "middle" if queue == "in" else "in", "--part", "hold", *some],
            ["mv", queue, "middle" if queue == "in" else "in", "--part", "errors", *some],
            ["export", queue, "-o", str(self.spool / "copy.tar")],
            ["pause", queue, "--until", "2s", "--why", "a test"],
            ["resume", queue],
            ["ls", queue, "--limit", "5"],
            ["errors", queue],
            ["shape", "--spool", str(self.spool), "--by", "kind"],
            ["stats", queue],
        ]
        act = self.chance.choice(acts)
        if act[0] in ("ls", "errors", "shape", "stats", "export"):
            self.run("queue", *act, statuses=(0,))
        else:
            self.run("queue", *act, kill=self.chance.random() < KILLED)

    def edit_something(self) -> None:
        """One that is held or a dead letter."""
        queue = self.chance.choice(["in", "middle"])
        view = QueueView(self.spool / queue)
        entry = next((each for part in ("hold", "errors") for each in view.each(part)), None)
        if entry is not None:
            self.run("queue", "edit", queue, entry.id, kill=self.chance.random() < KILLED)


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Callable[..., None]]:
    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str, source: str, target: str) -> None:
        options = [
            "--no-daemon", "--paralel", "--quiet", "--orphan-age=0.5", "--queue-in-batch=8", "--queue-out-limit=0",
            f"--files-under={tmp_path}", f"--queue-in-dir={tmp_path}/spool/{source}", "--history=all",
            f"--queue-out-dir={tmp_path}/spool/{target}", "--queue-min-free=0", "--queue-sync=off",
            "--message-format=json",
        ]  # fmt: skip
        processes.append(subprocess.Popen([sys.executable, str(APP), name, str(tmp_path / "up"), *options]))

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_books_balance_while_operators_do_all_there_is_to_do(
    tmp_path: Path, daemons: Callable[..., None], until: Callable[..., None]
) -> None:
    spool = tmp_path / "spool"
    seed = int(os.environ.get("PIPER_SEED") or random.SystemRandom().getrandbits(32))
    chance = random.Random(seed)
    for name in ("in", "middle", "out"):
        DirectoryQueue(spool / name).close()
    daemons("first", "in", "middle")
    daemons("first", "in", "middle")
    daemons("second", "middle", "out")
    operators = Operators(spool, chance)
    sent = 0
    ids: list[str] = []
    with DirectoryQueue(spool / "in", min_free=0) as producer:
        for turn in range(COMMANDS):
            most = MESSAGES * (turn + 1) // COMMANDS
            ids += producer.enqueue_many(
                [{"n": number, "kind": "trash" if number % 5 == 0 else "good"} for number in range(sent, most)]
            )
            sent = most
            if turn % 10 == 9:
                operators.edit_something()
            else:
                operators.do_something()
    (tmp_path / "up").touch()
    views = [QueueView(spool / name) for name in ("in", "middle")]

    def drained() -> bool:
        for act in (["resume"], ["release", "--all"], ["requeue", "--all"]):
            operators.run("queue", act[0], "--spool", str(spool), *act[1:])
        return not any(number for view in views for number in view.counts().values())

    until(drained, "the queues to be empty", 240.0)
    out = QueueView(spool / "out")
    found = collections.Counter(json.loads(out.read(entry))["n"] for entry in out.each("incoming"))
    doubled = [number for number, times in found.items() if times > 1]
    lost = [number for number in range(sent) if not found[number]]
    wrongly = [number for number in lost if number % 5]
    edited = sum(b'"edited"' in out.read(entry) for entry in out.each("incoming"))
    told = [line for view in views for line in view.told()]
    known = {line["what"] for line in told}
    ways = [line for number in doubled + wrongly for line in told if line["id"] == ids[number]]
    assert (doubled, wrongly, sent) == ([], [], MESSAGES), f"PIPER_SEED={seed}: {ways}"
    assert {"committed", "banished", "requeued"} <= known
    acts = ", ".join(f"{number} {act}" for act, number in sorted(operators.counts.items()))
    what = f"{sent} messages, {acts}; {len(lost)} deleted, {edited} edited"
    summary.add(f"operators (PIPER_SEED={seed}): {what}; lost 0, doubled 0")
