"""Proof: 60,000 messages go through two daemons with three instances each, on a database, while instances are killed,
the server is restarted as after a crash, and at last the primary of a pair with a synchronous standby is killed, and
the standby promoted.

Then the books: each message has come out once, and each copy once. `PIPER_SEED=N` repeats the choices of a run.
"""

from __future__ import annotations

import collections
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

import postgresql
import summary
from kinds import create
from piperkit import engines
from piperkit.errors import PiperError
from piperkit.operating import HOLDING
from piperkit.postgres.database_queue import DatabaseQueue

APP = Path(__file__).with_name("relay_app.py")
MESSAGES = int(os.environ.get("PIPER_MESSAGES", "60000"))
INSTANCES = 3
STAGES = {"first": ("in", "middle"), "second": ("middle", "out")}


@pytest.fixture
def pair() -> Iterator[tuple[postgresql.Server, postgresql.Server]]:
    """A server, and one that follows it; a commit is one when both have it."""
    with postgresql.Server() as primary, postgresql.Server(primary) as standby:
        postgresql.have_followed(primary)
        yield primary, standby


class Daemons:
    """The instances of all stages."""

    def __init__(self, directory: Path, database: str) -> None:
        self._directory = directory
        self._database = database
        self.processes: dict[str, list[subprocess.Popen[bytes]]] = {stage: [] for stage in STAGES}

    def start_missing(self) -> None:
        for stage, (source, target) in STAGES.items():
            living = [process for process in self.processes[stage] if process.poll() is None]
            while len(living) < INSTANCES:
                options = [
                    "--no-daemon", "--paralel", "--quiet", "--queue-in-wait=0.2", "--queue-out-wait=0.2",
                    "--crash-limit=1000", f"--files-under={self._directory}", "--history=off",
                    f"--queue-in-dir={self._database}&queue={source}", f"--queue-out-dir={target}",
                    "--queue-out-limit=0", "--log-level=warning",
                ]  # fmt: skip
                living.append(subprocess.Popen([sys.executable, str(APP), stage, *options]))
            self.processes[stage] = living

    def kill_one(self, chance: random.Random) -> None:
        victim = chance.choice([process for processes in self.processes.values() for process in processes])
        victim.send_signal(signal.SIGKILL)
        victim.wait()

    def end(self) -> None:
        for processes in self.processes.values():
            for process in processes:
                process.kill()
                process.wait()


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_nothing_is_lost_or_doubled_while_instances_and_servers_die(
    pair: tuple[postgresql.Server, postgresql.Server], tmp_path: Path, until: Callable[..., None]
) -> None:
    primary, standby = pair
    seed = int(os.environ.get("PIPER_SEED") or random.SystemRandom().getrandbits(32))
    chance = random.Random(seed)
    hosts = quote(f"{primary.directory},{standby.directory}", safe="")
    database = f"postgresql:///postgres?host={hosts}&user=postgres"
    addresses = {name: f"{database}&queue={name}" for name in ("in", "middle", "out", "copies")}
    for address in addresses.values():
        create(address)
    with DatabaseQueue(addresses["in"]) as producer:
        producer.enqueue_many(f"{number} message" for number in range(MESSAGES))
    daemons = Daemons(tmp_path, database)
    counts: collections.Counter[str] = collections.Counter()

    def left() -> int | None:
        """Messages that are not out yet; None where nobody can be asked."""
        try:
            with DatabaseQueue(addresses["in"]) as first, DatabaseQueue(addresses["middle"]) as second:
                found = [first.counts(), second.counts()]
        except PiperError:
            return None
        return sum(number for each in found for part, number in each.items() if part in HOLDING)

    daemons.start_missing()
    try:
        promoted = False
        while (waiting := left()) is None or waiting:
            time.sleep(chance.uniform(0.1, 0.8))
            what = chance.choice(["kill", "kill", "kill", "restart"])
            if not promoted and waiting is not None and waiting < MESSAGES * 0.8:
                primary.stop("immediate")
                standby.promote()
                promoted = True
                counts["promoted standbys"] += 1
            elif what == "restart" and counts["restarts"] < 6:
                server = standby if promoted else primary
                server.stop("immediate")
                server.start()
                counts["restarts"] += 1
            else:
                daemons.kill_one(chance)
                counts["kills"] += 1
            daemons.start_missing()
        assert promoted
    finally:
        daemons.end()
    until(lambda: left() == 0, "the end")
    # Each of the two daemons makes a copy of these.
    copied = [number for number in range(MESSAGES) if number % 101 == 0 and number % 13]
    wanted = {"out": dict.fromkeys(range(MESSAGES), 1), "copies": dict.fromkeys(copied, 2)}
    for name, times in wanted.items():
        view = engines.view(addresses[name])
        found = collections.Counter(int(view.read(entry).split()[0]) for entry in view.each("incoming"))
        lost = [number for number in times if found[number] < times[number]]
        doubled = [number for number in found if found[number] > times.get(number, 0)]
        assert (lost, doubled) == ([], []), f"PIPER_SEED={seed}: {name}"
    what = ", ".join(f"{number} {each}" for each, number in sorted(counts.items()))
    summary.add(f"database, chaos (PIPER_SEED={seed}): {MESSAGES} messages, {what}; lost 0, doubled 0")
