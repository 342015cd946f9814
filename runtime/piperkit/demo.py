"""The contract's demonstration: `python -m piperkit.demo --no-daemon`.

Six small JSON messages are enqueued; `DemoPrintComponent` prints each into the log, counts it and commits it. The
output queue takes two: then processing pauses, until somebody makes room. Here the demonstration does that itself, by
emptying the output queue each time processing has waited for `queue_out_wait` seconds, so that one can watch it go on;
and it ends when all six have passed. Everything is in a directory among the system's temporary files.
"""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any

from piperkit.config import Option
from piperkit.daemon import PiperDaemon
from piperkit.dirq import DirectoryQueue, ensure_queue
from piperkit.host import Result
from piperkit.zenkit import ZenDaemonComponent

NAME = "demo-piperdaemon.py"
#: Seconds between statistics, and between run logs.
INTERVAL = 20


class DemoPrintComponent(ZenDaemonComponent):
    """Prints each message into the log, and commits it."""

    def get_events(self) -> list[dict[str, Any]]:
        return [{"event": "message_process", "callback": self.cbk_event_message_process, "prepend": False}]

    def cbk_event_message_process(self, daemon: PiperDaemon, args: Any) -> Result:
        """Print the message's contents."""
        daemon.logger.info("Processing message: '%s': '%s'", args["id"], str(args["data"]).strip())
        daemon.queue.schedule("message_commit", args)
        self.inc_statistic("cnt_printed")
        return daemon.FLAG_CONTINUE, None


class DemoEmptyComponent(ZenDaemonComponent):
    """Stands for whoever owns the output queue: empties it, some time after it is full."""

    def __init__(self, messages: int) -> None:
        super().__init__()
        self._left = messages

    def get_events(self) -> list[dict[str, Any]]:
        return [
            {"event": "start", "callback": self.cbk_event_start, "prepend": False},
            {"event": "demo_empty", "callback": self.cbk_event_demo_empty, "prepend": False},
        ]

    def setup(self, daemon: PiperDaemon) -> None:
        """Remove what a demonstration left that was interrupted."""
        with DirectoryQueue(daemon.filer.parts.settings.out_dir or "", create=False) as output:
            for queue in (daemon.filer.queue, output):
                for claim in queue.claim(1000):
                    queue.cancel(claim.id)

    def cbk_event_start(self, daemon: PiperDaemon, args: Any) -> Result:
        daemon.queue.schedule_after(daemon.c("queue_out_wait") * 0.9, "demo_empty")
        return daemon.FLAG_CONTINUE, args

    def cbk_event_demo_empty(self, daemon: PiperDaemon, args: Any) -> Result:
        """Take everything out of the output queue if it is full; when everything has come, stop the daemon."""
        if not daemon.filer.paused:
            daemon.queue.schedule_after(daemon.c("queue_out_wait"), "demo_empty")
            return daemon.FLAG_CONTINUE, args
        with DirectoryQueue(daemon.filer.parts.settings.out_dir or "", create=False) as output:
            taken = output.claim(self._left)
            for claim in taken:
                output.commit(claim.id)
        self._left -= len(taken)
        daemon.logger.info(
            "Demonstration: %d messages taken out of the output queue, %d to come", len(taken), self._left
        )
        if self._left:
            daemon.queue.schedule_after(daemon.c("queue_out_wait"), "demo_empty")
        else:
            daemon.queue.schedule(daemon.EVENT_STOP)
        return daemon.FLAG_CONTINUE, args


class DemoPiperDaemon(PiperDaemon):
    """A minimal daemon."""

    def __init__(self, name: str | None = None, description: str | None = None, **kwargs: Any) -> None:
        directory = os.path.join(tempfile.gettempdir(), NAME)
        super().__init__(
            name=name or NAME,
            description=description or "DemoPiperDaemon - a daemon that prints messages and passes them on",
            path_cfg=directory,
            path_var=directory,
            path_log=directory,
            path_run=directory,
            path_tmp=directory,
            options=(Option("test_a", int, 0, "a key that the application declares"),),
            default_stats_interval=INTERVAL,
            default_runlog_interval=INTERVAL,
            schedule=[
                *(("message_enqueue", {"data": f'{{"test{letter}1": 1, "test{letter}2": 2}}'}) for letter in "ABCDEF"),
                ("start",),
            ],
            components=[DemoPrintComponent(), DemoEmptyComponent(6)],
            **kwargs,
        )


def main() -> None:
    """Write the demonstration's configuration, and run it."""
    directory = os.path.join(tempfile.gettempdir(), NAME)
    os.makedirs(directory, exist_ok=True)
    output = os.path.join(directory, "queue.done")
    ensure_queue(output, 0o770)
    with open(os.path.join(directory, f"{NAME}.conf"), "w", encoding="utf-8") as file:
        json.dump({"test_a": 1, "queue_out_dir": output, "queue_out_limit": 2, "queue_out_wait": 5}, file)
    DemoPiperDaemon().run()


if __name__ == "__main__":
    main()
