"""What the parts of the filer share: names of events and counters, settings, and the claims."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from piperkit.filer.doorbell import Doorbell
from piperkit.message import Format
from piperkit.pause import Pause
from piperkit.queue import Claim, Queue
from piperkit.retry import RetryPolicy
from piperkit.zenkit import ZenDaemonComponent

if TYPE_CHECKING:
    from piperkit.daemon import PiperDaemon


@dataclasses.dataclass(slots=True)
class Work:
    """A claim, as far as it matters to the filer."""

    claim: Claim
    begun: bool = False  #: a component has been given it
    since: float = 0.0  #: monotonic time of that
    warned: bool = False


class FilerBase(ZenDaemonComponent):
    """The state of a filer.

    cid: the component's name in the log.
    event_map: other names for events; what is not in it keeps its name. Handled and emitted events are mapped alike.
    """

    EVENT_START = "start"
    EVENT_STOP = "stop"
    EVENT_QUEUE_CHECK = "queue_check"
    EVENT_QUEUE_RECOVER = "queue_recover"
    EVENT_QUEUE_EXPIRE = "queue_expire"
    EVENT_MSG_ENQUEUE = "message_enqueue"
    EVENT_MSG_NEXT = "message_next"
    EVENT_MSG_NO_MORE = "message_no_more"
    EVENT_MSG_UPDATE = "message_update"
    EVENT_MSG_COMMIT = "message_commit"
    EVENT_MSG_BANISH = "message_banish"
    EVENT_MSG_CANCEL = "message_cancel"
    EVENT_MSG_RETRY = "message_retry"
    EVENT_MSG_DISPATCH = "message_dispatch"
    EVENT_MSG_DUPLICATE = "message_duplicate"
    EVENT_MSG_PROCESS = "message_process"
    EVENT_LOG_STATISTICS = "log_statistics"

    STATUS_RUNNING = "status_running"
    STATUS_PAUSED = "status_paused"

    CONFIG_QUEUE_IN_WAIT = "queue_in_wait"
    CONFIG_QUEUE_OUT_LIMIT = "queue_out_limit"
    CONFIG_QUEUE_OUT_WAIT = "queue_out_wait"

    STATS_CNT_ENQUEUED = "cnt_enqueued"
    STATS_CNT_FETCHED = "cnt_fetched"
    STATS_CNT_UPDATED = "cnt_updated"
    STATS_CNT_COMMITTED = "cnt_committed"
    STATS_CNT_BANISHED = "cnt_banished"
    STATS_CNT_CANCELED = "cnt_canceled"
    STATS_CNT_DISPATCHED = "cnt_dispatched"
    STATS_CNT_DUPLICATED = "cnt_duplicated"
    STATS_CNT_ERRORS = "cnt_errors"
    STATS_CNT_RETRIED = "cnt_retried"
    STATS_CNT_RECOVERED = "cnt_recovered"
    STATS_CNT_ATTEMPTS = "cnt_attempts"

    STATISTICS = (
        STATS_CNT_ENQUEUED,
        STATS_CNT_FETCHED,
        STATS_CNT_UPDATED,
        STATS_CNT_COMMITTED,
        STATS_CNT_BANISHED,
        STATS_CNT_CANCELED,
        STATS_CNT_DISPATCHED,
        STATS_CNT_DUPLICATED,
        STATS_CNT_ERRORS,
        STATS_CNT_RETRIED,
        STATS_CNT_RECOVERED,
        STATS_CNT_ATTEMPTS,
    )

    queue: Queue

    def __init__(self, *, cid: str = "filer", event_map: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cid = cid
        self._map = event_map or {}
        self.process_event = self.event(self.EVENT_MSG_PROCESS)
        self._next_event = self.event(self.EVENT_MSG_NEXT)
        self.status = self.STATUS_RUNNING
        self.waiting_for: str | None = None  #: why it is paused, for people
        self.pause: Pause | None = None  #: the same, as a class
        #: Told of each message that is settled how many seconds have passed since a component was given it.
        self.processed: Callable[[float], None] | None = None
        self.last_processed: float | None = None  #: when a message was last settled, seconds since the epoch
        self.errors_left = 0  #: messages in `errors`, when that was last looked at; ERRORS_MAX stands for more, too
        self.bell = Doorbell()  #: what tells of arrivals
        self._claims: dict[str, Work] = {}
        self._ready: collections.deque[str] = collections.deque()  #: those that no component was given yet
        self._blocked: dict[str, list[tuple[str, Any]]] = {}  #: by message, events that wait; the first one failed
        self._waits: set[str] = set()  #: what it has said that it waits for, in this pause
        self._next_queued = False  #: message_next is among the events of now
        self._allowance = 0  #: messages that may be claimed before the output queue is counted anew
        self._room_is_ours = False  #: there would be room in the output queue, but for our own claims
        self._room_wait = 0.0  #: seconds until the next look at a full output queue
        self._enough: int | None = None  #: claims down to which nothing is claimed, since they take all the room
        self._expired = 0  #: messages deleted from `errors`, of those that are old enough now
        self._resting = False  #: nothing was there to claim: the next look is at an arrival, or a timer's
        self._look: Any = None  #: that timer
        self._woken = False  #: the look is at an arrival
        self._sleep_until = 0.0  #: monotonic time until which arrivals are left to others
        self._check: Any = None  #: the timer of the next look at what it waits for
        self._batch: contextlib.ExitStack | None = None
        self._batch_began = 0.0

    def event(self, name: str) -> str:
        """The name that an event has in this daemon."""
        return self._map.get(name, name)

    def configure(self, daemon: PiperDaemon) -> None:
        """Take over the settings that may change while the daemon runs."""
        form = Format(daemon.c("message_format"))
        self.gives_bytes = form is Format.BYTES  #: which a component reads when it wants to
        self.gives_json = form is Format.JSON
        self.batch_size: int = daemon.c("queue_in_batch")
        self.queue_in_wait: float = daemon.c(self.CONFIG_QUEUE_IN_WAIT)
        self.queue_in_dir: str = daemon.cc(daemon.CORE_FILEQUEUE)["dir_queue"]
        self.queue_out_dir: str | None = daemon.cc(daemon.CORE_FILEQUEUE)["dir_next_queue"]
        self.queue_out_limit: int = daemon.c(self.CONFIG_QUEUE_OUT_LIMIT)
        self.queue_out_wait: float = daemon.c(self.CONFIG_QUEUE_OUT_WAIT)
        self.policy = RetryPolicy(daemon.c("retry_min"), daemon.c("retry_max"), daemon.c("retry_limit"))

    def about(self, daemon: PiperDaemon, id: str) -> dict[str, Any]:
        """What a log line about a claimed message carries besides; nothing for what is none."""
        work = self._claims.get(id)
        if work is None:
            return {}
        return {"message_id": id, "queue": daemon.cc(daemon.CORE_FILEQUEUE)["dir_queue"], "attempt": work.claim.attempt}
