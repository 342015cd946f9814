"""A bound for work that may take for ever."""

from __future__ import annotations

import re
import signal
import time

import pytest

from piperkit import time_limit

FOR_EVER = "x" * 40 + "!"


@pytest.mark.parametrize(
    "work",
    [lambda: re.match("^(x+x+)+y", FOR_EVER), lambda: time.sleep(3600), lambda: [None for _ in iter(int, 1)]],
    ids=["a regular expression", "a call that waits", "a loop"],
)
def test_what_takes_too_long_is_ended_by_an_exception(work: object) -> None:
    assert callable(work)
    with pytest.raises(TimeoutError, match=r"longer than 0\.01 s"), time_limit(0.01):
        work()


def test_what_is_done_in_time_is_left_alone_and_so_are_the_timer_and_the_handler_of_others() -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 3600)
        with time_limit(60):
            pass
        assert 3500 < signal.setitimer(signal.ITIMER_REAL, 0)[0] <= 3600
        signal.raise_signal(signal.SIGALRM)
        assert rung == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_limits_can_be_nested() -> None:
    def outer() -> None:
        with time_limit(0.02):
            with pytest.raises(TimeoutError, match=r"longer than 0\.01 s"), time_limit(0.01):
                time.sleep(3600)
            time.sleep(3600)

    with pytest.raises(TimeoutError, match=r"longer than 0\.02 s"):
        outer()
