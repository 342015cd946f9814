"""The retry policy: what is tried again, when, and what is given up."""

from __future__ import annotations

import pytest

from piperkit.message import Reject, Retry
from piperkit.retry import RetryPolicy

POLICY = RetryPolicy()


@pytest.mark.parametrize(
    ("attempt", "least", "most"),
    [
        (1, 5, 10),
        (2, 10, 20),
        (3, 20, 40),
        (4, 40, 80),
        (9, 1280, 2560),
        (10, 1800, 3600),  # twice the last would be more than the longest delay
        (12, 1800, 3600),
        (10_000, 1800, 3600),  # and no overflow
    ],
)
def test_delay_doubles_up_to_the_longest_and_half_of_it_is_chance(attempt: int, least: float, most: float) -> None:
    delays = [POLICY.delay(attempt, chance / 100) for chance in range(100)]
    assert delays == sorted(delays)
    assert delays[0] == least
    assert most - (most - least) / 50 <= delays[-1] <= most


@pytest.mark.parametrize("attempt", [1, 2, 7, 60, 100])
@pytest.mark.parametrize(("minimum", "maximum"), [(0, 0), (0, 10), (1, 1), (0.001, 1e9), (30, 31)])
def test_delay_is_never_outside_of_its_bounds(attempt: int, minimum: float, maximum: float) -> None:
    policy = RetryPolicy(minimum, maximum)
    for chance in (0.0, 0.5, 0.999999):
        assert minimum <= policy.delay(attempt, chance) <= maximum


def test_messages_that_fail_together_are_not_tried_again_together() -> None:
    delays = {POLICY.decide(OSError("away"), 1).delay for _ in range(100)}
    assert len(delays) > 50


@pytest.mark.parametrize(
    ("error", "attempt", "delay", "reason"),
    [
        (Reject("no"), 1, None, ""),  # a statement: never tried again
        (Retry("later", 77), 1, 77, ""),  # its own delay counts, even a short or a long one
        (Retry("later", 0), 4, 0, ""),
        (Retry("later", 1e6), 4, 1e6, ""),
        (Retry("later", 77), 5, None, "given up after 5 attempts"),
        (ValueError("oops"), 1, 5, ""),
        (ValueError("oops"), 5, None, "given up after 5 attempts"),
        (ValueError("oops"), 6, None, "given up after 6 attempts"),  # the limit was lowered
        (SystemExit(3), 1, 5, ""),  # a component that ends the process fails like any other
    ],
)
def test_what_becomes_of_a_failure(error: BaseException, attempt: int, delay: float | None, reason: str) -> None:
    decision = POLICY.decide(error, attempt, 0.0)
    assert (decision.delay, decision.reason) == (delay, reason)


def test_one_attempt_means_no_retry() -> None:
    assert RetryPolicy(limit=1).decide(ValueError("oops"), 1).delay is None


@pytest.mark.parametrize("delay", [-1, float("nan"), -0.5])
def test_delay_that_is_no_time_is_refused(delay: float) -> None:
    with pytest.raises(ValueError, match="delay must be a number of seconds, 0 or more"):
        Retry("later", delay)
