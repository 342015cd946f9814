"""The runtime: a `PiperDaemon` with a `Component`, as its users write them. See `stopwatch`.

The clock stops at the component's `teardown`, when everything is settled and, with `--sync batch`, on the disk.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

from stopwatch import Stopwatch, arguments

from piperkit import Component, Message, Outcome, PiperDaemon
from piperkit.dirq import DirectoryQueue, Sync


class Pass(Component):
    """Commits each message as it is."""

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__()
        self._watch = watch

    def get_events(self) -> list[dict[str, Any]]:
        return [*super().get_events(), self.gen_event_handler("start", self.cbk_event_start)]

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
        if self._watch.lap():
            self._events.schedule("stop")
        return message.commit(change(message.data))


def change(data: bytes) -> bytes:
    """The component's own work."""
    import orjson

    return orjson.dumps({**orjson.loads(data), "seen": True})


def drain(options: Any, directory: str) -> None:
    files = {"log-file": "log", "pid-file": "pid", "state-file": "state", "runlog-dir": "run", "work-dir": "."}
    argv = [
        f"--queue-in-dir={options.queue}",
        *([f"--queue-out-dir={options.out}", "--queue-out-limit=10000000"] if options.out else []),
        f"--queue-sync={options.sync}",
        *(f"--{key}={directory}/{place}" for key, place in files.items()),
        "--no-daemon",
        "--quiet",
    ]
    component = {"pass": Pass, "json": AddField}[options.work](Stopwatch(options.count))
    PiperDaemon(name="ours", argv=argv, components=[component]).run()


def enqueue(options: Any) -> None:
    """Many at once, in groups as `piperctl queue put` makes them."""
    queue = DirectoryQueue(options.queue, sync=Sync(options.sync))
    contents = b"x" * options.size
    watch = Stopwatch(options.count)
    watch.ready()
    left = options.count
    while left:
        group = min(left, 256)
        with queue.batch():
            for _ in range(group):
                queue.enqueue(contents)
                watch.lap()
        left -= group
    watch.report()


if __name__ == "__main__":
    options = arguments()
    if options.verb == "enqueue":
        enqueue(options)
    else:
        with tempfile.TemporaryDirectory(dir=os.path.dirname(options.queue)) as directory:
            drain(options, directory)
