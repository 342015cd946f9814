"""`Guard`: a thread that ends the process when its end takes too long, whatever the rest of the program is at.

The main thread may be in a component for ever: in C code that runs no signal handler, in a loop that catches whatever
is raised, at the end of the process waiting for a component's thread. So nothing that stopping has to rely on is left
to it, nor to alarms, which a component may set, or to standard error, whose reader may be gone. The guard hears of
signals from the kernel, by the descriptor of signal.set_wakeup_fd, and sleeps otherwise.
"""

from __future__ import annotations

import math
import os
import select
import signal
import threading
import time
from collections.abc import Callable

#: Seconds beyond `stop_timeout` that the program has to end by itself.
GRACE = 1.0
#: A stop signal that comes this often ends the process at once.
STOP_SIGNALS_MAX = 3
STOPS = (signal.SIGTERM, signal.SIGINT)
_CLOSE, _RETURN, _ARM = 0, 254, 255


class Guard:
    """Make it in the main thread, and after the last fork on the way into the background.

    timeout: how many seconds a stop may take. busy: whether code of a component may be running.
    end: ends the process, and does not return.
    """

    def __init__(self, timeout: Callable[[], float], busy: Callable[[], bool], end: Callable[[], None]) -> None:
        self._timeout = timeout
        self._busy = busy
        self._end = end
        self._reader, self.fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)  #: `fd`: where the numbers of signals go
        self._previous = signal.set_wakeup_fd(self.fd, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="piperkit-guard", daemon=True)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # signals reach the main thread
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def keep(self, number: int | None = None) -> None:
        """See to it that it hears of signals, of `number` too, which has just come: a component may have changed it."""
        if signal.set_wakeup_fd(self.fd, warn_on_full_buffer=False) != self.fd and number is not None:
            os.write(self.fd, bytes([number]))

    def arm(self) -> None:
        """The end has begun: from now on it may take as long as a stop."""
        os.write(self.fd, bytes([_ARM]))

    def go_back(self) -> None:
        """The daemon's own end is over. A program that goes on with something else may take its time; but when its main
        thread has ended as well, what is left, as a component's threads, has what remains of the time, and `GRACE`.
        Until then, it does not hear of signals.
        """
        os.write(self.fd, bytes([_RETURN]))

    def close(self) -> None:
        """End the thread. Idempotent."""
        if self.fd >= 0:
            signal.set_wakeup_fd(self._previous)
            os.write(self.fd, bytes([_CLOSE]))
            self._thread.join()
            self.forget()

    def forget(self) -> None:
        """Close its pipe; in a forked child there is no such thread. Idempotent."""
        for fd in (self._reader, self.fd):
            if fd >= 0:
                os.close(fd)
        self._reader = self.fd = -1

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        deadline = math.inf
        stops = 0
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                self._end()
            if not poll.poll(None if math.isinf(left) else math.ceil(left * 1000)):
                continue
            for number in os.read(self._reader, 4096):
                if number == _CLOSE:
                    return
                if number == _RETURN:
                    left = max(deadline - time.monotonic(), GRACE)
                    # It waits, and does nothing: a thread that ran now and then would be at something in a fork.
                    threading.main_thread().join()
                    deadline = time.monotonic() + left
                stops += number in STOPS
                if number == _ARM or (number in STOPS and stops == 1):
                    deadline = min(deadline, time.monotonic() + self._timeout() + GRACE)
                elif number in STOPS and stops >= STOP_SIGNALS_MAX:
                    # Between two messages, the loop can end by itself.
                    deadline = min(deadline, time.monotonic() + (0 if self._busy() else GRACE))


def say(text: str) -> None:
    """Write a line to standard error if that can be done at once; nothing is raised, and nothing waited for."""
    try:
        poll = select.poll()
        poll.register(2, select.POLLOUT)
        if any(event == select.POLLOUT for _, event in poll.poll(0)):
            os.write(2, f"{text}\n".encode(errors="backslashreplace"))
    except OSError:
        pass
