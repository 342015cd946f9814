"""`make demo`: a pipeline of five generated daemons, and every line of a log of this machine through it.

It is made as `piperctl new --pipeline` makes it, and only configured: where lines come from, and how they are taken
apart. All five run as processes of their own, in a directory that is removed at the end:

    the log -> demo-reader -> demo-parser -> demo-router -> demo-rest, or the sink for the most frequent kind of lines

Exit status 0: every line that is not blank is in one of the two databases, once, or is a dead letter with its reason,
and no queue has anything else left.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from piperkit.dirq.view import QueueView
from piperkit.operating import HOLDING, Entry
from piperkit.pipeline import description, drawing, graph, making
from piperkit.pipeline.running import Running

ROOT = Path(__file__).parents[1]
LOGS = ("dpkg.log", "dpkg.log.1", "syslog", "messages", "pacman.log", "dnf.log", "alternatives.log", "bootstrap.log")
#: A time as dpkg, syslog or a daemon of ours writes it, the first word after it, and the rest.
LINE = r"(?P<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*|\w{3} [ \d]\d \d\d:\d\d:\d\d)?\s*(?P<type>\S*)\s*(?P<text>.*)"
FIRST = ("demo-reader", "demo-parser")  #: who may find that a line is not a message
STALL = 60  #: seconds without any progress after which the demonstration gives up
#: Its first lines are a shell's, which takes an interpreter whose path has spaces in it, and a text to Python.
PROGRAM = """#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
import sys

sys.path.insert(0, {source!r})

from {package}.daemon import main

main()
"""

console = Console(highlight=False)


class Failed(Exception):
    """The demonstration has not shown what it should; the text says what."""


class Demo:
    """The pipeline, as a project in a directory."""

    def __init__(self, directory: Path, log: Path) -> None:
        self.project = directory / "demo"
        self.total, type = _look_at(log)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # copier's, when the checkout has uncommitted changes
            making.make(
                self.project,
                "demo",
                {"systemd": False, "metrics": False},
                source="source",
                sink="sink",
                types=[type],
                template=str(ROOT),
                version="HEAD",
                inside=True,
            )
        self.sinks = ("demo-rest", f"demo-{type}")
        self._configure("demo-reader", follow=str(log), source_wait=0.1)
        self._configure("demo-parser", pattern=LINE)
        for sink in self.sinks:
            self._configure(sink, batch_wait=0.1)
        self.pipeline = description.load(self.project / description.FILE)
        for member in self.pipeline.members:
            self._program(member.name)

    def _configure(self, name: str, **keys: Any) -> None:
        (self.project / "etc" / f"{name}.conf").write_text(json.dumps(keys), encoding="utf-8")

    def _program(self, name: str) -> None:
        """What `make test` would install in a virtual environment of the project's own; here we have one."""
        path = self.project / ".venv" / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        source, package = str(self.project / "src"), name.replace("-", "_")
        path.write_text(PROGRAM.format(python=sys.executable, source=source, package=package))
        path.chmod(0o755)

    def view(self, name: str) -> QueueView:
        return QueueView(self.pipeline.member(name).source)

    def stored(self, sink: str) -> list[tuple[str, dict[str, str]]]:
        """The messages in a sink's database: ids, and the objects that were made of lines."""
        path = self.project / "var" / "lib" / sink / "messages.sqlite"
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as database:
            try:
                return [(id, json.loads(text)) for id, text in database.execute("SELECT id, contents FROM messages")]
            except sqlite3.OperationalError:
                return []  # it is just being made

    def done(self) -> int:
        """How many lines have arrived, at their ends or among the dead letters."""
        found = 0
        for sink in self.sinks:
            path = self.project / "var" / "lib" / sink / "messages.sqlite"
            if path.exists():
                with (
                    contextlib.closing(sqlite3.connect(path, timeout=30)) as database,
                    contextlib.suppress(sqlite3.OperationalError),  # its table is just being made
                ):
                    found += database.execute("SELECT count(*) FROM messages").fetchone()[0]
        return found + sum(self.view(name).counts(["errors"])["errors"] for name in FIRST)

    def dead_letters(self) -> list[Entry]:
        """Lines that are not messages, such as empty ones, and those that cannot be taken apart."""
        return [entry for name in FIRST for entry in self.view(name).each("errors")]


def _look_at(log: Path) -> tuple[int, str]:
    """How many lines there are that are not blank, and which type is the most frequent one. Raises Failed."""
    pattern, types, total = re.compile(LINE, re.DOTALL), collections.Counter[str](), 0
    with open(log, "rb") as file:
        for line in file:
            if not line.strip():
                continue  # a source makes no message of those
            total += 1
            found = pattern.fullmatch(line.decode(errors="replace").rstrip("\n"))
            if found is not None and re.fullmatch("[a-z][a-z0-9]{1,20}", found["type"]):
                types[found["type"]] += 1
    if not total:
        raise Failed("it is empty; name another file: make demo INPUT=FILE")
    return total, next((type for type, _ in types.most_common() if type != making.REST), "other")


