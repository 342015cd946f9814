"""What `--action` does: one thing, instead of running. Each `cbk_action_X` is the action X."""

from __future__ import annotations

import os
import signal

from piperkit.config import render_file
from piperkit.daemon import process
from piperkit.daemon.settings import Settings
from piperkit.errors import ExitStatus


class Actions(Settings):
    """The part of `PiperDaemon` that answers to `--action`; pyzenkit's signal-* actions end in `send_signal`."""

    def send_signal(self, sign: int) -> None:
        """Send a signal to the running daemon, or with --paralel to all of its instances; 0 only looks.

        The exit status is 3 where none is running. A pid file that its process has left behind is not believed.
        """
        name = signal.Signals(sign).name if sign else "0"
        path = self.c(self.CONFIG_PID_FILE)
        files = process.pid_files(path, self.c(self.CONFIG_PARALEL)) if path else []
        running = [pid for file in files if (pid := process.running_pid(file)) is not None]
        for pid in running:
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

    def cbk_action_config_check(self) -> None:
        """Say that the configuration is right: it was checked before any action."""
        self.p(f"{self.name}: the configuration is right")

    def cbk_action_config_template(self) -> None:
        """Print a configuration file in which every key is explained."""
        places = {"name": self.name, **{path: f"<{path}>" for path in self.paths}}
        print(render_file(self.own_defaults(), places, f"Configuration of {self.name}"), end="")
