"""What every peer written in Python has in common: its command line, its start at a signal, and its report.

A peer is a program:

    PEER drain QUEUE [--count N] [--out QUEUE] [--sync MODE]     take N messages, and delete or move each
    PEER enqueue QUEUE --count N --size BYTES [--sync MODE]      put N messages

Some know more: `--work json` adds a field to each message, `--work stamp` takes down how long each was on its way,
`--format bytes` has the daemon not look into them, and the verb `work` is the component's work alone.

It prints `ready` when it could begin, waits for a line on its standard input, works, and prints a report: one line of
JSON. The clock runs from that line to the end of the last message, so neither start nor end of the program count; the
processor's time is of the same interval. A daemon without a count works until SIGINT stops it, and reports then.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from typing import Any


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line of a peer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=("drain", "enqueue", "work"))
    parser.add_argument("queue")
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--out")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--sync", choices=("off", "batch", "always"), default="off")
    parser.add_argument("--work", choices=("pass", "json", "stamp"), default="pass")
    parser.add_argument("--format", choices=("text", "bytes"), default="text")
    return parser.parse_args(argv)


class Stopwatch:
    """Counts messages and stops the time that they take.

    count: the messages after which the work is done; 0: nobody knows.
    """

    def __init__(self, count: int = 0) -> None:
        self.count = count
        self.messages = 0
        self._began = self._first = self._last = 0.0
        self._user = self._system = 0.0

    def ready(self) -> None:
        """Say that the work could begin, wait until it may, and start the clock."""
        print("ready", flush=True)
        sys.stdin.readline()
        self._user, self._system = _processor()
        self._began = self._last = time.monotonic()

    def lap(self) -> bool:
        """One message more; returns whether it is the last."""
        self.messages += 1
        self._last = time.monotonic()
        if self.messages == 1:
            self._first = self._last
        return self.messages == self.count

    def report(self, **more: Any) -> None:
        """Stop the clock, unless nobody knew when the work would be done: then it stopped at the last message."""
        ended = time.monotonic() if self.count else self._last
        user, system = _processor()
        found = {
            "messages": self.messages,
            "began": self._began,
            "ended": ended,
            "user": user - self._user,
            "system": system - self._system,
            "first": self._first - self._began if self.messages else None,
            "peak": _peak(),
            **more,
        }
        print(json.dumps(found), flush=True)


def _peak() -> int:
    """The most memory that this program has used, in KiB; rusage would count the program that started it, too."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def _processor() -> tuple[float, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_stime
