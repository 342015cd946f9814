"""`make demo`: two generated daemons, and every line of a log of this machine from one to the other.

A parser and a sink are generated from the template, and the components in demo/ are put in the place of their stubs.
Both run as processes of their own, on chained queues, in a directory that is removed at the end:

    lines -> log-parser -> log-sink -> the ledger: one line for each message that was counted

Exit status 0: every line came out, once, and nothing is left in any queue.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import copier
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from piperkit.dirq import DirectoryQueue
from piperkit.dirq.instances import RECOVERY
from piperkit.dirq.view import QueueView

ROOT = Path(__file__).parents[1]
LOGS = ("dpkg.log", "dpkg.log.1", "syslog", "messages", "pacman.log", "dnf.log", "alternatives.log", "bootstrap.log")
BATCH = 200  #: lines that are enqueued before we look at what came out
WAITING_MAX = 10_000  #: messages in a queue at which we wait with feeding more
STALL = 60  #: seconds without any progress after which the demonstration gives up

console = Console(highlight=False)


class Failed(Exception):
    """The demonstration has not shown what it should; the text says what."""


class Daemon:
    """A daemon generated from the template, with a component of the demonstration, run as a process."""

    def __init__(self, directory: Path, name: str, component: str, **answers: object) -> None:
        self.name = name
        self.root = directory / name
        self.package = name.replace("-", "_")
        self.queue = self.root / "var" / "spool" / name
        self.process: subprocess.Popen[bytes] | None = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # copier's, when the checkout has uncommitted changes
            data = {"daemon_name": name, "systemd": False, **answers}
            copier.run_copy(str(ROOT), self.root, data, vcs_ref="HEAD", defaults=True, quiet=True)
        shutil.copy(ROOT / "demo" / component, self.root / "src" / self.package / "component.py")

    def start(self, *options: str) -> None:
        command = [sys.executable, "-m", self.package, "--no-daemon", "--quiet", *options]
        environment = {**os.environ, "PYTHONPATH": str(self.root / "src")}
        # A session of its own: Ctrl-C is for us, and we stop the daemons.
        self.process = subprocess.Popen(command, cwd=self.root, env=environment, start_new_session=True)

    def check(self) -> None:
        """Raises Failed where the process has ended."""
        if self.process is not None and self.process.poll() is not None:
            raise Failed(f"{self.name} ended by itself, with status {self.process.returncode}")

    def stop(self) -> int | None:
        """Ask it to stop, and wait; returns its exit status, None where it never ran. Idempotent."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def log(self, lines: int = 15) -> str:
        """The end of its log."""
        try:
            text = (self.root / "var" / "log" / f"{self.name}.log").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return "(no log)"
        return "\n".join(text.splitlines()[-lines:])

    def left(self) -> list[Path]:
        """Every file in its queue, whatever it is, but for the lock that all instances share."""
        return [path for path in self.queue.rglob("*") if not path.is_dir() and path.name != RECOVERY]


class Ledger:
    """What the sink has written down so far: the id and the word of each message that it has counted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ids: list[str] = []
        self.words: collections.Counter[str] = collections.Counter()
        self._read = 0

    def update(self) -> int:
        """Read what is new; returns how many messages have been counted."""
        with contextlib.suppress(FileNotFoundError), open(self.path, "rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # still being written
                self._read += len(line)
                id, _, word = line.decode().rstrip("\n").partition(" ")
                self.ids.append(id)
                self.words[word] += 1
        return len(self.ids)


def find_log() -> Path:
    """The first log of this machine that can be read and holds something. Raises Failed."""
    for name in LOGS:
        path = Path("/var/log", name)
        if path.is_file() and os.access(path, os.R_OK) and path.stat().st_size:
            return path
    raise Failed("there is no log in /var/log that this user may read; name any text file: make demo INPUT=FILE")


def read_lines(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        for line in file:
            yield line.removesuffix(b"\n")


def wait_for(condition: Iterable[bool], daemons: list[Daemon]) -> None:
    """Look again and again until a condition holds; it yields whether it does. Raises Failed after STALL seconds."""
    end = time.monotonic() + STALL
    for holds in condition:
        if holds:
            return
        for daemon in daemons:
            daemon.check()
        if time.monotonic() > end:
            raise Failed(f"nothing happened for {STALL} seconds")
        time.sleep(0.02)


def show_counts(title: str, daemons: list[Daemon]) -> None:
    """The messages in each part of each queue."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("queue")
    rows = {daemon.name: QueueView(daemon.queue).counts() for daemon in daemons}
    for part in rows[daemons[0].name]:
        table.add_column(part, justify="right")
    for name, counts in rows.items():
        table.add_row(name, *map(str, counts.values()))
    console.print(table)
    console.print()


def shown(data: bytes, length: int = 200) -> str:
    """Bytes as they can be printed on a terminal, whatever they are."""
    text = "".join(char if char.isprintable() else "." for char in data.decode(errors="replace"))
    return text if len(text) <= length else f"{text[:length]}..."


def show_one(line: bytes, parser: Daemon, sink: Daemon) -> str:
    """Send one message, and show it in the second queue, before the sink runs; returns its id."""
    id = DirectoryQueue(parser.queue).enqueue(line)
    view = QueueView(sink.queue)
    wait_for((view.counts()["incoming"] > 0 for _ in iter(int, 1)), [parser])
    entry = view.find(id)
    console.print(f"[bold]One message on its way[/bold], {id}:")
    console.print(f"  log-parser took  {shown(line)}", markup=False, soft_wrap=True)
    console.print(f"  and made of it   {shown(view.read(entry))}", markup=False, soft_wrap=True)
    console.print()
    return id


