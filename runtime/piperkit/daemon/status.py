"""The one line that says to people how a daemon is: what it does or waits for, how much it has done, and how fast."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from piperkit.filer import names

#: Seconds that a rate is measured over, at least.
PERIOD = 10.0


class Status:
    """Knows what to say.

    counts: the filer's statistics. doing: what it does or waits for. errors: how many dead letters there are, or "".
    """

    def __init__(
        self,
        counts: Mapping[str, int],
        doing: Callable[[], str],
        errors: Callable[[], str],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counts = counts
        self._doing = doing
        self._errors = errors
        self._monotonic = monotonic
        # Moments, and how many messages there had been; the rate is that since the one before the last.
        self._before = self._last = (monotonic(), 0)

    def line(self, stopping: bool) -> str:
        """Such as "working; 120 messages, 3.5/s, 2 banished"."""
        counts = self._counts
        doing = "stopping" if stopping else self._doing()
        done = []
        if messages := counts.get(names.FETCHED, 0):
            done += ["1 message" if messages == 1 else f"{messages} messages", f"{self._rate(messages):.3g}/s"]
        for counter, word in ((names.RETRIED, "put off"), (names.POSTPONED, "waiting"), (names.BANISHED, "banished")):
            if number := counts.get(counter):
                done.append(f"{number} {word}")
        if errors := self._errors():
            done.append(f"{errors} in errors")
        return f"{doing}; {', '.join(done)}" if done else doing

    def _rate(self, messages: int) -> float:
        """Messages a second, lately."""
        now = self._monotonic()
        if now - self._last[0] >= PERIOD:
            self._before, self._last = self._last, (now, messages)
        elapsed = now - self._before[0]
        return (messages - self._before[1]) / elapsed if elapsed > 0 else 0.0
