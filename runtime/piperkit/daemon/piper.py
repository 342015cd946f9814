"""`PiperDaemon`: a daemon that takes messages from a queue, and its life from the command line to the last event.

It is a `pyzenkit.zendaemon.ZenDaemon`, so components written for that run on it; what that forces upon a daemon
(`_init_…`, `_configure_…`, `cbk_…`) is one line here, and done by a part:

- `configuration`: keys, their sources and rules; `reload`: reading it again, on SIGHUP;
- `loop`: events, and the filer's turns; `waker`: what it sleeps on; `signals`, `guard`: how signals and the end get in;
- `reports`: status, state file, run log; `logs`; `exposition`: metrics;
- `process`: directories, rights, the pid file, the background; `notify`: the service manager; `actions`: `--action`.

What happens, in this order:

1. the configuration is read and checked; the last of defaults, directory, file, command line wins;
2. an action is done, and that is all; or
3. as whoever started it: chroot, and the directories that are missing; then it becomes the user that it runs as;
4. logs, the way into the background, the pid file, signals;
5. queue and components are set up, and the event loop runs;
6. whatever is still claimed is given back, the components are torn down, the run log is written.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from piperkit import engines, versions
from piperkit.component import Component
from piperkit.config import Option, Parser, nearest
from piperkit.daemon import actions, logs, process, trying
from piperkit.daemon.configuration import Configuration, Source, collect
from piperkit.daemon.events import EventQueue
from piperkit.daemon.guard import GRACE, Guard, say
from piperkit.daemon.loop import EventLoop, Handler, described
from piperkit.daemon.notify import ServiceManager
from piperkit.daemon.paths import application_paths, checkout
from piperkit.daemon.reload import RELOADED, reload
from piperkit.daemon.reports import Reports
from piperkit.daemon.runlog import VERSIONS, RunLog
from piperkit.daemon.signals import Signals
from piperkit.daemon.status import Status
from piperkit.daemon.waker import Waker
from piperkit.dirq import DirectoryQueue, Sync, ensure_queue
from piperkit.dirq import watch as _watch  # noqa: F401  now: after a chroot it may be out of reach
from piperkit.errors import ConfigError, ExitStatus, PiperError, QueueAway
from piperkit.filer import FilerDaemonComponent
from piperkit.filer.doorbell import LOOK_INTERVAL, Doorbell
from piperkit.host import Result
from piperkit.queue import Outlet, Queue
from piperkit.source import Source as FetchingComponent
from piperkit.zenkit import BaseApp, QueueEmptyException, ZenDaemon, ZenDaemonComponent, ZenDaemonStopException

if TYPE_CHECKING:
    from piperkit.daemon.tracing import Spans

_DEFAULT = "default_"
#: Seconds between looks whether the server is there that keeps the queue, while the daemon starts.
AWAY_WAIT = 1.0


class PiperDaemon(ZenDaemon):
    """A daemon with a filer in front of its components.

    name, description: as shown; the name is also that of its files and of its default input queue.
    components: what handles the messages, in order; the filer is put before them, unless one is among them.
    options: configuration keys of the application, beside those that its components declare.
    anchor: `__file__` of the application, from which follows where its files are, see `piperkit.daemon.paths`; or
    path_cfg, path_var, path_log, path_run, path_tmp, path_bin: where they are.
    template: the version of the template that the program was made by, which has to go with this runtime.
    argv: the command line, without the program's name; None: the process's own.
    schedule, schedule_next, schedule_at, schedule_after: first events, as in pyzenkit.
    default_KEY: another default for a configuration key.

    Raises TypeError for what is not a component or keyword, and ConfigError for keys that do not go together.
    """

    CORE_FILEQUEUE = "filequeue"
    CORE_IDENTITY = "identity"
    EVENT_SAVE_RUNLOG = "save_runlog"
    EVENT_WATCHDOG = "watchdog"

    config: dict[str, Any]
    retc: int
    is_trial: bool
    queue: EventQueue
    logger: logging.Logger
    paths: dict[str, str]

    def __init__(
        self,
        *,
        name: str | None = None,
        description: str = "A daemon that takes messages from a queue",
        components: Sequence[ZenDaemonComponent] = (),
        options: Sequence[Option] = (),
        anchor: str | None = None,
        template: str | None = None,
        argv: Sequence[str] | None = None,
        path_bin: str | None = None,
        path_cfg: str | None = None,
        path_var: str | None = None,
        path_log: str | None = None,
        path_run: str | None = None,
        path_tmp: str | None = None,
        schedule: Sequence[tuple[Any, ...]] | None = None,
        schedule_next: Sequence[tuple[Any, ...]] = (),
        schedule_at: Sequence[tuple[Any, ...]] = (),
        schedule_after: Sequence[tuple[Any, ...]] | None = None,
        plugins: Sequence[Any] = (),
        **defaults: Any,
    ) -> None:
        for keyword in defaults:
            if not keyword.startswith(_DEFAULT):
                raise TypeError(f"PiperDaemon has no keyword {keyword}{nearest(keyword, _keywords())}")
        found = _checked(components)
        self.filer = next(each for each in found if isinstance(each, FilerDaemonComponent))
        self.template = template
        self.checkout = checkout(anchor) if anchor else None
        self.configuration = Configuration(
            collect(found, options, _actions(type(self))),
            argv,
            {key.removeprefix(_DEFAULT): value for key, value in defaults.items()},
        )
        paths = application_paths(anchor, name or "") if anchor else {}
        given = {"bin": path_bin, "cfg": path_cfg, "var": path_var, "log": path_log, "run": path_run, "tmp": path_tmp}
        paths.update({f"path_{path}": value for path, value in given.items() if value is not None})
        # Timers follow the configuration, unless the application sets its own.
        self._own_timers = schedule_after is not None
        self._said: set[str] = set()
        self.manager = ServiceManager()
        super().__init__(
            name=name,
            description=description,
            components=found,
            plugins=list(plugins),
            schedule=((self.EVENT_START,),) if schedule is None else schedule,
            schedule_next=schedule_next,
            schedule_at=schedule_at,
            schedule_after=schedule_after or (),
            **paths,
        )
        self._waker = Waker(self._descriptor_failed)
        self.loop = EventLoop(self, self.queue, self.callbacks, self._waker, self._handler_failed, self._unhandled)
        self._signals = Signals(self.queue, self._waker.wake, self._stopping)
        self._background = process.Background()
        self._pid_file: process.PidFile | None = None
        self._reports: Reports | None = None  #: from the start on
        self._spans: Spans | None = None
        self._until_idle = False
        self.is_trial = False

    # -- what pyzenkit's constructor calls -------------------------------------------------------------------

    def _init_argparser(self, **kwargs: Any) -> Parser:
        name = kwargs.get("name") or os.path.basename(sys.argv[0])
        parser = self.configuration.parser(name, self.description, self.paths)
        for plugin in self._plugins:
            parser = plugin.init_argparser(self, parser, **kwargs)
        return parser

    def _parse_cli_arguments(self, argparser: Parser) -> dict[str, Any]:
        found = self.configuration.parse(argparser)
        BaseApp.FLAG_DEBUG = bool(found.get("debug"))
        if found.get("files_under"):
            self.paths = self.configuration.put_under(found["files_under"], self.paths)
        return found

    def _init_name(self, **kwargs: Any) -> str:
        name: str = self._config_cli.get("name") or kwargs.get("name") or os.path.basename(sys.argv[0])
        if not re.fullmatch(self.PTRN_APP_NAME, name):
            self.argparser.error(
                f"{name!r} cannot be a daemon's name: it must begin with a letter, and hold letters, digits, '.-_'"
            )
        return name

    def _init_config(self, cfgs: Sequence[tuple[str, Any]], **kwargs: Any) -> dict[str, Any]:
        ours = tuple(self.configuration.initial(self.name, self.paths).items())
        config: dict[str, Any] = super()._init_config(ours + tuple(cfgs), **kwargs)
        return config

    def _init_components(self, **kwargs: Any) -> None:
        for component in kwargs["components"]:
            if isinstance(component, Component):
                component._piper = self
        super()._init_components(**kwargs)
        # The filer first: it reads the message that the others, wherever they want to stand, are given.
        handlers = self.callbacks[self.filer.event("message_process")]
        handlers.remove(self.filer.cbk_event_message_process)
        handlers.insert(0, self.filer.cbk_event_message_process)

    def _init_schedule(self, **kwargs: Any) -> None:
        self.queue = EventQueue()
        super()._init_schedule(**kwargs)

    # -- what its configuration stage calls ------------------------------------------------------------------

    def _configure_from_file(self) -> None:
        self._config_file = self._load("file", "config_file")

    def _configure_from_dir(self) -> None:
        self._config_dir = self._load("directory", "config_dir")

    def _load(self, what: str, key: str) -> list[Source]:
        named = self._config_cli.get(key) is not None and not self.c(f"{key}_silent")
        return self.configuration.load(what, self.c(key), named=named)

    def _configure_merge(self) -> None:
        sources = [*(self._config_dir or ()), *(self._config_file or ())]
        self.configuration.merge(self.config, sources, self._config_cli, self.CORE)

    def _configure_postprocess(self) -> None:
        identity = self.configuration.accounts(self.config)
        super()._configure_postprocess()
        self.config[self.CORE][self.CORE_IDENTITY] = identity
        self.config[self.CORE][self.CORE_FILEQUEUE] = self.configuration.complete(self.config, self._spool())

    def read_configuration(self) -> None:
        """Read the configuration from its sources into `config`. Raises ConfigError."""
        self.config = self._init_config(())
        self._stage_setup_configuration()

    def _spool(self) -> str:
        return os.path.join(self.paths[self.PATH_VAR], "spool")

    # -- running ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Live: from configuration to the end of the process, which is `SystemExit` with the exit status."""
        if not hasattr(self, "loop"):
            raise TypeError(
                f"{type(self).__name__}.__init__ does not call super().__init__(...), which makes the daemon"
            )
        process.open_streams()
        if not (self._until_idle or self._config_cli.get(self.CONFIG_ACTION)):
            self._signals.take_early()
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
            text = traceback.format_exception_only(error)[-1].strip()
            self.error(text, trcb=error.__traceback__)
            self._report(text)
        self._background.failed(self.retc)
        if not self._until_idle:
            gc.freeze()  # or the interpreter looks for cycles in all that was loaded, which takes most of a short stop
        sys.exit(self.retc)

    def _report(self, text: str) -> None:
        """One line for whoever started us, and for the log."""
        logs.complain(f"{self.name}: {text}")
        if self.logger is not None:
            logs.write_to_file(self.logger, text)

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
        if not self._until_idle and (identity is not None or not self.c(self.CONFIG_NODAEMON)):
            process.close_inherited()
        if self.c(self.CONFIG_CHROOT_DIR):
            process.change_root(self.c(self.CONFIG_CHROOT_DIR))
        work_dir = self.c(self.CONFIG_WORK_DIR)
        if work_dir and not os.path.isdir(work_dir):
            raise ConfigError(f"work_dir is {work_dir}, which is not a directory; make it, or name another one")
        core = self.cc(self.CORE_FILEQUEUE)
        for directory in (core["dir_queue"], core["dir_next_queue"]):
            if directory and not engines.is_address(directory):
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
        """What log lines are about: the message that is processed, or whose event is handled."""
        id = self.filer.in_hand
        if id is None:
            args = self.loop.args
            id = args.get("id") if isinstance(args, dict) else args
        return self.filer.about(id) if isinstance(id, str) else {}

    def _sub_stage_process(self) -> None:
        """Set up, loop, and clean up."""
        process.keep_memory()
        self._daemonize()
        ready: list[ZenDaemonComponent] = []
        with contextlib.ExitStack() as until:
            until.enter_context(process.in_children(self._forget))
            until.enter_context(self._waker)
            guard = Guard(lambda: self.c("stop_timeout"), lambda: self.loop.busy, self._end_now)
            until.callback(guard.close if self._until_idle else guard.go_back)
            until.callback(self._signals.release if self._until_idle else self._leave_to_signals)
            self._signals.take(guard)
            try:
                self._start(until, ready)
                self.loop.run(self.filer, self.is_done, self.wait)
                if self.loop.forked:
                    self.logger.error("A forked child has come back from the component that forked it, and ends here")
            except QueueEmptyException:
                self.logger.info("There are no more events; the daemon ends")
            except ZenDaemonStopException as end:
                self.logger.info("The daemon ends: %s", end)
            except BaseException as error:
                self.retc = int(getattr(error, "exit_status", ExitStatus.FAILURE))
                raise
            finally:
                if self.loop.forked:
                    until.pop_all()  # what it would end is the daemon's
                self._finish(guard, ready)

    def _leave_to_signals(self) -> None:
        """The loop has ended; what is left to be done has to end by itself, or by a third signal."""
        self._signals.end = self._end_now

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

    def _start(self, until: contextlib.ExitStack, ready: list[ZenDaemonComponent]) -> None:
        """Set everything up, and the components, which are in `ready` from then on."""
        self.logger.info("The daemon starts, with pid %d", os.getpid())
        for path in self.configuration.missing():
            self.logger.info("There is no configuration at %s: what is not set elsewhere has its default", path)
        self._status = Status(self.filer.statistics_cur, self.filer.doing, self._errors_words)
        self._reports = Reports(
            self.logger,
            self.manager,
            RunLog(self.c("runlog_dir"), self.name, time.time()),
            self._get_fn_state() if self.c(self.CONFIG_STATE_FILE) else None,
            self.status_line,
            self._get_state,
        )
        for component in self.components:
            component.setup(self)
            ready.append(component)
        self._await_queue()
        self._watch_queue()
        if self.c("metrics_address") or self.c("metrics_file"):
            from piperkit.daemon import exposition, metrics  # an extra, for those who want metrics

            serial = self._get_process_serial() if self.c(self.CONFIG_PARALEL) else None
            registry = metrics.registry(self.name, self.filer, serial)
            exposition.expose(registry, self.config, serial, self.logger, until)
        if self.c("traces_endpoint"):
            from piperkit.daemon import tracing  # another extra

            self._spans = tracing.Spans(self.name, self.c("traces_endpoint"))
            self.filer.parts.history.also = self._spans.send
        if not self._own_timers:
            self.every(self.EVENT_LOG_STATISTICS, lambda: self.c("stats_interval"))
            self.every(self.EVENT_SAVE_RUNLOG, lambda: self.c("runlog_interval"))
        self._background.ready()
        self.tell_status("READY=1")
        self.expect_signs()

    def _await_queue(self) -> None:
        """Wait until the server is there that keeps the queue, if one does. Raises QueueMissing."""
        said = False
        while not self.is_done():
            try:
                self.filer.queue.connect()
                return
            except QueueAway as error:
                if self._until_idle:
                    raise
                if not said:
                    self.logger.warning("The start waits: %s", error)
                    self._background.ready()
                said = True
                self.manager.tell(f"STATUS=starts, and waits: {error}", f"EXTEND_TIMEOUT_USEC={AWAY_WAIT * 10**7:.0f}")
                self._waker.wait(AWAY_WAIT)
        raise ZenDaemonStopException("it was stopped while it waited for its queue")

    def _watch_queue(self) -> None:
        """Let arrivals wake the loop."""
        try:
            watch = self.filer.queue.watch()
        except OSError as error:
            wait = min(LOOK_INTERVAL, self.c("queue_in_wait"))
            self.logger.warning("Arrivals do not wake the daemon: %s; it looks every %g s", error, wait)
            return

        def arrived() -> None:
            watch.drain()
            self.filer.intake.wake()

        self.watch(watch.fileno(), arrived)
        self.filer.intake.bell = Doorbell(watch)

    def expect_signs(self) -> None:
        """Have the service manager wait `process_timeout` for a sign of life, and give one three times in that time."""
        self.manager.watch_every(self.c("process_timeout"))
        if self.manager.watches:
            self.every(self.EVENT_WATCHDOG, lambda: self.c("process_timeout") / 3)

    def wait(self, period: float) -> None:
        """Sleep for at most `period` seconds; a signal or an arrival ends it."""
        if self._until_idle and self._is_idle():
            self.queue.schedule(self.EVENT_STOP)
            return
        if self._signals.keep():
            self.log_once("signals", "A component has changed what signals do; the daemon has taken them back")
        if self._reports is not None:
            period = min(period, self._reports.rest(self.filer.desk.last_settled))
        self._waker.wait(period)

    def _is_idle(self) -> bool:
        """Whether there is nothing to do, as far as components can tell, or nothing that can be done now."""
        return self.filer.idle() and (
            self.filer.paused or all(component.idle() for component in self.components if hasattr(component, "idle"))
        )

    def _stopping(self) -> None:
        """Tell the service manager that we stop, and how long that may take. Idempotent."""
        if not self.flag_loop_done:
            self.set_done()
            seconds = self.c("stop_timeout") + 2 * GRACE
            self.manager.tell("STOPPING=1", "STATUS=stopping", f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def _finish(self, guard: Guard, ready: list[ZenDaemonComponent]) -> None:
        """Whatever the reason for the end is: give back, tear down what was set up, write the run log, in the time that
        a stop has.
        """
        if self.loop.forked:
            return
        self.loop.busy = True
        guard.arm()
        for component in reversed(ready):
            teardown = getattr(component, "teardown", None)
            if teardown is not None:
                with self._logged(f"{type(component).__name__}.teardown"):
                    teardown(self)
        if hasattr(self.filer, "queue"):
            with self._logged("closing the queue"):
                self.filer.close()
            with self._logged("the run log"):
                self._save_run_log()
        if self._spans is not None:
            with self._logged("sending the last spans"):
                self._spans.close()
        if self._pid_file is not None:
            self._pid_file.remove()
        logs.tell_repeats(self.logger)
        self.logger.info("The daemon has ended, with status %d", self.retc)
        self.loop.busy = False

    @contextlib.contextmanager
    def _logged(self, what: str) -> Iterator[None]:
        """Log what goes wrong in the block, and go on."""
        try:
            yield
        except Exception as error:
            text = traceback.format_exception_only(error)[-1].strip()
            self.error(f"{what} failed: {text}", self.retc, error.__traceback__)

    def _end_now(self) -> None:
        """End in the middle of whatever it is; recovery gives back what was claimed. Called by the guard's thread."""
        if self._pid_file is not None:
            self._pid_file.remove()
        threads = [thread.name for thread in threading.enumerate() if not thread.daemon]
        if len(threads) > 1 and not self.loop.busy:
            say(f"{self.name}: ended without waiting for a component's threads: {', '.join(threads[1:])}")
            os._exit(self.retc)
        say(f"{self.name}: ended without finishing; what was claimed will be given back")
        os._exit(ExitStatus.FAILURE)

    def _forget(self) -> None:
        """This is a forked child now: not a daemon, it holds nothing of one, and must not end what is the daemon's."""
        self.loop.forked = True
        self._signals.forget()
        self._waker.close()
        self.filer.forget()
        for held in (self._background, self._pid_file, self.manager):
            if held is not None:
                held.forget()

    # -- what components see; see `piperkit.host` ------------------------------------------------------------

    def open_queue(self) -> Queue:
        """The input queue, as configured; the filer calls it. Raises QueueMissing."""
        core = self.cc(self.CORE_FILEQUEUE)
        password_file = self.c("queue_password_file")

        def elsewhere(queue: str) -> Outlet:
            return engines.elsewhere(queue, self.name, password_file)

        if engines.is_address(core["dir_queue"]):
            from piperkit.postgres.database_queue import DatabaseQueue  # an extra

            return DatabaseQueue(
                core["dir_queue"],
                next_queue=core["dir_next_queue"],
                durable=self.c("queue_sync") != "off",
                at_once=self.c("queue_sync") == "always",
                crash_limit=self.c("crash_limit"),
                message_max=self.c("message_max"),
                daemon=self.name,
                password_file=password_file,
                elsewhere=elsewhere,
                logger=self.logger,
            )
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
            elsewhere=elsewhere,
            logger=self.logger,
        )

    def queue_path(self, queue: str) -> str:
        """A queue's directory or address: a bare name is one under var/spool, or beside an input queue in a database.

        A relative path begins where the daemon was started. Raises ConfigError where nothing is named.
        """
        return self.configuration.queue_path(queue, self._spool())

    def progress(self) -> None:
        """Say that a long piece of work goes on, so that the watchdog leaves it alone."""
        self.manager.alive()

    def c(self, key: str, default: Any = None) -> Any:
        """The value of a configuration key."""
        value = self.config.get(key)
        return default if value is None else value

    def sign_of_life(self) -> Callable[[], None] | None:
        """What to call between two messages; None where nobody waits for it."""
        return self.manager.alive if self.manager.watches else None

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        """Call `handler` from the loop whenever `fd` is readable: it has to read what is there, or `unwatch(fd)`.

        From `setup` on. A handler does little, and schedules an event for the rest. Raises OSError if it is not open.
        """
        self._waker.watch(fd, handler)

    def unwatch(self, fd: int) -> None:
        """Stop watching `fd`. Idempotent."""
        self._waker.unwatch(fd)

    def every(self, event: str, seconds: Callable[[], float]) -> None:
        """Have an event come again and again, `seconds()` after each time, whatever its handlers do."""
        self.loop.every(event, seconds)

    def again(self, event: str, delay: float) -> None:
        """Have such an event come next in `delay` seconds."""
        self.loop.again(event, delay)

    def listeners(self, event: str) -> Sequence[Handler]:
        """The handlers of an event, in order."""
        found: Sequence[Handler] = self.callbacks.get(event, ())
        return found

    def log_once(self, key: str, text: str) -> None:
        """Log a warning, but not again for the same key."""
        if key not in self._said:
            self._said.add(key)
            self.logger.warning("%s", text)

    def error(self, error: Any, retc: int | None = None, trcb: Any = None) -> None:
        """Log an error and keep it for the run log; `retc` becomes the exit status, by default 1."""
        self.retc = int(self.RC_FAILURE if retc is None else retc)
        if self._reports is not None:
            self._reports.add_error(str(error))
        if self.logger is not None:
            trace = "\n" + "".join(traceback.format_tb(trcb)).rstrip() if trcb else ""
            self.logger.error("%s%s", error, trace)

    def _handler_failed(self, event: str, args: Any, handler: Handler, error: BaseException) -> None:
        """A handler of an event has raised: while a message is processed, that is the message's failure."""
        if event == self.filer.event("message_process"):
            id = args.get("id") if isinstance(args, dict) else args
            if isinstance(id, str) and id in self.filer.parts.claims.held:
                self.filer.failed(id, error)
                return
        self.error(described(event, handler, error), self.retc, error.__traceback__)

    def _unhandled(self, event: str) -> None:
        self.log_once(f"event {event}", f"There is nothing to handle the event '{event}'")

    def _descriptor_failed(self, text: str, error: BaseException | None) -> None:
        if error is None:
            self.logger.error("%s", text)
        else:
            self.error(f"{text}: {traceback.format_exception_only(error)[-1].strip()}", self.retc, error.__traceback__)

    # -- what it tells of itself -----------------------------------------------------------------------------

    def status_line(self) -> str:
        """One line for people: what it does, or waits for, and how much it has done."""
        return self._status.line(self.is_done())

    def _errors_words(self) -> str:
        return self.filer.housekeeping.errors_words() if hasattr(self.filer, "housekeeping") else ""

    def tell_status(self, *more: str) -> None:
        """Something about the daemon has changed that people want to know; `more` goes to the service manager."""
        if self._reports is not None:
            self._reports.status(*more)

    def _save_run_log(self) -> None:
        if self._reports is not None:
            found = {type(component).__name__: dict(component.statistics_cur) for component in self.components}
            self._reports.write_run_log(self.retc, found)

    def _get_state(self) -> dict[str, Any]:
        """What the state file holds, for programs and for `--action status`."""
        assert self._reports is not None
        shown = self.configuration.shown
        return {
            "time": time.time(),
            "started": self._reports.started,
            "name": self.name,
            "pid": os.getpid(),
            "rc": self.retc,
            "status": self.status_line(),
            "config": {key: json.loads(shown(key, self.config)) for key in self.config if key != self.CORE},
            "paths": self.paths,
            "events": {event: [repr(handler) for handler in found] for event, found in self.callbacks.items()},
            "components": {type(component).__name__: component.get_state() for component in self.components},
        }

    def _counts(self) -> dict[str, int] | None:
        """Messages in each part of the queue; None where they cannot be counted, which `status` says why."""
        try:
            return self.filer.queue.counts()
        except (OSError, PiperError):
            return None

    # -- events ----------------------------------------------------------------------------------------------

    def get_events(self) -> list[dict[str, Any]]:
        """pyzenkit's events, and those that it lacks."""
        return [
            *super().get_events(),
            self.gen_event_handler(self.EVENT_SIGNAL_USR1, self.cbk_event_signal_usr1),
            self.gen_event_handler(self.EVENT_SAVE_RUNLOG, self.cbk_event_save_runlog),
            self.gen_event_handler(RELOADED, self.cbk_event_reloaded),
            self.gen_event_handler(self.EVENT_WATCHDOG, self.cbk_event_watchdog),
        ]

    def cbk_event_start(self, daemon: PiperDaemon, args: Any) -> Result:
        return self.FLAG_CONTINUE, args

    def cbk_event_stop(self, daemon: PiperDaemon, args: Any) -> Result:
        """Finish what is in work, and end; after `stop_timeout` seconds in any case."""
        self._stopping()
        self.logger.info("The daemon stops: it finishes what it is working on")
        self.queue.schedule_after(self.c("stop_timeout"), self.EVENT_TERMINATE)
        return self.FLAG_CONTINUE, args

    def cbk_event_terminate(self, daemon: PiperDaemon, args: Any) -> Result:
        """The loop ends after the components' handlers of this event."""
        self.logger.warning("The daemon ends before everything in work is finished")
        return self.FLAG_CONTINUE, args

    def cbk_event_signal_hup(self, daemon: PiperDaemon, args: Any) -> Result:
        """Read the configuration again, and tell the components if it was right."""
        reload(self)
        return self.FLAG_CONTINUE, args

    def cbk_event_reloaded(self, daemon: PiperDaemon, args: Any) -> Result:
        """The components know of the new configuration, or it was refused: either way that is over."""
        self.tell_status("READY=1")
        return self.FLAG_CONTINUE, args

    def cbk_event_watchdog(self, daemon: PiperDaemon, args: Any) -> Result:
        """The loop lives: say so."""
        self.manager.alive()
        return self.FLAG_CONTINUE, args

    def cbk_event_signal_usr1(self, daemon: PiperDaemon, args: Any) -> Result:
        """Write the run log."""
        self._save_run_log()
        return self.FLAG_CONTINUE, args

    def cbk_event_signal_usr2(self, daemon: PiperDaemon, args: Any) -> Result:
        """Write the state to the state file."""
        if self._reports is not None:
            self._reports.write_state(asked=True, more={"counts": self._counts()})
        return self.FLAG_CONTINUE, args

    def cbk_event_log_statistics(self, daemon: PiperDaemon, args: Any) -> Result:
        """The components log their statistics."""
        logs.tell_repeats(self.logger)
        return self.FLAG_CONTINUE, args

    def cbk_event_save_runlog(self, daemon: PiperDaemon, args: Any) -> Result:
        """Write the run log."""
        self._save_run_log()
        return self.FLAG_CONTINUE, args

    # -- actions ---------------------------------------------------------------------------------------------

    def send_signal(self, sign: int) -> None:
        """Send a signal to the running daemon; pyzenkit's signal-* actions end here."""
        self.retc = actions.send_signal(self.name, self.config, sign)

    def cbk_action_config_check(self) -> None:
        """Say that the configuration is right: it was checked before any action."""
        self.p(f"{self.name}: the configuration is right")

    def cbk_action_config_view(self) -> None:
        """Print the value of each key, and where it comes from."""
        self.retc = actions.config_view(self.configuration, self.config, self.CORE)

    def cbk_action_config_template(self) -> None:
        """Print a configuration file in which every key is explained."""
        self.retc = actions.config_template(self.configuration, self.name, self.paths)

    def cbk_action_describe(self) -> None:
        """Print, as JSON, what this daemon is and where its queues are."""
        fetches = any(isinstance(component, FetchingComponent) for component in self.components)
        more = {"template": self.template, "checkout": self.checkout, "fetches": fetches}
        self.retc = actions.describe(self.name, self.configuration, self.config, self.CORE, more)

    def cbk_action_try(self) -> None:
        """Try messages: dead letters, the file --input, or - for standard input; show what would become of each."""
        self.retc = trying.shown(self, self.filer)

    def cbk_action_try_files(self) -> None:
        """The same for programs: names of files on standard input, each ended by NUL; a line of JSON for each."""
        self.retc = trying.told(self, self.filer)

    def cbk_action_status(self) -> None:
        """Print how the running daemon is."""
        self.retc = actions.status(self.name, self.config, self.cc(self.CORE_FILEQUEUE)["dir_queue"])


