"""The processes of the chaos proof: a producer and a daemon.

Each message is "KEY PAYLOAD DIGEST", so that a torn one is known. What was done is a line in the journal, one write(2)
into a file outside of the file system that is filled up.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import select
import signal
import sys
import zlib

from piperkit import Component, Message, Outcome, PiperDaemon, Reject, Retry
from piperkit.dirq import DirectoryQueue
from piperkit.errors import QueueError


def make(key: str, payload: str) -> str:
    """A message that can be checked."""
    return f"{key} {payload} {hashlib.sha256(f'{key} {payload}'.encode()).hexdigest()}"


def check(text: str) -> str | None:
    """The key of a whole message; None for a torn one."""
    body, _, digest = text.rpartition(" ")
    return body.split(" ")[0] if hashlib.sha256(body.encode()).hexdigest() == digest else None


def pause(seconds: float) -> None:
    """Sleep; time.sleep() fails where the clock is faked."""
    select.select([], [], [], seconds)


class Journal:
    """Lines that are whole or not there."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, *words: object) -> None:
        os.write(self._fd, (" ".join(map(str, words)) + "\n").encode())


def produce(path: str, journal: Journal, number: str) -> None:
    """Enqueue messages until SIGTERM, and report each once it is enqueued."""
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    chance = random.Random(f"{number} {os.getpid()}")
    queue = DirectoryQueue(path, min_free=0)
    for sequence in itertools.count():
        if stop:
            break
        key = f"{number}.{os.getpid()}.{sequence}"
        text = make(key, "x" * int(min(20000, 10 * chance.paretovariate(0.7))))
        while True:
            try:
                queue.enqueue(text)
            except (QueueError, OSError):
                pause(0.02)  # no room: a producer waits, and tries again
                if stop:
                    return
            else:
                break
        journal.write("enqueued", key)
        pause(chance.random() * 0.02)


class Worker(Component):
    """Passes messages on, some of them changed, some after a failure."""

    def __init__(self, stage: str, journal: Journal) -> None:
        super().__init__()
        self._stage = stage
        self._journal = journal

    def process(self, message: Message) -> Outcome:
        key = check(message.text)
        self._journal.write("begun", self._stage, key)
        if key is None:
            raise Reject("torn")
        chance = zlib.crc32(key.encode()) % 20
        if chance == 0 and message.attempt == 1:
            self._journal.write("retried", self._stage, key)
            raise Retry("once more", 0.05)
        if chance < 10:
            return message.commit(make(key, "done"))
        if self._stage == "first":  # of which there are more instances: what they pass on is not to pile up
            pause(chance / 1000)
        return message.commit()


if __name__ == "__main__":
    if sys.argv[1] == "producer":
        produce(sys.argv[2], Journal(sys.argv[3]), sys.argv[4])
    else:
        components = [Worker(sys.argv[2], Journal(sys.argv[3]))]
        PiperDaemon(name=sys.argv[2], argv=sys.argv[4:], components=components).run()
