"""`FilerDaemonComponent`: the table of its events, and its life with the daemon."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from piperkit.component import Result, log_statistics
from piperkit.errors import QueueError
from piperkit.filer.settling import Settling

if TYPE_CHECKING:
    from piperkit.daemon import PiperDaemon

#: Seconds between looks for claims of instances that have died.
RECOVER_INTERVAL = 20.0
#: Seconds between two parts of the work of deleting old dead letters, in which messages are processed.
EXPIRE_PAUSE = 0.1
#: Dead letters that are counted, at the most: there may be millions.
ERRORS_MAX = 10_000
#: Seconds after which a claim that no component has settled is worth a warning.
UNSETTLED_AGE = 300.0


class FilerDaemonComponent(Settling):
    """A daemon's access to its queue."""

    def get_events(self) -> list[dict[str, Any]]:
        """One table: the contract's events, and ours."""
        return [
            self.gen_event_handler(self.event(name), callback, prepend)
            for name, callback, prepend in (
                (self.EVENT_START, self.cbk_event_start, False),
                (self.EVENT_STOP, self.cbk_event_stop, False),
                (self.EVENT_QUEUE_CHECK, self.cbk_event_queue_check, False),
                (self.EVENT_QUEUE_RECOVER, self.cbk_event_queue_recover, False),
                (self.EVENT_QUEUE_EXPIRE, self.cbk_event_queue_expire, False),
                (self.EVENT_MSG_ENQUEUE, self.cbk_event_message_enqueue, False),
                (self.EVENT_MSG_NEXT, self.cbk_event_message_next, False),
                (self.EVENT_MSG_NO_MORE, self.cbk_event_message_no_more, False),
                (self.EVENT_MSG_PROCESS, self.cbk_event_message_process, True),
                (self.EVENT_MSG_UPDATE, self.cbk_event_message_update, False),
                (self.EVENT_MSG_COMMIT, self.cbk_event_message_commit, False),
                (self.EVENT_MSG_BANISH, self.cbk_event_message_banish, False),
                (self.EVENT_MSG_CANCEL, self.cbk_event_message_cancel, False),
                (self.EVENT_MSG_RETRY, self.cbk_event_message_retry, False),
                (self.EVENT_MSG_DISPATCH, self.cbk_event_message_dispatch, False),
                (self.EVENT_MSG_DUPLICATE, self.cbk_event_message_duplicate, False),
                (self.EVENT_LOG_STATISTICS, self.cbk_event_log_statistics, False),
            )
        ]

    def setup(self, daemon: PiperDaemon) -> None:
        """Open the queue. Raises QueueMissing where it cannot be used."""
        self.queue = daemon.open_queue()
        self.configure(daemon)
        core = daemon.cc(daemon.CORE_FILEQUEUE)
        daemon.logger.info("Component '%s': input queue is %s", self.cid, core["dir_queue"])
        if core["dir_next_queue"]:
            daemon.logger.info(
                "Component '%s': output queue is %s, limit %d", self.cid, core["dir_next_queue"], self.queue_out_limit
            )

    def get_state(self) -> dict[str, Any]:
        """What SIGUSR2 writes about the filer."""
        return {
            "statistics": self.statistics_cur,
            "status": self.status,
            "waiting_for": self.waiting_for,
            "claimed": self.queue.claimed(),
        }

    def claims(self) -> tuple[int, int]:
        """How many claims wait for their turn, and how many are in work. For any thread."""
        waiting = len(self._ready)
        return waiting, max(0, len(self._claims) - waiting)

    def cbk_event_start(self, daemon: PiperDaemon, args: Any) -> Result:
        """Give back what dead instances had claimed, and begin to claim."""
        self.cbk_event_queue_expire(daemon)
        self._count_errors(daemon)
        daemon.queue.schedule(self.event(self.EVENT_QUEUE_RECOVER))
        self._schedule_next(daemon)
        return daemon.FLAG_CONTINUE, args

    def cbk_event_stop(self, daemon: PiperDaemon, args: Any) -> Result:
        """Give back every claim that is not in work; what is in work is finished by the events that follow."""
        for id, work in list(self._claims.items()):
            if not work.begun:
                self._give_back(daemon, id)
        return daemon.FLAG_CONTINUE, args

    def close(self, daemon: PiperDaemon) -> None:
        """Give everything back and close the queue; the daemon calls it after its last event."""
        left = len(self._claims)
        self._claims.clear()
        try:
            self._end_batch()
        except OSError as error:
            daemon.logger.error("Component '%s': the last batch is not on the disk: %s", self.cid, error)
        self.queue.close()
        if left:
            daemon.logger.warning("Component '%s': %d messages were not settled, and were given back", self.cid, left)
        lost = len(self._blocked.get("", ()))
        if lost:
            daemon.logger.error(
                "Component '%s': %d new messages could not be enqueued: %s", self.cid, lost, self.waiting_for
            )

    def cbk_event_queue_recover(self, daemon: PiperDaemon, args: Any) -> Result:
        """Look for what dead instances left, and for claims that no component settles."""
        again: float | None = None
        try:
            found = self.queue.recover()
        except (OSError, QueueError) as error:
            daemon.log_once("recovery", f"Component '{self.cid}': recovery failed, and is tried again: {error}")
        else:
            again = found.again
            self.inc_statistic(self.STATS_CNT_RECOVERED, len(found.returned) + len(found.banished))
            if found.returned:
                self._schedule_next(daemon)
        for id, work in self._claims.items():
            if work.begun and not work.warned and time.monotonic() - work.since > UNSETTLED_AGE:
                work.warned = True
                daemon.logger.warning(
                    "Component '%s': message '%s' is claimed since %d s, and no component has settled it",
                    self.cid,
                    id,
                    UNSETTLED_AGE,
                    extra=self.about(daemon, id),
                )
        daemon.tell_status()
        if not daemon.is_done():
            delay = RECOVER_INTERVAL if again is None else min(RECOVER_INTERVAL, max(again, 0.1))
            daemon.queue.schedule_after(delay, self.event(self.EVENT_QUEUE_RECOVER))
        return daemon.FLAG_CONTINUE, args

    def cbk_event_queue_expire(self, daemon: PiperDaemon, args: Any = None) -> Result:
        """Delete a part of the old dead letters where that is asked for, and the next part soon."""
        keep: float | None = daemon.c("errors_keep")
        expired = 0
        try:
            if keep is not None:
                expired = self.queue.expire_errors(keep * 86400)
        except (OSError, QueueError) as error:
            daemon.log_once("expire", f"Component '{self.cid}': old dead letters cannot be deleted: {error}")
        self._expired += expired
        if expired and not daemon.is_done():
            daemon.queue.schedule_after(EXPIRE_PAUSE, self.event(self.EVENT_QUEUE_EXPIRE))
        elif self._expired:
            daemon.logger.info(
                "Component '%s': %d messages deleted from errors, %g days old", self.cid, self._expired, keep
            )
            self._expired = 0
        return daemon.FLAG_CONTINUE, args

    def _count_errors(self, daemon: PiperDaemon) -> None:
        """Warn of dead letters."""
        try:
            self.errors_left = self.queue.count("errors", ERRORS_MAX)
        except (OSError, QueueError) as error:
            daemon.log_once("errors", f"Component '{self.cid}': the dead letters cannot be counted: {error}")
        if self.errors_left:
            daemon.logger.warning(
                "Component '%s': there are %s messages in errors; `piperctl queue ls QUEUE errors` says why",
                self.cid,
                self.errors_words(),
            )

    def errors_words(self) -> str:
        """How many dead letters there are, for people."""
        return f"{self.errors_left} or more" if self.errors_left >= ERRORS_MAX else str(self.errors_left)

    def cbk_event_log_statistics(self, daemon: PiperDaemon, args: Any) -> Result:
        """Log what was done: total, increase and rate of each counter; and look after the dead letters."""
        if not self._expired:  # or it is at it
            self.cbk_event_queue_expire(daemon)
        self._count_errors(daemon)
        for key in self.STATISTICS:
            self.statistics_cur.setdefault(key, 0)
        log_statistics(daemon, self, self.cid, self.get_statistics())
        return daemon.FLAG_CONTINUE, args
