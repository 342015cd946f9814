"""Looking after the queue beside the work: what dead instances left, and the dead letters."""

from __future__ import annotations

from piperkit.errors import QueueError
from piperkit.host import Surroundings
from piperkit.queue import Queue

#: Seconds between looks for claims of instances that have died.
RECOVER_INTERVAL = 20.0
#: Seconds between two parts of recovery, or of deleting old dead letters, in which messages are processed.
PART_PAUSE = 0.1
#: Dead letters that are counted, at the most: there may be millions.
ERRORS_MAX = 10_000


class Housekeeping:
    """Recovery and dead letters of one queue. What fails is said once, and done again at its time."""

    def __init__(self, queue: Queue, host: Surroundings, cid: str) -> None:
        self._queue = queue
        self._host = host
        self._cid = cid
        self._expired = 0  #: messages deleted from `errors`, of those that are old enough now
        self.errors_left = 0  #: messages in `errors`, when that was last looked at; ERRORS_MAX stands for more, too

    def recover(self) -> tuple[int, int, float]:
        """A part of recovery; returns how many claims it settled, how many of them can be claimed now, and in how many
        seconds the next part is due.
        """
        try:
            found = self._queue.recover()
        except (OSError, QueueError) as error:
            text = f"Component '{self._cid}': recovery failed, and is tried again: {error}"
            self._host.log_once("recovery", text)
            return 0, 0, RECOVER_INTERVAL
        again = RECOVER_INTERVAL if found.again is None else min(RECOVER_INTERVAL, max(found.again, PART_PAUSE))
        return len(found.returned) + len(found.banished), len(found.returned), again

    def expire(self, keep: float | None) -> bool:
        """Delete a part of the dead letters that are `keep` days old; returns whether there is more to do soon."""
        expired = 0
        try:
            if keep is not None:
                expired = self._queue.expire_errors(keep * 86400)
        except (OSError, QueueError) as error:
            self._host.log_once("expire", f"Component '{self._cid}': old dead letters cannot be deleted: {error}")
        self._expired += expired
        if not expired and self._expired:
            self._host.logger.info(
                "Component '%s': %d messages deleted from errors, %g days old", self._cid, self._expired, keep
            )
            self._expired = 0
        return bool(expired)

    def count_errors(self) -> None:
        """Warn of dead letters."""
        try:
            self.errors_left = self._queue.count("errors", ERRORS_MAX)
        except (OSError, QueueError) as error:
            self._host.log_once("errors", f"Component '{self._cid}': the dead letters cannot be counted: {error}")
        if self.errors_left:
            self._host.logger.warning(
                "Component '%s': there are %s messages in errors; `piperctl queue ls QUEUE errors` says why",
                self._cid,
                self.errors_words(),
            )

    def errors_words(self) -> str:
        """How many dead letters there are, for people; nothing if there are none."""
        return f"{self.errors_left} or more" if self.errors_left >= ERRORS_MAX else str(self.errors_left or "")
