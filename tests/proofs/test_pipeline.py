"""Proof: the lines of a log through a project's source, transform, router and sinks into SQLite and PostgreSQL, while
daemons are killed and the databases crash or are locked.

Each line is in one of the databases, once. A source that is killed between its enqueuing and its noting how far it got
may repeat what it had just read, which is counted by itself.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import copier
import psycopg
import pytest

import postgresql
import summary
from checkout import ALL, copy_parts
from piperkit.dirq.layout import is_queue
from piperkit.dirq.view import QueueView
from piperkit.project import add

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LINES = 50_000 if ALL else 20_000
ROUND = 2_500  #: lines between two strikes
READ_AT_ONCE = 1_000  #: lines that a source reads before it enqueues them
CHAIN = {"lines": "shaped", "shaped": "sorted", "sorted": "left", "stored": None, "tabled": None}
SINKS = ("stored", "tabled")


class Pipeline:
    """One project with five daemons, each a process."""

    def __init__(self, project: Path, log: Path, server: postgresql.Server, seed: int) -> None:
        self.project, self.log, self.server = project, log, server
        self.chance = random.Random(seed)
        self.spool = project / "var" / "spool"
        self.sqlite = project / "var" / "lib" / "stored" / "messages.sqlite"
        self.written = 0
        self.counts: collections.Counter[str] = collections.Counter()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        own: dict[str, dict[str, object]] = {
            "lines": {"follow": str(log), "source_wait": 0.1},
            "sorted": {"routes": {"a": "stored", "b": "tabled"}},
            "tabled": {"database": server.url},
        }
        for name, following in CHAIN.items():
            # Deaths of ours are not the messages' fault, however many one message meets.
            keys = {"queue_out_dir": following, "crash_limit": 1000, "batch_wait": 0.1, **own.get(name, {})}
            if name not in SINKS:
                del keys["batch_wait"]
            (project / "etc" / f"{name}.conf").write_text(json.dumps(keys), encoding="utf-8")

    def start_missing(self) -> None:
        for name in CHAIN:
            if name not in self.processes or self.processes[name].poll() is not None:
                environment = {**os.environ, "PYTHONPATH": str(self.project / "src")}
                command = [sys.executable, "-m", name, "--no-daemon", "--quiet"]
                self.processes[name] = subprocess.Popen(command, env=environment, cwd=self.project)

    def write(self, number: int) -> None:
        with open(self.log, "a", encoding="ascii") as log:
            for at in range(self.written, self.written + number):
                log.write(json.dumps({"number": at, "type": self.chance.choice("ab")}) + "\n")
        self.written += number

    def rotate(self) -> None:
        self.counts["rotations"] += 1
        self.log.rename(f"{self.log}.{self.counts['rotations']}")

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()
        self.counts["kills of the source" if name == "lines" else "kills"] += 1

    def stop(self, name: str) -> None:
        self.processes[name].terminate()
        assert self.processes[name].wait(60) in (0, -signal.SIGTERM), name  # which is before it has begun anything
        self.counts["stops"] += 1

    def crash_server(self) -> None:
        self.server.stop("immediate")
        self.server.start()
        self.counts["crashes of PostgreSQL"] += 1

    def lock_sqlite(self) -> None:
        if self.sqlite.exists():
            with contextlib.closing(sqlite3.connect(self.sqlite, timeout=60)) as connection:
                connection.execute("BEGIN EXCLUSIVE")
                self.kill("stored")
                self.start_missing()
                self.counts["locks of SQLite"] += 1

    def rows(self, what: str) -> list[tuple[str]]:
        """What is in both databases."""
        found: list[tuple[str]] = []
        if self.sqlite.exists():
            with contextlib.closing(sqlite3.connect(self.sqlite, timeout=60)) as connection:
                found += connection.execute(f"SELECT {what} FROM messages").fetchall()
        with psycopg.connect(self.server.url) as server, contextlib.suppress(psycopg.errors.UndefinedTable):
            found += server.execute(f"SELECT {what} FROM messages").fetchall()  # type: ignore[arg-type]
        return found

    def number(self) -> int:
        """How many lines are stored, however often."""
        return sum(int(number) for (number,) in self.rows("count(DISTINCT contents)"))

    def come_through(self, until: Callable[..., None]) -> collections.Counter[int]:
        """Wait until each line is stored and all queues are empty; how often each line is stored."""

        def complete() -> bool:
            self.start_missing()
            return not any(self.waiting(name) for name in CHAIN) and self.number() >= self.written

        until(complete, f"{self.written} lines in the databases", 300)
        stored = collections.Counter(json.loads(text)["number"] for (text,) in self.rows("contents"))
        assert sorted(stored) == list(range(self.written))
        return stored

    def waiting(self, name: str) -> int:
        counts = QueueView(self.spool / name).counts()
        assert not counts["errors"], f"{name} has banished a message"
        return sum(counts.values())


@pytest.fixture
def pipeline(tmp_path: Path, elsewhere: Path) -> Iterator[Pipeline]:
    """In memory: no power is cut here, and what a disk costs would only make it slower."""
    copy_parts(tmp_path / "template")
    project = elsewhere / "project"
    answers = {"daemon_name": "lines", "kind": "source", "systemd": False}
    copier.run_copy(str(tmp_path / "template"), project, answers, defaults=True, quiet=True)
    add.daemon(project, "shaped", {"messages": "json"})
    for name, kind in (("sorted", "router"), ("stored", "sink"), ("tabled", "sink-postgresql")):
        add.daemon(project, name, {"kind": kind})
    with postgresql.Server() as server:
        pipeline = Pipeline(project, elsewhere / "app.log", server, int(os.environ.get("PIPER_SEED", "1")))
        try:
            yield pipeline
        finally:
            for process in pipeline.processes.values():
                process.send_signal(signal.SIGKILL)
                process.wait()


def test_every_line_is_once_in_a_database(pipeline: Pipeline, until: Callable[..., None]) -> None:
    chance = pipeline.chance
    pipeline.start_missing()
    until(lambda: all(is_queue(str(pipeline.spool / name)) for name in CHAIN), "the queues")
    while pipeline.written < LINES:
        pipeline.write(ROUND)
        for name in chance.sample(["shaped", "sorted", *SINKS], 2):
            pipeline.kill(name)
        chance.choice([pipeline.crash_server, pipeline.lock_sqlite, lambda: pipeline.stop("lines")])()
        pipeline.start_missing()
        if chance.random() < 0.3:
            pipeline.rotate()
        until(lambda: pipeline.waiting("sorted") + pipeline.waiting("shaped") < ROUND, "room for more")
    assert set(pipeline.come_through(until).values()) == {1}

    for _ in range(4):  # and with the source
        pipeline.write(ROUND)
        pipeline.kill(chance.choice(list(CHAIN)))
        pipeline.start_missing()
        until(lambda: pipeline.number() > pipeline.written - ROUND, "some of them")
        pipeline.kill("lines")
        pipeline.start_missing()
    repeated = sum(number - 1 for number in pipeline.come_through(until).values())
    assert repeated <= READ_AT_ONCE * pipeline.counts["kills of the source"]
    for name in CHAIN:
        pipeline.stop(name)
    told = ", ".join(f"{number} {what}" for what, number in sorted(pipeline.counts.items()))
    summary.add(
        f"pipeline: {pipeline.written} lines into two databases; {told}; lost 0, repeated by the source {repeated}"
    )
