"""Proof: producers, four instances on a queue and one on the next, killed, stopped and frozen at random, the disk
full, the clock set.

Then the books: nothing that was reported enqueued is lost, nothing is torn, and no message is delivered twice. A
message may be *begun* twice, but only if an instance was ended that had it in work: both are counted.

`SOAK=3600 make test ARGS=tests/proofs/test_chaos.py` runs it for an hour; `PIPER_SEED=N` repeats the choices of a run.
"""

from __future__ import annotations

import collections
import contextlib
import glob
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import summary
from chaos_app import check
from checkout import ALL
from needs import need
from piperkit.dirq import DirectoryQueue, instances
from piperkit.dirq.fs import Directory
from piperkit.dirq.view import QueueView

APP = Path(__file__).with_name("chaos_app.py")
SECONDS = float(os.environ.get("SOAK", "40" if ALL else "25"))
#: How many instances work on which queue, and on which their messages go.
STAGES = {"first": (4, "in", "middle"), "second": (1, "middle", "out")}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which can be filled up."""
    need("root", os.geteuid() == 0, "root, to mount a tmpfs")
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m,mode=0755", "tmpfs", str(path)], check=True)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


class Chaos:
    """The processes, and what is done to them."""

    def __init__(self, disk: Path, outside: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.disk = disk
        self.journal = outside / "journal"
        self.journal.touch()
        self.clock = outside / "clock"
        self.set_clock(0)
        self.log = outside / "daemon.log"
        self._outside = outside
        self.daemons: dict[str, list[subprocess.Popen[bytes]]] = {stage: [] for stage in STAGES}
        self.in_work = 0  #: messages that were in work at the kills
        self.producers: list[subprocess.Popen[bytes]] = []
        self.counts: collections.Counter[str] = collections.Counter()
        libraries = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
        need("faketime", bool(libraries), "libfaketime (Debian package faketime)")
        self.environment = {
            **os.environ,
            "LD_PRELOAD": libraries[0],
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set_clock(self, offset: int) -> None:
        """Step the wall clock of all processes."""
        temporary = self.clock.with_suffix(".new")
        temporary.write_text(f"{offset:+d}s\n")
        temporary.rename(self.clock)

    def start_missing_daemons(self) -> None:
        for stage, (number, source, target) in STAGES.items():
            while len(self.living(self.daemons[stage])) < number:
                self.start_daemon(stage, source, target)

    def start_missing_producers(self) -> None:
        while len(self.living(self.producers)) < 2:
            self.start_producer()

    def start_daemon(self, stage: str, source: str, target: str) -> None:
        options = [
            "--no-daemon", "--paralel", "--quiet", "--queue-min-free=0", "--orphan-age=0.5", "--retry-min=0.05",
            "--retry-max=0.2", "--queue-in-batch=8", "--queue-out-wait=0.1", "--queue-in-wait=0.1",
            "--crash-limit=50", "--retry-limit=1000",
            f"--queue-in-dir={self.disk}/{source}", f"--queue-out-dir={self.disk}/{target}",
            f"--log-file={self.log}", f"--pid-file={self._outside}/d.pid", f"--state-file={self._outside}/d.state",
            f"--runlog-dir={self._outside}/run-log", "--queue-out-limit=0", "--log-level=warning",
        ]  # fmt: skip
        self.daemons[stage].append(self._start("daemon", stage, str(self.journal), *options))

    def start_producer(self) -> None:
        number = str(len(self.producers))
        self.producers.append(self._start("producer", f"{self.disk}/in", str(self.journal), number))

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, str(APP), *arguments], env=self.environment)

    def living(self, processes: list[subprocess.Popen[bytes]]) -> list[subprocess.Popen[bytes]]:
        return [process for process in processes if process.poll() is None]

    def strike(self) -> None:
        """Do one thing that should not matter."""
        victim = self.chance.choice(self.living(self.everybody()))
        match self.chance.choice(["kill", "kill", "stop", "freeze", "fill", "clock"]):
            case "kill":
                self.kill(victim)
            case "stop":
                victim.terminate()
                self.counts["stops"] += 1
            case "freeze":
                victim.send_signal(signal.SIGSTOP)
                self.pause(0.7)  # longer than orphan_age
                victim.send_signal(signal.SIGCONT)
                self.counts["freezes"] += 1
            case "fill":
                with open(self.disk / "ballast", "wb", buffering=0) as ballast:
                    with contextlib.suppress(OSError):
                        while True:
                            ballast.write(bytes(1 << 16))
                    self.pause(0.2)
                (self.disk / "ballast").unlink()
                self.counts["full disks"] += 1
            case "clock":
                self.set_clock(self.chance.choice([-86400, -3600, 0, 3600, 86400]))
                self.counts["clock steps"] += 1
        self.start_missing_daemons()
        self.start_missing_producers()

    def everybody(self) -> list[subprocess.Popen[bytes]]:
        return [*itertools.chain(*self.daemons.values()), *self.producers]

    def kill(self, victim: subprocess.Popen[bytes]) -> None:
        """SIGKILL, and note how many messages it had in work at that moment."""
        victim.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, victim.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        in_work = 0
        for _, source, _ in STAGES.values():
            living, _ = instances.read(Directory(f"{self.disk}/{source}/instances"), "", {})
            for name, listed in living.items():
                if listed is not None and name.split(".")[1] == str(victim.pid):
                    in_work += listed.working + len(listed.begun)
        if victim not in self.producers:
            self.in_work += max(1, in_work)  # on a full disk it could not be written down
        victim.kill()
        victim.wait()
        self.counts["kills"] += 1

    def pause(self, most: float) -> None:
        """Let some time pass, a random part of `most` seconds; nothing is expected to have happened then."""
        time.sleep(self.chance.uniform(0.1, 1) * most)

    def end(self, until: Callable[..., None]) -> None:
        """Let everything come to its end."""
        # A message may have been put off by a clock that was a day ahead, and by an instance that died since. Who finds
        # it has to believe the wall clock: begin anew with one at which all of them are due.
        self.set_clock(2 * 86400)
        for process in self.living(self.everybody()):
            process.terminate()
            process.wait()
        queues = [QueueView(self.disk / source) for _, source, _ in STAGES.values()]

        def drained() -> bool:
            self.start_missing_daemons()  # the last of a stage may have been stopped just now
            counts = [queue.counts() for queue in queues]
            return not sum(found[part] for found in counts for part in found if part != "errors")

        until(drained, "the queues to be drained", 240)
        for process in self.living(self.everybody()):
            process.terminate()
            assert process.wait() in (0, -signal.SIGTERM)  # the latter: it had only just been started

    def given_back(self) -> int:
        """How many messages were in work, and could not be finished, when their instance was asked to stop."""
        found = re.findall(r"(\d+) messages were not settled", self.log.read_text() if self.log.exists() else "")
        return sum(map(int, found))

    def cleanup(self) -> None:
        for process in self.everybody():
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 400)
def test_chaos_loses_nothing_tears_nothing_and_delivers_nothing_twice(
    small_disk: Path, tmp_path: Path, until: Callable[..., None]
) -> None:
    seed = int(os.environ.get("PIPER_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"PIPER_SEED={seed}")
    for name in ("in", "middle", "out"):
        DirectoryQueue(small_disk / name).close()
    chaos = Chaos(small_disk, tmp_path, seed)
    try:
        chaos.start_missing_daemons()
        chaos.start_missing_producers()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            chaos.pause(0.5)
            chaos.strike()
        chaos.end(until)
    finally:
        chaos.cleanup()

    lines = [line.split(" ") for line in chaos.journal.read_text().splitlines()]
    enqueued = {words[1] for words in lines if words[0] == "enqueued"}
    begun = collections.Counter((words[1], words[2]) for words in lines if words[0] == "begun")
    retried = sum(words[0] == "retried" for words in lines)
    out = QueueView(small_disk / "out")
    texts = [out.read(entry).decode() for entry in out.entries("incoming")]
    failed = [QueueView(small_disk / source) for _, source, _ in STAGES.values()]
    dead = [queue.read(entry).decode() for queue in failed for entry in queue.entries("errors")]
    delivered = collections.Counter(check(text) for text in texts + dead)
    torn = delivered.pop(None, 0)
    lost = enqueued - delivered.keys()
    twice = sum(delivered.values()) - len(delivered)
    again = sum(begun.values()) - len(begun) - retried
    in_work = chaos.in_work + chaos.given_back()
    told = ", ".join(f"{number} {what}" for what, number in sorted(chaos.counts.items()))
    summary.add(
        f"chaos (PIPER_SEED={seed}): {len(enqueued)} messages, {told}; lost {len(lost)}, torn {torn},"
        f" duplicates {twice}, begun again {again} of {in_work} in work at a kill or stop, dead letters {len(dead)}"
    )
    assert not lost
    assert torn == 0
    assert twice == 0
    assert again <= in_work
    assert len(enqueued) > 100
    assert chaos.counts["kills"] > 3
    for _, source, _ in STAGES.values():
        for part in ("pending", "outgoing"):
            assert not list((small_disk / source / part).iterdir())
