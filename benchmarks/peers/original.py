"""The original: `mentat.daemon.piper.PiperDaemon` of mentat-ng 2.15.4, on pyzenkit 0.67, as it is installed.

It is a real daemon, with a component as its users write them: it passes every message on. See `stopwatch`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

import mentat.daemon.piper
import mentat.dirq
import orjson
from pyzenkit.zendaemon import ZenDaemonComponent

from stopwatch import Stopwatch, arguments


class Pass(ZenDaemonComponent):
    """Commits each message as it is, or with a field added to it."""

    def __init__(self, watch: Stopwatch, change: bool) -> None:
        super().__init__()
        self._watch = watch
        self._change = change

    def get_events(self) -> list[dict[str, Any]]:
        table = {"start": self.on_start, "message_process": self.on_message, "stop": self.on_stop}
        return [
            {"event": event, "callback": callback, "prepend": event == "start"} for event, callback in table.items()
        ]

    def on_start(self, daemon: Any, args: Any) -> Any:
        self._watch.ready()
        return daemon.FLAG_CONTINUE, args

    def on_message(self, daemon: Any, args: Any) -> Any:
        if self._change:
            args["data"] = orjson.dumps({**orjson.loads(args["data"]), "seen": True}).decode()
            daemon.queue.schedule("message_update", args)
        daemon.queue.schedule("message_commit", args)
        if self._watch.lap():
            daemon.queue.schedule("stop")
        return daemon.FLAG_CONTINUE, args

    def on_stop(self, daemon: Any, args: Any) -> Any:
        daemon.set_done()  # the event alone does not end its loop; the signal does both
        self._watch.report()
        return daemon.FLAG_CONTINUE, args


def drain(options: Any, directory: str) -> None:
    os.makedirs(os.path.join(directory, "etc"))
    sys.argv = [
        "original",
        f"--queue-in-dir={options.queue}",
        *([f"--queue-out-dir={options.out}", "--queue-out-limit=10000000"] if options.out else []),
        f"--log-file={directory}/log",
        f"--pid-file={directory}/original.pid",
        f"--work-dir={directory}",
        "--config-dir-silent",
        "--config-file-silent",
        "--no-daemon",
        "--quiet",
    ]
    paths = {f"path_{kind}": directory for kind in ("bin", "cfg", "var", "log", "run", "tmp")}
    components = [Pass(Stopwatch(options.count), options.work == "json")]
    mentat.daemon.piper.PiperDaemon(
        name="original",
        description="The original",
        default_config_dir=f"{directory}/etc",
        components=components,
        **paths,
    ).run()


def enqueue(options: Any) -> None:
    queue = mentat.dirq.DirectoryQueue(options.queue)
    contents = "x" * options.size
    watch = Stopwatch(options.count)
    watch.ready()
    for _ in range(options.count):
        queue.enqueue(contents)
        watch.lap()
    watch.report()


if __name__ == "__main__":
    options = arguments()
    if options.verb == "enqueue":
        enqueue(options)
    else:
        with tempfile.TemporaryDirectory(dir=os.path.dirname(options.queue)) as directory:
            drain(options, directory)