def find_log() -> Path:
    """The first log of this machine that can be read and holds something. Raises Failed."""
    for name in LOGS:
        path = Path("/var/log", name)
        if path.is_file() and os.access(path, os.R_OK) and path.stat().st_size:
            return path
    raise Failed("there is no log in /var/log that this user may read; name any text file: make demo INPUT=FILE")


def through(demo: Demo) -> Iterator[int]:
    """Run the pipeline until all lines have arrived; yields how many have. Raises Failed."""
    lines: collections.deque[str] = collections.deque(maxlen=30)
    with Running(demo.pipeline, lambda name, line: lines.append(f"{name} | {line}")) as running:
        try:
            running.start()
            arrived, last = 0, time.monotonic()
            while arrived < demo.total:
                running.tell_for(0.1)
                now = demo.done()
                if now > arrived:
                    arrived, last = now, time.monotonic()
                    yield arrived
                if time.monotonic() - last > STALL:
                    raise Failed(f"nothing happened for {STALL} seconds")
            bad = running.stop()
            if bad:
                raise Failed(f"{', '.join(bad)} did not end well")
        except Exception:
            console.print("\n".join(lines), markup=False, soft_wrap=True)
            raise


def show(demo: Demo) -> None:
    """Two lines, and what became of them; and all books."""
    for sink in demo.sinks:
        for _, record in demo.stored(sink)[:1]:
            console.print(f"  {sink} has, for instance, {shown(json.dumps(record))}", markup=False, soft_wrap=True)
    failed = [entry.reason for entry in demo.dead_letters()]
    for reason, number in collections.Counter(failed).most_common():
        console.print(f"  {number} are dead letters: {shown(str(reason))}", markup=False, soft_wrap=True)


def compare(demo: Demo) -> None:
    """Raises Failed unless every line has arrived once, in the right place, and nothing else is left in a queue."""
    stored = {sink: demo.stored(sink) for sink in demo.sinks}
    ids = [id for messages in stored.values() for id, _ in messages]
    failed = [entry.id for entry in demo.dead_letters()]
    if len({*ids, *failed}) != demo.total or len(ids) + len(failed) != demo.total:
        raise Failed(f"{demo.total} lines in, {len(ids)} messages out, {len(failed)} dead letters")
    type = demo.sinks[1].removeprefix("demo-")
    for sink, messages in stored.items():
        wrong = [record for _, record in messages if (record["type"] == type) != (sink == demo.sinks[1])]
        if wrong:
            raise Failed(f"{sink} has {wrong[0]}")
    for member in demo.pipeline.members:
        parts = [part for part in HOLDING if not (member.name in FIRST and part == "errors")]
        left = sum(demo.view(member.name).counts(parts).values())
        if left:
            raise Failed(f"{left} messages are left in the queue of {member.name}")


def shown(text: str, length: int = 200) -> str:
    """Text as it can be printed on a terminal, whatever it is."""
    text = "".join(char if char.isprintable() else "." for char in text)
    return text if len(text) <= length else f"{text[:length]}..."


def run(log: Path, copy: Path, directory: Path) -> None:
    demo = Demo(directory, copy)
    console.print(f"[bold]Five daemons from the template[/bold], and the {demo.total} lines of {log}:\n")
    encoding = (console.encoding or "ascii").lower().replace("-", "")
    drawn = drawing.text(graph.of(demo.pipeline), ascii_only=not encoding.startswith("utf"))
    console.print(f"{drawn}\n", markup=False, soft_wrap=True)
    columns = (TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    began, tenth = time.monotonic(), 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("arrived", total=demo.total)
        for arrived in through(demo):
            progress.update(task, completed=arrived)
            if 10 * arrived // demo.total > tenth and not console.is_terminal:
                tenth = 10 * arrived // demo.total
                console.print(f"{arrived} of {demo.total} lines have arrived")
    seconds = time.monotonic() - began
    console.print()
    show(demo)
    compare(demo)
    console.print(
        f"\n[bold green]{demo.total} lines in, {demo.total} messages out, none left anywhere[/bold green]"
        f" ({seconds:.1f} s, {demo.total / seconds:.0f} lines a second through the chain).",
        soft_wrap=True,
    )


def main() -> int:
    arguments = argparse.ArgumentParser(description="Show a pipeline of generated daemons at work.")
    arguments.add_argument("source", nargs="?", type=Path, help="text file whose lines are sent")
    source = arguments.parse_args().source
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="piperkit-demo.") as directory:
        try:
            # The log may grow, or be rotated, meanwhile.
            copy = Path(directory, "log")
            log = source or find_log()
            shutil.copyfile(log, copy)
            if copy.read_bytes()[-1:] not in (b"\n", b""):
                with open(copy, "ab") as file:
                    file.write(b"\n")
            run(log, copy, Path(directory))
            return 0
        except Exception as error:
            console.print(f"[bold red]The demonstration failed:[/bold red] {error}", soft_wrap=True)
            return 1
        except KeyboardInterrupt:
            console.print("\nInterrupted; all daemons are stopped.")
            return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
