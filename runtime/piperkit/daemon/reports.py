"""What a daemon tells of itself: its status to the service manager, its state and its run log in files.

The state file is written at each change of the status, before the daemon rests, and now and then, so that whoever wants
to know how a daemon is reads it, and asks the daemon nothing.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from piperkit.daemon.notify import ServiceManager
from piperkit.daemon.runlog import RunLog, write_json

_ERRORS_MAX = 100
#: Seconds between two times that what was done is told.
_INTERVAL = 1.0


class Reports:
    """Writes them. What cannot be written is logged.

    line: one line for people. state: what the state file holds. state_file: its path, or None.
    """

    def __init__(
        self,
        logger: logging.Logger,
        manager: ServiceManager,
        run_log: RunLog,
        state_file: str | None,
        line: Callable[[], str],
        state: Callable[[], dict[str, Any]],
    ) -> None:
        self._logger = logger
        self._manager = manager
        self._run_log = run_log
        self._state_file = state_file
        self._line = line
        self._state = state
        self._trouble: str | None = None  #: why the state could not be written, as it was said
        self._told = float("-inf")  #: when it told how the daemon is, monotonic time
        self.started = time.time()
        self.errors: list[str] = []  #: the first ones, for the run log

    def add_error(self, text: str) -> None:
        """Keep an error for the run log."""
        if len(self.errors) < _ERRORS_MAX:
            self.errors.append(text)

    def status(self, *more: str) -> None:
        """Tell how the daemon is: it has changed, or some time has passed; `more` goes to the service manager."""
        self._told = time.monotonic()
        self._manager.tell(*more, f"STATUS={self._line()}")
        self.write_state()

    def rest(self, last_done: float | None) -> float:
        """Nothing is to be done now: tell what was done meanwhile, but not too often.

        last_done: when something was done last, monotonic time. Returns the seconds until there is something to tell.
        """
        if last_done is None or last_done <= self._told:
            return math.inf
        left = self._told + _INTERVAL - time.monotonic()
        if left > 0:
            return left
        self.status()
        return math.inf

    def write_state(self, *, asked: bool = False, more: Mapping[str, Any] | None = None) -> None:
        """Replace the state file; `asked`: say so, and put in `more`, which takes its time to find out."""
        if self._state_file is None:
            return
        try:
            write_json(self._state_file, {**self._state(), **(more or {})})
        except OSError as error:
            trouble = f"The state cannot be saved to {self._state_file}: {error.strerror}"
            if asked or trouble != self._trouble:
                self._logger.error("%s", trouble)
            self._trouble = trouble
        else:
            self._trouble = None
            if asked:
                self._logger.info("State saved to %s", self._state_file)

    def write_run_log(self, retc: int, statistics: dict[str, Any]) -> None:
        """Replace the run log."""
        try:
            self._run_log.save(rc=retc, errors=self.errors, statistics=statistics)
        except OSError as error:
            self._logger.error("The run log cannot be saved to %s: %s", self._run_log.path, error.strerror)
        else:
            self._logger.info("Run log saved to %s", self._run_log.path)
