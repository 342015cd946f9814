"""Retry or banish? A pure function of the failure and of what is known about the message.

The delays are an exponential backoff with "equal jitter" (Marc Brooker, "Exponential Backoff And Jitter",
AWS Architecture Blog, 2015): half of the delay is fixed, half is random, so that messages which failed
together are not all tried again together.
"""

from __future__ import annotations

import dataclasses
import random

from piperkit.errors import MessageTooLarge
from piperkit.message import Reject, Retry


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a message that failed: try it again after `delay` seconds, or (None) banish it."""

    delay: float | None
    reason: str = ""  #: why it is banished, where that is not the failure itself


@dataclasses.dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon a message is tried again."""

    minimum: float = 5.0  #: seconds, the shortest delay; the first one is up to twice as long
    maximum: float = 3600.0  #: seconds, the longest delay
    limit: int = 5  #: attempts in all, the first one included

    def delay(self, attempt: int, chance: float) -> float:
        """Seconds to wait after failed attempt number `attempt`; `chance` is uniform in [0, 1)."""
        # min() before the power would overflow for a large attempt count.
        full = min(self.maximum, self.minimum * 2.0 ** min(attempt, 63))
        return max(self.minimum, full / 2 + full / 2 * chance)

    def decide(self, error: BaseException, attempt: int, chance: float | None = None) -> Decision:
        """The decision on a message whose attempt number `attempt` ended with `error`."""
        if isinstance(error, Reject | MessageTooLarge):  # which has grown since it was claimed
            return Decision(None)
        if attempt >= self.limit:
            return Decision(None, f"given up after {attempt} attempts")
        if isinstance(error, Retry) and error.delay is not None:
            return Decision(error.delay)
        return Decision(self.delay(attempt, random.random() if chance is None else chance))
