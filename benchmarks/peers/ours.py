"""The runtime: a `PiperDaemon` with a `Component`, as its users write them. See `stopwatch`.

The clock starts before any other handler of the event `start`, right after the daemon has said that it is ready. It
stops at the component's `teardown`, when everything is settled and, with `--sync batch`, on the disk.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from typing import Any

import orjson

from piperkit import Component, Message, Outcome, PiperDaemon
from piperkit.dirq import DirectoryQueue, Sync
from stopwatch import Stopwatch, arguments


class Pass(Component):
    """Commits each message as it is."""

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__()
        self._watch = watch

    def get_events(self) -> list[dict[str, Any]]:
        return [*super().get_events(), self.gen_event_handler("start", self.cbk_event_start, True)]

    def setup(self, daemon: PiperDaemon) -> None:
        self._events = daemon.queue

    def cbk_event_start(self, daemon: PiperDaemon, args: Any) -> Any:
        self._watch.ready()
        return daemon.FLAG_CONTINUE, args

    def process(self, message: Message) -> Outcome:
        if self._watch.lap():
            self._events.schedule("stop")
        return message.commit()

    def teardown(self, daemon: PiperDaemon) -> None:
        self._watch.report()


class AddField(Pass):
    """A real component: JSON in, a field added, JSON out."""

    def process(self, message: Message) -> Outcome:
        super().process(message)
        return message.commit(change(message.data))


def change(data: bytes) -> bytes:
    """The component's own work."""
    return orjson.dumps({**orjson.loads(data), "seen": True})


class Stamp(Pass):
    """Each message holds when it was enqueued, in nanoseconds of the monotonic clock, which is everybody's."""

    def process(self, message: Message) -> Outcome:
        self._taken.append((time.monotonic_ns() - int(message.data)) / 1e6)
        return super().process(message)

    def setup(self, daemon: PiperDaemon) -> None:
        super().setup(daemon)
        self._taken: list[float] = []

    def teardown(self, daemon: PiperDaemon) -> None:
        self._watch.report(milliseconds=self._taken)


WORK = {"pass": Pass, "json": AddField, "stamp": Stamp}


def drain(options: Any, directory: str) -> None:
    files = {"log-file": "log", "pid-file": "pid", "state-file": "state", "runlog-dir": "run", "work-dir": "."}
    argv = [
        f"--queue-in-dir={options.queue}",
        *([f"--queue-out-dir={options.out}", "--queue-out-limit=10000000"] if options.out else []),
        f"--queue-sync={options.sync}",
        f"--message-format={options.format}",
        *(f"--{key}={directory}/{place}" for key, place in files.items()),
        "--no-daemon",
        "--quiet",
    ]
    PiperDaemon(name="ours", argv=argv, components=[WORK[options.work](Stopwatch(options.count))]).run()


def work(options: Any) -> None:
    """What the component does, without a queue or a daemon around it; QUEUE is a message's file."""
    with open(options.queue, "rb") as file:
        data = file.read()
    watch = Stopwatch(options.count)
    watch.ready()
    for _ in range(options.count):
        change(data)
        watch.lap()
    watch.report()


def enqueue(options: Any) -> None:
    """Many at once, in the groups that the library makes."""
    queue = DirectoryQueue(options.queue, sync=Sync(options.sync))
    contents = b"x" * options.size
    watch = Stopwatch(options.count)
    watch.ready()
    queue.enqueue_many(itertools.repeat(contents, options.count))
    for _ in range(options.count):
        watch.lap()
    watch.report()


if __name__ == "__main__":
    options = arguments()
    if options.verb == "drain":
        with tempfile.TemporaryDirectory(dir=os.path.dirname(options.queue)) as directory:
            drain(options, directory)
    else:
        {"enqueue": enqueue, "work": work}[options.verb](options)
