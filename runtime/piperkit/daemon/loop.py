"""The event loop, and how signals get into it.

An event's handlers are called in order; what one raises ends the event, never the daemon. A signal becomes an event, so
none of them is lost, and none raises in the middle of a component.
"""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

from piperkit.daemon import process
from piperkit.daemon.actions import Actions
from piperkit.daemon.events import EventQueue
from piperkit.daemon.notify import ServiceManager
from piperkit.daemon.waker import Waker
from piperkit.errors import ExitStatus
from piperkit.zenkit import ZenDaemonStopException

#: A stop signal that comes this often ends the daemon at once.
STOP_SIGNALS_MAX = 3
#: Seconds beyond `stop_timeout` that the loop has to end by itself before it is ended.
STOP_GRACE = 1.0
_SIGNAL_EVENTS = {signal.SIGHUP: "signal_hup", signal.SIGUSR1: "signal_usr1", signal.SIGUSR2: "signal_usr2"}
_ERRORS_MAX = 100


class Loop(Actions):
    """The part of `PiperDaemon` that handles events."""

    queue: EventQueue

    def __init__(self, **kwargs: Any) -> None:
        self._errors: list[str] = []
        self._said: set[str] = set()
        self._event_args: Any = None  #: those of the event that is being handled
        self._handling = True  #: code of a component may be running, for any time
        self._until_idle = False
        self._forked = False  #: this is a child of the daemon, and not the daemon
        self._stopping_told = False
        self._waker: Waker | None = None
        self._pid_file: process.PidFile | None = None
        self._manager = ServiceManager()
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

    def _event_loop(self) -> None:
        """Handle events until a stop was asked for and nothing is left to be done now."""
        self._handling = False
        while not self._forked:
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
        self.logger.error("A forked child has come back from the component that forked it, and ends here")

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
        self._event_args = args
        if self._manager.watches and event == self._process_event:
            self._manager.alive()  # each message has the whole of `process_timeout`
        try:
            for handler in handlers:
                given = args
                try:
                    flag, args = handler(self, args)
                except ZenDaemonStopException:
                    raise
                except (Exception, SystemExit) as error:
                    if self._forked:
                        raise
                    self._handler_failed(event, given, handler, error)
                    return
                if flag != self.FLAG_CONTINUE:
                    return
        finally:
            self._handling = False
            self._event_args = None

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

    def _forget_signals(self) -> None:
        """Leave signals to what they do by default, and tell nobody of them."""
        for number in (*_SIGNAL_EVENTS, signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        if self._waker is not None:
            self._waker.close()

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
        """End, where need be in the middle of a component; recovery gives back what was claimed."""
        if not self._handling:
            self.queue.schedule_next(self.EVENT_TERMINATE)
            return
        if self._pid_file is not None:
            self._pid_file.remove()
        os.write(2, f"{self.name}: ended without finishing; what was claimed will be given back\n".encode())
        os._exit(ExitStatus.FAILURE)

    def _tell_stopping(self) -> None:
        """Tell the service manager that we stop, and how long that may take. Idempotent."""
        if not self._stopping_told:
            self._stopping_told = True
            seconds = self.c("stop_timeout") + 2 * STOP_GRACE
            self._manager.tell("STOPPING=1", "STATUS=stopping", f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")
