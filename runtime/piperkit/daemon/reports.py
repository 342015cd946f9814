"""What a daemon tells of itself: its status, its state (SIGUSR2), its run log (SIGUSR1), its statistics."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from piperkit.component import Result
from piperkit.daemon import logs
from piperkit.daemon.events import Timer
from piperkit.daemon.loop import Loop
from piperkit.daemon.runlog import RunLog, write_json
from piperkit.daemon.status import Status
from piperkit.errors import PiperError

if TYPE_CHECKING:
    from piperkit.daemon.piper import PiperDaemon

#: Events that come again and again, and the keys that say how often.
INTERVALS = {"log_statistics": "stats_interval", "save_runlog": "runlog_interval"}


class Reports(Loop):
    """The part of `PiperDaemon` that reports."""

    EVENT_SAVE_RUNLOG = "save_runlog"

    _status_of: Status  #: made when the filer has its queue

    def __init__(self, **kwargs: Any) -> None:
        self._started = 0.0
        self._run_log: RunLog | None = None
        self._timers: dict[str, Timer] = {}  #: by event, see INTERVALS
        super().__init__(**kwargs)

    def status_line(self) -> str:
        """One line for people: what it does, or waits for, and how much it has done."""
        return self._status_of.line(self.is_done())

    def tell_status(self) -> None:
        """Tell the service manager how we are."""
        self._manager.tell(f"STATUS={self.status_line()}")

    def _repeat(self, event: str) -> None:
        """Schedule one of the events that come at an interval, instead of the one that is scheduled already."""
        if event in self._timers:
            self.queue.cancel(self._timers[event])
        self._timers[event] = self.queue.schedule_after(self.c(INTERVALS[event]), event)

    def cbk_event_signal_usr1(self, daemon: PiperDaemon, args: Any) -> Result:
        """Write the run log."""
        self._save_run_log()
        return self.FLAG_CONTINUE, args

    def cbk_event_log_statistics(self, daemon: PiperDaemon, args: Any) -> Result:
        """The components log their statistics, and again after `stats_interval` seconds."""
        logs.tell_repeats(self.logger)
        if not self.is_done():
            self._repeat(self.EVENT_LOG_STATISTICS)
        return self.FLAG_CONTINUE, args

    def cbk_event_save_runlog(self, daemon: PiperDaemon, args: Any) -> Result:
        """Write the run log, and again after `runlog_interval` seconds."""
        if not self.is_done():
            self._repeat(self.EVENT_SAVE_RUNLOG)
        self._save_run_log()
        return self.FLAG_CONTINUE, args

    def _save_run_log(self) -> None:
        if self._run_log is not None:
            statistics = {type(found).__name__: dict(found.statistics_cur) for found in self.components}
            try:
                self._run_log.save(rc=self.retc, errors=self._errors, statistics=statistics)
            except OSError as error:
                self.logger.error("The run log cannot be saved to %s: %s", self._run_log.path, error.strerror)
            else:
                self.logger.info("Run log saved to %s", self._run_log.path)

    def cbk_event_signal_usr2(self, daemon: PiperDaemon, args: Any) -> Result:
        """Write the state to the state file."""
        path = self._get_fn_state()
        try:
            write_json(path, self._get_state())
        except OSError as error:
            self.logger.error("The state cannot be saved to %s: %s", path, error.strerror)
        else:
            self.logger.info("State saved to %s", path)
        return self.FLAG_CONTINUE, args

    def _counts(self) -> dict[str, int] | None:
        """Messages in each part of the queue; None where they cannot be counted, which `status` says why."""
        try:
            return self.filer.queue.counts()
        except (OSError, PiperError):
            return None

    def _get_state(self) -> dict[str, Any]:
        """What SIGUSR2 writes, for programs and for `--action status`."""
        return {
            "time": time.time(),
            "started": self._started,
            "name": self.name,
            "pid": os.getpid(),
            "rc": self.retc,
            "status": self.status_line(),
            "counts": self._counts(),
            "config": {key: json.loads(self.shown(key)) for key in self.config if key != self.CORE},
            "paths": self.paths,
            "events": {event: [repr(handler) for handler in found] for event, found in self.callbacks.items()},
            "components": {type(component).__name__: component.get_state() for component in self.components},
        }
