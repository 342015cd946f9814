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
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from pyzenkit.zendaemon import QueueEmptyException, ZenDaemonStopException

from piperkit.component import Result
from piperkit.daemon import logs, process
from piperkit.daemon.actions import Actions
from piperkit.daemon.events import EventQueue, Timer
from piperkit.daemon.notify import ServiceManager
from piperkit.daemon.runlog import RunLog, write_json
from piperkit.daemon.waker import Waker
from piperkit.dirq import DirectoryQueue, Sync, ensure_queue
from piperkit.dirq import watch as _watch  # noqa: F401  now: after a chroot it may be out of reach
from piperkit.errors import ExitStatus, PiperError
from piperkit.queue import Queue, Watch

#: A stop signal that comes this often ends the daemon at once.
STOP_SIGNALS_MAX = 3
#: Seconds beyond `stop_timeout` that the loop has to end by itself before it is ended.
STOP_GRACE = 1.0
_SIGNAL_EVENTS = {signal.SIGHUP: "signal_hup", signal.SIGUSR1: "signal_usr1", signal.SIGUSR2: "signal_usr2"}
_ERRORS_MAX = 100


class PiperDaemon(Actions):
    """A daemon with a filer in front of its components.

    name, description: as shown; the name is also that of its files and of its default input queue.
    components: what handles the messages, in order; the filer is put before them, unless one is among them.
    options: configuration keys of the application, beside those that its components declare.
    default_KEY: another default for a key.
    path_cfg, path_var, path_log, path_run, path_tmp: where its files are; or
    anchor: `__file__` of the application, from which these follow, see `piperkit.daemon.paths`.
    argv: the command line, without the program's name; None: the process's own.
    schedule, schedule_next, schedule_at, schedule_after: first events, as in pyzenkit.
    """

    EVENT_SAVE_RUNLOG = "save_runlog"
    EVENT_RELOAD = "reload"
    EVENT_RELOADED = "reloaded"
    EVENT_WATCHDOG = "watchdog"

    queue: EventQueue

    def __init__(self, **kwargs: Any) -> None:
        # Timers follow the configuration, unless the application sets its own.
        self._default_timers = self.CONFIG_SCHEDULE_AFTER not in kwargs
        kwargs.setdefault(self.CONFIG_SCHEDULE_AFTER, ())
        self.wakeable = False  #: whether an arrival in the input queue wakes the loop
        self._errors: list[str] = []
        self._said: set[str] = set()
        self._handling = False
        self._started = 0.0
        self._background = process.Background()
        self._pid_file: process.PidFile | None = None
        self._run_log: RunLog | None = None
        self._waker: Waker | None = None
        self._watch: Watch | None = None
        self._until_idle = False
        self._manager = ServiceManager()
        self._sign: Timer | None = None  #: the timer of the next sign of life
        self._stopping_told = False
        super().__init__(**kwargs)

    def _init_components(self, **kwargs: Any) -> None:
        super()._init_components(**kwargs)
        # Ours first: it reads the message that the others, wherever they want to stand, are given.
        self._process_event = self.filer.process_event
        handlers = self.callbacks[self._process_event]
        handlers.remove(self.filer.cbk_event_message_process)
        handlers.insert(0, self.filer.cbk_event_message_process)

    def _init_schedule(self, **kwargs: Any) -> None:
        self.queue = EventQueue()
        super()._init_schedule(**kwargs)

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
        os.umask(self.c(self.CONFIG_UMASK))
        if self.c(self.CONFIG_CHROOT_DIR):
            process.change_root(self.c(self.CONFIG_CHROOT_DIR))
        files = [self.c(key) for key in ("log_file", "pid_file", "state_file") if self.c(key)]
        process.make_parents([*files, os.path.join(self.c("runlog_dir"), "x")], owner)
        core = self.cc(self.CORE_FILEQUEUE)
        for directory in (core["dir_queue"], core["dir_next_queue"]):
            if directory:
                ensure_queue(directory, core["queue_perms"], owner)
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
        )

    def open_queue(self) -> Queue:
        """The input queue, as configured; the filer calls it. Raises QueueMissing."""
        core = self.cc(self.CORE_FILEQUEUE)
        return DirectoryQueue(
            core["dir_queue"],
            next_queue=core["dir_next_queue"],
            perms=core["queue_perms"],
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
        self._daemonize()
        with Waker() as self._waker, self._signals():
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
        self._run_log = RunLog(self.c("runlog_dir"), self.name, self._started)
        self._sub_stage_setup()  # the components' own
        self._watch_queue()
        if self._default_timers:
            self.queue.schedule_after(self.c(self.CONFIG_STATS_INTERVAL), self.EVENT_LOG_STATISTICS)
            self.queue.schedule_after(self.c("runlog_interval"), self.EVENT_SAVE_RUNLOG)
        self._background.ready()
        self._manager.tell("READY=1", f"STATUS={self.status_line()}")
        self._give_signs()

    def _give_signs(self) -> None:
        """Have the service manager wait `process_timeout` for a sign of life, and give one three times in that time."""
        seconds = self.c("process_timeout")
        self._manager.watch_every(seconds)
        if self._manager.watches:
            if self._sign is not None:
                self.queue.cancel(self._sign)
            self._sign = self.queue.schedule_after(seconds / 3, self.EVENT_WATCHDOG)

    def status_line(self) -> str:
        """One line for people: what it does, or waits for, and how much it has done."""
        return self.filer.status_line(self.is_done())

    def tell_status(self) -> None:
        """Tell the service manager how we are."""
        self._manager.tell(f"STATUS={self.status_line()}")

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
            self.logger.warning(
                "Arrivals do not wake the daemon: %s; it looks every %g s", error, self.c(self.CONFIG_QUEUE_IN_WAIT)
            )
            return

        def arrived() -> None:
            watch.drain()
            self.filer.wake(self)

        self.watch(watch.fileno(), arrived)
        self._watch = watch
        self.wakeable = True

    def _finish(self) -> None:
        """Whatever the reason for the end is: give back, tear down, write the run log."""
        for component in reversed(self.components):
            teardown = getattr(component, "teardown", None)
            if teardown is not None:
                with self._logged(f"{type(component).__name__}.teardown"):
                    teardown(self)
        if hasattr(self.filer, "queue"):
            with self._logged("closing the queue"):
                self.filer.close(self)
            with self._logged("the run log"):
                self._save_run_log()
        if self._watch is not None:
            self._watch.close()
        if self._pid_file is not None:
            self._pid_file.remove()
        self.logger.info("The daemon has ended, with status %d", self.retc)

    @contextlib.contextmanager
    def _logged(self, what: str) -> Iterator[None]:
        """Log what goes wrong in the block, and go on."""
        try:
            yield
        except Exception as error:
            self.error(f"{what} failed: {type(error).__name__}: {error}", self.retc, error.__traceback__)

    # -- the loop --------------------------------------------------------------------------------------------

    def _event_loop(self) -> None:
        """Handle events until a stop was asked for and nothing is left to be done now."""
        while True:
            event, args = self.queue.next()
            if event is not None:
                self._handle(event, args)
                if event == self.EVENT_TERMINATE:
                    return
            elif self.is_done():
                return
            elif self.filer.go_on(self):
                continue
            elif self._until_idle and self._idle():
                self.queue.schedule(self.EVENT_STOP)
            else:
                self.wait(self.queue.wait())

    def _idle(self) -> bool:
        """Whether there is nothing to do, as far as components can tell, or nothing that can be done now."""
        return self.filer.idle() and (
            self.filer.paused or all(component.idle() for component in self.components if hasattr(component, "idle"))
        )

    def wait(self, period: float) -> None:
        """Sleep for at most `period` seconds; a signal or an arrival ends it."""
        assert self._waker is not None
        self._waker.wait(period)

    def _handle(self, event: str, args: Any) -> None:
        """Call the handlers of an event; what one raises ends the event, never the daemon."""
        handlers = self.callbacks.get(event)
        if not handlers:
            self.log_once(f"event {event}", f"There is nothing to handle the event '{event}'")
            return
        self._handling = True
        if event == self._process_event:
            self._manager.alive()  # each message has the whole of `process_timeout`
        try:
            for handler in handlers:
                given = args
                try:
                    flag, args = handler(self, args)
                except ZenDaemonStopException:
                    raise
                except (Exception, SystemExit) as error:
                    self._handler_failed(event, given, handler, error)
                    return
                if flag != self.FLAG_CONTINUE:
                    return
        finally:
            self._handling = False

    def _handler_failed(self, event: str, args: Any, handler: Any, error: BaseException) -> None:
        if event == self._process_event:
            id = args.get("id") if isinstance(args, dict) else args
            if isinstance(id, str) and id in self.filer.queue.claimed():
                self.filer.failed(self, id, error)
                return
        where = getattr(handler, "__qualname__", repr(handler))
        text = f"{where} failed on the event '{event}': {type(error).__name__}: {error}"
        self.error(text, self.retc, error.__traceback__)

    def log_once(self, key: str, text: str) -> None:
        """Log a warning, but not again for the same key."""
        if key not in self._said:
            self._said.add(key)
            self.logger.warning(text)

    def error(self, error: Any, retc: int | None = None, trcb: Any = None) -> None:
        """Log an error and keep it for the run log; `retc` becomes the exit status, by default 1."""
        self.retc = int(self.RC_FAILURE if retc is None else retc)
        if len(self._errors) < _ERRORS_MAX:
            self._errors.append(str(error))
        if self.logger is not None:
            trace = "\n" + "".join(traceback.format_tb(trcb)).rstrip() if trcb else ""
            self.logger.error("%s%s", error, trace)

    # -- signals ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn signals into events; none of them is lost, and none raises in the middle of a component."""
        handlers: dict[int, Any] = dict.fromkeys(_SIGNAL_EVENTS, self._on_signal)
        handlers |= {signal.SIGTERM: self._on_stop, signal.SIGINT: self._on_stop, signal.SIGALRM: self._on_alarm}
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in previous.items():
                signal.signal(number, handler)

    # Handlers only schedule: they run between any two steps of the program, so they must not log, or touch what the
    # step had in hand. Appending to a deque is one step.

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.queue.schedule_next(_SIGNAL_EVENTS[signal.Signals(number)])

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self.flag_loop_done += 1
        if self.flag_loop_done == 1:
            self.queue.schedule_next(self.EVENT_STOP)
            signal.setitimer(signal.ITIMER_REAL, self.c("stop_timeout") + STOP_GRACE)
            self._tell_stopping()  # now: the message in work may take longer than a service manager would wait
        elif self.flag_loop_done >= STOP_SIGNALS_MAX:
            self._end_now()

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        if self.is_done():
            self._end_now()

    def _end_now(self) -> None:
        """End without finishing the message in work; recovery gives back what was claimed."""
        if not self._handling:
            self.queue.schedule_next(self.EVENT_TERMINATE)
            return
        if self._pid_file is not None:
            self._pid_file.remove()
        os.write(2, f"{self.name}: ended in the middle of a message, which will be given back\n".encode())
        os._exit(ExitStatus.FAILURE)

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

    def _tell_stopping(self) -> None:
        """Tell the service manager that we stop, and how long that may take. Idempotent."""
        if not self._stopping_told:
            self._stopping_told = True
            seconds = self.c("stop_timeout") + 2 * STOP_GRACE
            self._manager.tell("STOPPING=1", "STATUS=stopping", f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

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

    def cbk_event_signal_usr1(self, daemon: PiperDaemon, args: Any) -> Result:
        """Write the run log."""
        self._save_run_log()
        return self.FLAG_CONTINUE, args

    def cbk_event_save_runlog(self, daemon: PiperDaemon, args: Any) -> Result:
        """Write the run log, and again after `runlog_interval` seconds."""
        if not self.is_done():
            self.queue.schedule_after(self.c("runlog_interval"), self.EVENT_SAVE_RUNLOG)
        self._save_run_log()
        return self.FLAG_CONTINUE, args

    def _save_run_log(self) -> None:
        if self._run_log is not None:
            statistics = {type(found).__name__: dict(found.statistics_cur) for found in self.components}
            self._run_log.save(rc=self.retc, errors=self._errors, statistics=statistics)
            self.logger.info("Run log saved to %s", self._run_log.path)

    def cbk_event_signal_usr2(self, daemon: PiperDaemon, args: Any) -> Result:
        """Write the state to the state file."""
        path = self._get_fn_state()
        write_json(path, self._get_state())
        self.logger.info("State saved to %s", path)
        return self.FLAG_CONTINUE, args

    def _get_state(self) -> dict[str, Any]:
        """What SIGUSR2 writes, for programs and for `--action status`."""
        return {
            "time": time.time(),
            "started": self._started,
            "name": self.name,
            "pid": os.getpid(),
            "rc": self.retc,
            "status": self.status_line(),
            "counts": self.filer.queue.counts(),
            "config": {key: json.loads(self.shown(key)) for key in self.config if key != self.CORE},
            "paths": self.paths,
            "events": {event: [repr(handler) for handler in found] for event, found in self.callbacks.items()},
            "components": {type(component).__name__: component.get_state() for component in self.components},
        }