def _keywords() -> list[str]:
    names = PiperDaemon.__init__.__code__.co_varnames
    return list(names[1 : 1 + PiperDaemon.__init__.__code__.co_kwonlyargcount])


def _actions(cls: type) -> list[str]:
    """The actions of a daemon's class: of each method cbk_action_X, X."""
    prefix = "cbk_action_"
    return sorted(name.removeprefix(prefix).replace("_", "-") for name in dir(cls) if name.startswith(prefix))


def _checked(components: Sequence[ZenDaemonComponent]) -> list[ZenDaemonComponent]:
    """The components, with a filer in front if there is none among them. Raises TypeError, which says what is meant."""
    found = list(components)
    for component in found:
        if isinstance(component, type):
            raise TypeError(
                f"components has the class {component.__name__}; it must have an instance: {component.__name__}()"
            )
        if not callable(getattr(component, "get_events", None)):
            raise TypeError(f"components has {component!r}, which is not a component; it must be a piperkit.Component")
        if isinstance(component, ZenDaemonComponent) and not hasattr(component, "statistics_cur"):
            raise TypeError(f"{type(component).__name__}.__init__ does not call super().__init__(); do that first")
    if len({id(component) for component in found}) < len(found):
        raise TypeError("components has the same object twice; make one for each place")
    if not any(isinstance(component, FilerDaemonComponent) for component in found):
        found.insert(0, FilerDaemonComponent())
    return found