class Meter:
    """Progress: bars on a terminal, a line at each tenth elsewhere."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._shown = 0
        columns = (
            TextColumn("{task.description:10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._fed = self.progress.add_task("lines in", total=total)
        self._out = self.progress.add_task("counted", total=total)

    def show(self, fed: int, out: int) -> None:
        self.progress.update(self._fed, completed=fed)
        self.progress.update(self._out, completed=out)
        tenth = 10 * min(fed, out) // self.total
        if tenth > self._shown and not console.is_terminal:
            self._shown = tenth
            console.print(f"{fed} lines in, {out} counted, of {self.total}")


def feed(lines: Iterator[bytes], ids: list[str], total: int, daemons: list[Daemon], ledger: Ledger) -> None:
    """Enqueue the lines and wait until the sink has counted them all; the ids are added to `ids`."""
    queue = DirectoryQueue(daemons[0].queue)
    meter = Meter(total)

    def await_more() -> None:
        before = len(ledger.ids)
        wait_for((ledger.update() > before for _ in iter(int, 1)), daemons)
        meter.show(len(ids), len(ledger.ids))

    with meter.progress:
        while batch := list(itertools.islice(lines, BATCH)):
            with queue.batch():
                ids += [queue.enqueue(line) for line in batch]
            for daemon in daemons:
                daemon.check()
            meter.show(len(ids), ledger.update())
            while queue.counts()["incoming"] > WAITING_MAX:
                await_more()
        # A log may be shorter by now, if it was rotated: what counts is what was fed.
        while ledger.update() < len(ids):
            await_more()


def compare(ids: list[str], ledger: Ledger, daemons: list[Daemon]) -> None:
    """Raises Failed unless every message was counted once, in order, and nothing is left in a queue."""
    lost, twice = set(ids) - set(ledger.ids), len(ledger.ids) - len(set(ledger.ids))
    if lost or twice or set(ledger.ids) - set(ids):
        raise Failed(f"{len(ids)} lines in, {len(ledger.ids)} messages out: {len(lost)} lost, {twice} counted twice")
    if ledger.ids != ids:
        raise Failed("the messages came out in another order")
    left = [path for daemon in daemons for path in daemon.left()]
    if left:
        raise Failed("left in the queues: " + ", ".join(map(str, left[:5])))


def run(source: Path, directory: Path, daemons: list[Daemon]) -> None:
    total = sum(1 for _ in read_lines(source))
    if not total:
        raise Failed(f"{source} is empty; name another file: make demo INPUT=FILE")
    console.print(f"[bold]Two daemons from the template[/bold], and the {total} lines of {source}:\n")
    console.print("  lines -> log-parser -> log-sink -> counts\n", markup=False)
    parser = Daemon(directory, "log-parser", "parser.py", messages="bytes", description="Parses lines of a log")
    daemons.append(parser)
    sink = Daemon(directory, "log-sink", "sink.py", messages="json", description="Counts parsed lines")
    daemons.append(sink)
    for daemon in daemons:
        DirectoryQueue(daemon.queue)
    show_counts("Before", daemons)

    began = time.monotonic()
    lines = itertools.islice(read_lines(source), total)  # a log may grow meanwhile
    parser.start("--queue-out-dir", str(sink.queue))
    ids = [show_one(next(lines), parser, sink)]
    sink.start()
    ledger = Ledger(sink.root / "var" / "ledger")
    feed(lines, ids, total, daemons, ledger)
    seconds = time.monotonic() - began
    for daemon in daemons:
        status = daemon.stop()
        if status != 0:
            raise Failed(f"{daemon.name} ended with status {status}")
    ledger.update()

    console.print()
    show_counts("After", daemons)
    most = ", ".join(f"{shown(word.encode(), 20) or '(none)'} {count}" for word, count in ledger.words.most_common(5))
    console.print(
        f"The sink counted {ledger.words.total()} messages; most often: {most}.", markup=False, soft_wrap=True
    )
    compare(ids, ledger, daemons)
    console.print(
        f"[bold green]{len(ids)} lines in, {len(ledger.ids)} messages out, in order, none left anywhere[/bold green]"
        f" ({seconds:.1f} s, {len(ids) / seconds:.0f} messages a second).",
        soft_wrap=True,
    )


def main() -> int:
    arguments = argparse.ArgumentParser(description="Show two generated daemons at work.")
    arguments.add_argument("source", nargs="?", type=Path, help="text file whose lines are sent")
    source = arguments.parse_args().source
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    daemons: list[Daemon] = []
    with tempfile.TemporaryDirectory(prefix="piperkit-demo.") as directory:
        try:
            run(source or find_log(), Path(directory), daemons)
            return 0
        except (Failed, OSError) as error:
            console.print(f"[bold red]The demonstration failed:[/bold red] {error}", soft_wrap=True)
            for daemon in daemons:
                console.print(f"\nThe end of {daemon.name}'s log:\n{daemon.log()}", markup=False, soft_wrap=True)
            return 1
        except KeyboardInterrupt:
            console.print("\nInterrupted; stopping both daemons.")
            return 128 + signal.SIGINT
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave a daemon behind
            for daemon in daemons:
                daemon.stop()


if __name__ == "__main__":
    sys.exit(main())
