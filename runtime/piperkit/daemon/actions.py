"""What `--action` does: one thing, instead of running. Each `cbk_action_X` is the action X."""

from __future__ import annotations

import datetime
import json
import os
import signal
import time
from typing import Any

from piperkit.config import render_file
from piperkit.daemon import process
from piperkit.daemon.runlog import VERSIONS
from piperkit.daemon.settings import Settings
from piperkit.dirq.layout import HOLDING
from piperkit.errors import ExitStatus

#: Seconds that a running daemon has to answer.
STATUS_WAIT = 3.0


class Actions(Settings):
    """The part of `PiperDaemon` that answers to `--action`; pyzenkit's signal-* actions end in `send_signal`."""

    def send_signal(self, sign: int) -> None:
        """Send a signal to the running daemon, or with --paralel to all of its instances; 0 only looks.

        The exit status is 3 where none is running. A pid file that its process has left behind is not believed.
        """
        name = signal.Signals(sign).name if sign else "0"
        path = self.c(self.CONFIG_PID_FILE)
        running = self._running()
        for pid in running.values():
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                continue  # it has just ended
            except PermissionError:
                self.p(f"{self.name}: pid {pid} runs as another user; send signals as that user or as root")
                self.retc = ExitStatus.FAILURE
                continue
            self.p(f"{self.name}: signal {name} sent to pid {pid}" if sign else f"{self.name}: running, pid {pid}")
        if not running:
            self.p(f"{self.name}: not running ({path})" if path else f"{self.name}: has no pid file")
            self.retc = ExitStatus.NOT_RUNNING

    def _running(self) -> dict[str, int]:
        """The pid of each instance that runs, by its pid file. Raises NotAllowed where these are not ours to read."""
        path = self.c(self.CONFIG_PID_FILE)
        files = process.pid_files(path, self.c(self.CONFIG_PARALEL)) if path else []
        return {file: pid for file in files if (pid := process.running_pid(file)) is not None}

    def cbk_action_config_check(self) -> None:
        """Say that the configuration is right: it was checked before any action."""
        self.p(f"{self.name}: the configuration is right")

    def cbk_action_config_view(self) -> None:
        """Print the value of each key, and where it comes from."""
        others = [key for key in self.config if key not in self.options and key != self.CORE]
        keys = [key for key in self.options if key in self.config and not self.options[key].cli_only] + others
        width = max(map(len, keys))
        for key in keys:
            print(f"{key:{width}} = {self.shown(key)}  ({self.origins.get(key, 'default')})")

    def cbk_action_describe(self) -> None:
        """Print, as JSON, what this daemon is and where its queues are: for `piperctl doctor`, and other programs."""
        core = self.cc(self.CORE_FILEQUEUE)
        try:
            pids = list(self._running().values())
        except process.NotAllowed:
            pids = None
        facts = {
            "name": self.name,
            "template": self.template,
            "versions": VERSIONS,
            "checkout": self.checkout,
            "queue": core["dir_queue"],
            "next_queue": core["dir_next_queue"],
            "pids": pids,
            "config": {key: json.loads(self.shown(key)) for key in self.config if key != self.CORE},
        }
        print(json.dumps(facts))

    def cbk_action_status(self) -> None:
        """Tell its user, or root, how the running daemon is; the exit status is 0 where it runs, 3 where it does not.

        It is asked to write its state file. While it is in the middle of a message, it is as it was when it last wrote
        that.
        """
        path = self.c(self.CONFIG_PID_FILE)
        running = self._running()
        for file, pid in running.items():
            serial = file.removesuffix(".pid").rpartition(".")[2]
            state: str = self.c(self.CONFIG_STATE_FILE)
            self.p(self._status(f"{state.removesuffix('.state')}.{serial}.state" if self.c("paralel") else state, pid))
        if not running:
            self.p(f"{self.name}: not running ({path})" if path else f"{self.name}: has no pid file")
            self.retc = ExitStatus.NOT_RUNNING

    def _status(self, path: str, pid: int) -> str:
        """Ask one instance for its state; what it says, for people."""
        before = _written(path)
        try:
            os.kill(pid, signal.SIGUSR2)
        except ProcessLookupError:
            return f"{self.name}: pid {pid} has just ended"
        except PermissionError:
            why = "it tells how it is to its user and to root"
        else:
            why = "it is in the middle of a message"
            deadline = time.monotonic() + STATUS_WAIT
            while _written(path) == before and time.monotonic() < deadline:
                time.sleep(0.02)
        state = _read(path)
        if state.get("pid") != pid:
            return f"{self.name}: running, pid {pid}; {why}"
        first = f"{self.name}: running, pid {pid}, since {_moment(state['started'])}"
        if _written(path) == before:
            first += f"; {why}, and was at {_moment(state['time'])}:"
        counts = state["counts"]
        found = (
            "cannot be counted now"
            if counts is None
            else ", ".join(f"{counts[part]} {part}" for part in HOLDING if counts[part])
        )
        return "\n".join([first, f"  {state['status']}", f"  queue: {found or 'empty'}"])

    def cbk_action_config_template(self) -> None:
        """Print a configuration file in which every key is explained."""
        places = {"name": self.name, **{path: f"<{path}>" for path in self.paths}}
        print(render_file(self.own_defaults(), places, f"Configuration of {self.name}"), end="")


def _written(path: str) -> float | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None  # not there, or not for us


def _read(path: str) -> dict[str, Any]:
    """What a state file holds; nothing where it is not there, or not for us."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).isoformat(" ", "seconds")
