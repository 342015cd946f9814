"""`PiperDaemon`: a daemon that takes messages from a queue, and its life from the command line to the last event.

It is a `pyzenkit.zendaemon.ZenDaemon`, so components written for that run on it. What happens, in this order:

1. the configuration is read and checked: defaults, directory, file, command line, the last wins (`settings`);
2. an action (`--action`) is done, and that is all (`actions`); or
3. as whoever started it: chroot, and the directories that are missing; then it becomes the user that it runs as;
4. logs, the way into the background, the pid file, signals (`process`, `logs`);
5. queue and components are set up, and the event loop runs;
6. whatever is still claimed is given back, the components are torn down, the run log is written.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from piperkit import versions
from piperkit.component import Result
from piperkit.daemon import logs, process
from piperkit.daemon.events import Timer
from piperkit.daemon.reports import INTERVALS, Reports
from piperkit.daemon.runlog import VERSIONS, RunLog
from piperkit.daemon.status import Status
from piperkit.daemon.waker import Waker
from piperkit.dirq import DirectoryQueue, Sync, ensure_queue
from piperkit.dirq import watch as _watch  # noqa: F401  now: after a chroot it may be out of reach
from piperkit.errors import ConfigError, ExitStatus, PiperError
from piperkit.filer.claiming import LOOK_INTERVAL
from piperkit.filer.doorbell import Doorbell
from piperkit.queue import Queue, Watch
from piperkit.zenkit import QueueEmptyException, ZenDaemonStopException


class PiperDaemon(Reports):
    """A daemon with a filer in front of its components.

    name, description: as shown; the name is also that of its files and of its default input queue.
    components: what handles the messages, in order; the filer is put before them, unless one is among them.
    options: configuration keys of the application, beside those that its components declare.
    default_KEY: another default for a key.
    path_cfg, path_var, path_log, path_run, path_tmp: where its files are; or
    anchor: `__file__` of the application, from which these follow, see `piperkit.daemon.paths`.
    template: the version of the template that the program was made by, which has to go with this runtime.
    argv: the command line, without the program's name; None: the process's own.
    schedule, schedule_next, schedule_at, schedule_after: first events, as in pyzenkit.
    """

    EVENT_RELOAD = "reload"
    EVENT_RELOADED = "reloaded"
    EVENT_WATCHDOG = "watchdog"

    def __init__(self, **kwargs: Any) -> None:
        # Timers follow the configuration, unless the application sets its own.
        self._default_timers = self.CONFIG_SCHEDULE_AFTER not in kwargs
        kwargs.setdefault(self.CONFIG_SCHEDULE_AFTER, ())
        self._background = process.Background()
        self._watch: Watch | None = None
        self._metrics = contextlib.ExitStack()
        self._sign: Timer | None = None  #: the timer of the next sign of life
        super().__init__(**kwargs)

    # -- running ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Live: from configuration to the end of the process, which is `SystemExit` with the exit status."""
        try:
            self._stage_setup()
            if self.c(self.CONFIG_ACTION):
                self._stage_action()
            else:
                self._stage_process()
                self._stage_teardown()
        except PiperError as error:
            self.retc = int(error.exit_status)
            self._report(str(error))
        except Exception as error:
            self.error(f"{type(error).__name__}: {error}", trcb=error.__traceback__)
            self._report(f"{type(error).__name__}: {error}")
        self._background.failed(self.retc)
        if not self._until_idle:
            gc.freeze()  # or the interpreter looks for cycles in all that was loaded, which takes most of a short stop
        sys.exit(self.retc)

    def _report(self, text: str) -> None:
        """One line for whoever started us, and for the log."""
        print(f"{self.name}: {text}", file=sys.stderr)
        if self.logger is not None and not self.c(self.CONFIG_NODAEMON):
            self.logger.critical(text)

    def run_until_idle(self) -> int:
        """Live in the foreground until there is nothing to do, for tests; returns the exit status.

        Messages that are put off, and those that wait for room in the output queue, are left where they are.
        """
        self._until_idle = True
        try:
            self.run()
        except SystemExit as end:
            return int(end.code or 0)
        return self.retc

    def _stage_setup(self) -> None:
        """Everything before the background and the queue. Raises PiperError."""
        # Before the configuration, in which another version's keys would only puzzle.
        if self.template is not None and not self._config_cli.get(self.CONFIG_ACTION):
            versions.check(self.template, VERSIONS["piperkit"], self.checkout)
        self._stage_setup_configuration()
        if self.c(self.CONFIG_ACTION):
            self.logger = logs.setup(self.name, self.c(self.CONFIG_LOG_LEVEL), None, console=True)
            return
        self._stage_setup_privileges()
        self._stage_setup_logging()
        self._stage_setup_plugins()

    def _stage_setup_privileges(self) -> None:
        """Make what only the user that started us may make, and become the user that we run as."""
        identity: process.Identity | None = self.cc(self.CORE_IDENTITY)
        owner = identity.owner if identity is not None and os.geteuid() == 0 else None
        # Whoever starts it with a stricter umask means it.
        os.umask(os.umask(0o077) | self.c(self.CONFIG_UMASK))
        if self.c(self.CONFIG_CHROOT_DIR):
            process.change_root(self.c(self.CONFIG_CHROOT_DIR))
        work_dir = self.c(self.CONFIG_WORK_DIR)
        if work_dir and not os.path.isdir(work_dir):
            raise ConfigError(f"work_dir is {work_dir}, which is no directory; make it, or name another one")
        core = self.cc(self.CORE_FILEQUEUE)
        for directory in (core["dir_queue"], core["dir_next_queue"]):
            if directory:
                ensure_queue(directory, core["queue_perms"], owner)
        # After the queues: a directory above both has to be open to producers.
        files = [self.c(key) for key in ("log_file", "pid_file", "state_file", "metrics_file") if self.c(key)]
        process.make_parents([*files, os.path.join(self.c("runlog_dir"), "x")], owner)
        if identity is not None:
            identity.become()

    def _stage_setup_logging(self) -> None:
        foreground = self.c(self.CONFIG_NODAEMON)
        self.logger = logs.setup(
            self.name,
            self.c(self.CONFIG_LOG_LEVEL),
            self.c(self.CONFIG_LOG_FILE),
            console=foreground and not self.c(self.CONFIG_QUIET),
            form=self.c("log_format"),
            background=not foreground,
            subject=self._subject,
        )

    def _subject(self) -> dict[str, Any]:
        """What log lines are about: the message whose event is being handled."""
        args = self._event_args
        id = args.get("id") if isinstance(args, dict) else args
        return self.filer.about(self, id) if isinstance(id, str) else {}

    def open_queue(self) -> Queue:
        """The input queue, as configured; the filer calls it. Raises QueueMissing."""
        core = self.cc(self.CORE_FILEQUEUE)
        return DirectoryQueue(
            core["dir_queue"],
            next_queue=core["dir_next_queue"],
            perms=core["queue_perms"],
            seal=self.c("queue_seal"),
            sync=Sync(self.c("queue_sync")),
            orphan_age=self.c("orphan_age"),
            crash_limit=self.c("crash_limit"),
            message_max=self.c("message_max"),
            min_free=self.c("queue_min_free"),
            daemon=self.name,
            logger=self.logger,
        )

    def _sub_stage_process(self) -> None:
        """Set up, loop, and clean up."""
        process.keep_memory()
        self._daemonize()
        with process.in_children(self._forget), Waker() as self._waker, self._signals():
            try:
                self._start()
                self._event_loop()
            except QueueEmptyException:
                self.logger.info("There are no more events; the daemon ends")
            except ZenDaemonStopException as end:
                self.logger.info("The daemon ends: %s", end)
            except BaseException as error:
                self.retc = int(getattr(error, "exit_status", ExitStatus.FAILURE))
                raise
            finally:
                self._finish()

    def _forget(self) -> None:
        """This is a forked child now: it is no daemon, holds nothing of one, and must not end what is the daemon's."""
        self._forked = True
        self._forget_signals()
        for held in (self._background, self._pid_file, self._manager):
            if held is not None:
                held.forget()
        if self._watch is not None:
            self._watch.close()

    def _daemonize(self) -> None:
        """Go into the background, unless told otherwise, and take the pid file. Raises AlreadyRunning."""
        if not self.c(self.CONFIG_NODAEMON):
            self._background.enter(self.c(self.CONFIG_WORK_DIR))
        elif self.c(self.CONFIG_WORK_DIR):
            os.chdir(self.c(self.CONFIG_WORK_DIR))
        if self.c(self.CONFIG_PID_FILE):
            self._pid_file = process.PidFile(self._get_fn_pidfile())
            self._pid_file.take()

    def _get_fn_pidfile(self) -> str:
        """The pid file of this instance."""
        path: str = self.c(self.CONFIG_PID_FILE)
        return f"{path.removesuffix('.pid')}.{self._get_process_serial()}.pid" if self.c(self.CONFIG_PARALEL) else path

    def _start(self) -> None:
        self._started = time.time()
        self._status_of = Status(self.filer)
        self._run_log = RunLog(self.c("runlog_dir"), self.name, self._started)
        for component in self.components:
            component._piper = self
        self._sub_stage_setup()  # the components' own
        self._watch_queue()
        self._expose_metrics()
        if self._default_timers:
            for event in INTERVALS:
                self._repeat(event)
        self._background.ready()
        self._manager.tell("READY=1", f"STATUS={self.status_line()}")
        self._give_signs()

    def _expose_metrics(self) -> None:
        """Raises MetricsUnavailable."""
        if self.c("metrics_address") or self.c("metrics_file"):
            from piperkit.daemon import exposition  # an extra, for those who want metrics

            exposition.expose(self, self._metrics)

    def _give_signs(self) -> None:
        """Have the service manager wait `process_timeout` for a sign of life, and give one three times in that time."""
        seconds = self.c("process_timeout")
        self._manager.watch_every(seconds)
        if self._manager.watches:
            if self._sign is not None:
                self.queue.cancel(self._sign)
            self._sign = self.queue.schedule_after(seconds / 3, self.EVENT_WATCHDOG)

    def progress(self) -> None:
        """Say that a long piece of work goes on, so that the watchdog leaves it alone."""
        self._manager.alive()

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        """Call `handler` from the loop whenever `fd` is readable: it has to read what is there, or `unwatch(fd)`.

        From `setup` on. A handler does little, and schedules an event for the rest.
        """
        assert self._waker is not None, "the daemon does not run yet; watch a descriptor from setup(daemon) on"
        self._waker.watch(fd, handler)

    def unwatch(self, fd: int) -> None:
        """Do not watch `fd` any more."""
        assert self._waker is not None
        self._waker.unwatch(fd)

    def _watch_queue(self) -> None:
        """Let arrivals wake the loop."""
        try:
            watch = self.filer.queue.watch()
        except OSError as error:
            wait = min(LOOK_INTERVAL, self.c(self.CONFIG_QUEUE_IN_WAIT))
            self.logger.warning("Arrivals do not wake the daemon: %s; it looks every %g s", error, wait)
            return

        def arrived() -> None:
            watch.drain()
            self.filer.wake(self)

        self.watch(watch.fileno(), arrived)
        self._watch = watch
        self.filer.bell = Doorbell(watch)

    def _finish(self) -> None:
        """Whatever the reason for the end is: give back, tear down, write the run log."""
        if self._forked:
            return
        self._handling = True
        for component in reversed(self.components):
            teardown = getattr(component, "teardown", None)
            if teardown is not None:
                with self._logged(f"{type(component).__name__}.teardown"):
                    teardown(self)
        with self._logged("the end of metrics"):
            self._metrics.close()
        if hasattr(self.filer, "queue"):
            with self._logged("closing the queue"):
                self.filer.close(self)
            with self._logged("the run log"):
                self._save_run_log()
        if self._watch is not None:
            self._watch.close()
        if self._pid_file is not None:
            self._pid_file.remove()
        logs.tell_repeats(self.logger)
        self.logger.info("The daemon has ended, with status %d", self.retc)

    @contextlib.contextmanager
    def _logged(self, what: str) -> Iterator[None]:
        """Log what goes wrong in the block, and go on."""
        try:
            yield
        except Exception as error:
            self.error(f"{what} failed: {type(error).__name__}: {error}", self.retc, error.__traceback__)

    # -- events ----------------------------------------------------------------------------------------------

    def get_events(self) -> list[dict[str, Any]]:
        """pyzenkit's events, and those that it lacks."""
        return [
            *super().get_events(),
            self.gen_event_handler(self.EVENT_SIGNAL_USR1, self.cbk_event_signal_usr1),
            self.gen_event_handler(self.EVENT_SAVE_RUNLOG, self.cbk_event_save_runlog),
            self.gen_event_handler(self.EVENT_RELOAD, self.cbk_event_reload),
            self.gen_event_handler(self.EVENT_RELOADED, self.cbk_event_reloaded),
            self.gen_event_handler(self.EVENT_WATCHDOG, self.cbk_event_watchdog),
        ]

    def cbk_event_start(self, daemon: PiperDaemon, args: Any) -> Result:
        self.logger.info("The daemon starts, with pid %d", os.getpid())
        return self.FLAG_CONTINUE, args

    def cbk_event_stop(self, daemon: PiperDaemon, args: Any) -> Result:
        """Finish what is in work, and end; after `stop_timeout` seconds in any case."""
        self.set_done()
        self.logger.info("The daemon stops: it finishes what it is working on")
        self._tell_stopping()
        self.queue.schedule_after(self.c("stop_timeout"), self.EVENT_TERMINATE)
        return self.FLAG_CONTINUE, args

    def cbk_event_terminate(self, daemon: PiperDaemon, args: Any) -> Result:
        """The loop ends after the components' handlers of this event."""
        self.logger.warning("The daemon ends before everything in work is finished")
        return self.FLAG_CONTINUE, args

    def cbk_event_signal_hup(self, daemon: PiperDaemon, args: Any) -> Result:
        """Read the configuration again, and tell the components if it was right."""
        self._manager.reloading()
        self.queue.schedule_next(self.EVENT_RELOADED)
        if self._reload():
            self.filer.configure(self)
            self.filer.look_again(self)
            for event in self._timers:
                self._repeat(event)
            self.logger.setLevel(self.c(self.CONFIG_LOG_LEVEL).upper())
            self._give_signs()
            self.queue.schedule_next(self.EVENT_RELOAD)  # before the other
        return self.FLAG_CONTINUE, args

    def cbk_event_reloaded(self, daemon: PiperDaemon, args: Any) -> Result:
        """The components know of the new configuration, or it was refused: either way that is over."""
        self._manager.tell("READY=1", f"STATUS={self.status_line()}")
        return self.FLAG_CONTINUE, args

    def cbk_event_watchdog(self, daemon: PiperDaemon, args: Any) -> Result:
        """The loop lives: say so, and again later."""
        self._manager.alive()
        self._sign = self.queue.schedule_after(self.c("process_timeout") / 3, self.EVENT_WATCHDOG)
        return self.FLAG_CONTINUE, args

    def cbk_event_reload(self, daemon: PiperDaemon, args: Any) -> Result:
        return self.FLAG_CONTINUE, args
