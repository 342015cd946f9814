"""`make bench`: what the runtime costs, as figures; nothing here passes or fails.

Latencies and rates depend on the machine, and on how busy it is; compare them with each other, or with those of the
same machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from piperkit import Component, Message, Outcome, PiperDaemon
from piperkit.dirq import DirectoryQueue, Sync
from piperkit.testing import Piper

MESSAGES = 5000


class Stamp(Component):
    """Answers with how long the message took to get here, in nanoseconds; the monotonic clock is everybody's."""

    def process(self, message: Message) -> Outcome:
        return message.commit(str(time.monotonic_ns() - int(message.text)))


class Echo(Component):
    def process(self, message: Message) -> Outcome:
        return message.commit()


class Upper(Component):
    def process(self, message: Message) -> Outcome:
        return message.commit(message.text.upper())


COMPONENTS = {"stamp": Stamp, "echo": Echo, "upper": Upper}


def wait(reached: Callable[[], object]) -> None:
    while not reached():
        time.sleep(0.002)


@contextlib.contextmanager
def daemon(piper: Piper, name: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon as a process, ready when the block begins."""
    command = [sys.executable, __file__, name, *piper.options("--log-level=info", "--quiet", *options)]
    process = subprocess.Popen(command)
    log = piper.directory / "daemon.log"
    wait(lambda: log.exists() and "The daemon starts" in log.read_text())
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        log.unlink()


def report(what: str, figure: str) -> None:
    print(f"{what:58} {figure}", flush=True)


def latency(piper: Piper) -> None:
    """From enqueue to processed, on an idle queue."""
    producer = DirectoryQueue(piper.directory / "in")
    with daemon(piper, "stamp"):
        for number in range(1000):
            producer.enqueue(str(time.monotonic_ns()))
            wait(lambda number=number: len(os.listdir(piper.directory / "out/incoming")) > number)
    taken = sorted(int(text) / 1e6 for text in piper.out)
    figure = f"median {statistics.median(taken):.2f} ms, 99 % in {taken[989]:.2f} ms"
    report("enqueue to processed, idle queue, 1,000 messages", figure)


def idle(piper: Piper) -> None:
    """Wake-ups of an idle daemon, and the time that it takes to stop."""

    def switches(pid: int) -> int:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("voluntary")).split()[1])

    with daemon(piper, "echo") as process:
        time.sleep(1)
        before = switches(process.pid)
        time.sleep(10)
        report("wake-ups of an idle daemon in 10 s", str(switches(process.pid) - before))
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait()
        report("stop of an idle daemon", f"{(time.monotonic() - began) * 1000:.0f} ms")


def throughput(directory: Path) -> None:
    """Messages a second, through a queue and through a daemon."""
    for sync in Sync:
        queue = DirectoryQueue(directory / f"queue-{sync.value}", sync=sync)
        began = time.monotonic()
        with queue.batch():
            for number in range(MESSAGES):
                queue.enqueue(f"message {number}")
        report(f"enqueue, queue_sync={sync.value}", f"{MESSAGES / (time.monotonic() - began):,.0f} messages/s")
    for name in ("echo", "upper"):
        for sync in Sync:
            piper = Piper(directory / f"{name}-{sync.value}")
            with piper.queue_in.batch():
                piper.put(*(f"message {number}" for number in range(MESSAGES)))
            began = time.monotonic()
            with daemon(piper, name, f"--queue-sync={sync.value}"):
                wait(lambda piper=piper: len(os.listdir(piper.directory / "out/incoming")) == MESSAGES)
            what = {"echo": "unchanged", "upper": "changed"}[name]
            figure = f"{MESSAGES / (time.monotonic() - began):,.0f} messages/s, start and stop included"
            report(f"daemon, messages {what}, queue_sync={sync.value}", figure)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="piper-bench-") as name:
        directory = Path(name)
        latency(Piper(directory / "latency"))
        idle(Piper(directory / "idle"))
        throughput(directory)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        PiperDaemon(name=sys.argv[1], argv=sys.argv[2:], components=[COMPONENTS[sys.argv[1]]()]).run()
    else:
        main()
