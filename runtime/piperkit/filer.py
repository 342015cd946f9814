"""The filer component: events in, queue calls out.

It claims messages, a batch at a time, and emits `message_process` for each; the events by which other components say
what becomes of a message come back to it. All that it knows of the queue is `piperkit.queue.Queue`.

Two things can keep it from working, and it waits for both in the same way, claiming nothing in the meantime: the
output queue is full, or an operation failed for a reason that may pass (a full disk, a target that is not there). In
the second case the message stays claimed and the event is scheduled again, with whatever events followed it for the
same message. Each such wait is logged once, at its beginning and at its end.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyzenkit.zendaemon import ZenDaemonComponent

from piperkit.component import Result, Unread, log_statistics
from piperkit.errors import InvalidId, MessageTooLarge, NotClaimed, QueueError
from piperkit.message import Contents, Failure, Format
from piperkit.queue import Queue
from piperkit.retry import RetryPolicy

if TYPE_CHECKING:
    from piperkit.daemon import PiperDaemon

#: Seconds between looks for claims of instances that have died.
RECOVER_INTERVAL = 20.0
#: Seconds after which what was done is made durable, in `queue_sync` batch; sooner where there is nothing more to do.
FLUSH_AGE = 0.2
#: The part of the output queue's room that is used before it is counted anew; other instances use it at the same time.
ROOM_PART = 16
#: Seconds after which a claim that no component has settled is worth a warning.
UNSETTLED_AGE = 300.0


@dataclasses.dataclass(slots=True)
class _Work:
    """A claim, as far as it matters to the filer."""

    attempt: int
    arrived: float
    begun: bool = False  #: a component has been given it
    since: float = 0.0  #: monotonic time of that
    warned: bool = False


class FilerDaemonComponent(ZenDaemonComponent):
    """A daemon's access to its queue.

    cid: the component's name in the log.
    event_map: other names for events; what is not in it keeps its name. Handled and emitted events are mapped alike.
    """

    EVENT_START = "start"
    EVENT_STOP = "stop"
    EVENT_QUEUE_CHECK = "queue_check"
    EVENT_QUEUE_RECOVER = "queue_recover"
    EVENT_MSG_ENQUEUE = "message_enqueue"
    EVENT_MSG_NEXT = "message_next"
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
        self.last_processed: float | None = None  #: when a message was last settled, seconds since the epoch
        self.errors_left = 0  #: messages in `errors`, when that was last looked at
        self._claims: dict[str, _Work] = {}
        self._ready: collections.deque[str] = collections.deque()  #: those that no component was given yet
        self._blocked: dict[str, list[tuple[str, Any]]] = {}  #: by message, events that wait; the first one failed
        self._next_queued = False  #: message_next is among the events of now
        self._allowance = 0  #: messages that may be claimed before the output queue is counted anew
        self._resting = False  #: nothing was there to claim: the next look is at an arrival, or a timer's
        self._look: Any = None  #: that timer
        self._check: Any = None  #: the timer of the next look at what it waits for
        self._batch: contextlib.ExitStack | None = None
        self._batch_began = 0.0

    def event(self, name: str) -> str:
        """The name that an event has in this daemon."""
        return self._map.get(name, name)

    def get_events(self) -> list[dict[str, Any]]:
        """One table: the contract's events, and ours."""
        return [
            self.gen_event_handler(self.event(name), callback, prepend)
            for name, callback, prepend in (
                (self.EVENT_START, self.cbk_event_start, False),
                (self.EVENT_STOP, self.cbk_event_stop, False),
                (self.EVENT_QUEUE_CHECK, self.cbk_event_queue_check, False),
                (self.EVENT_QUEUE_RECOVER, self.cbk_event_queue_recover, False),
                (self.EVENT_MSG_ENQUEUE, self.cbk_event_message_enqueue, False),
                (self.EVENT_MSG_NEXT, self.cbk_event_message_next, False),
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

    def configure(self, daemon: PiperDaemon) -> None:
        """Take over the settings that may change while the daemon runs."""
        self.format = Format(daemon.c("message_format"))
        self.batch_size: int = daemon.c("queue_in_batch")
        self.queue_in_wait: float = daemon.c(self.CONFIG_QUEUE_IN_WAIT)
        self.queue_out_dir: str | None = daemon.cc(daemon.CORE_FILEQUEUE)["dir_next_queue"]
        self.queue_out_limit: int = daemon.c(self.CONFIG_QUEUE_OUT_LIMIT)
        self.queue_out_wait: float = daemon.c(self.CONFIG_QUEUE_OUT_WAIT)
        self.policy = RetryPolicy(daemon.c("retry_min"), daemon.c("retry_max"), daemon.c("retry_limit"))

    def get_state(self) -> dict[str, Any]:
        """What SIGUSR2 writes about the filer."""
        return {
            "statistics": self.statistics_cur,
            "status": self.status,
            "waiting_for": self.waiting_for,
            "claimed": self.queue.claimed(),
        }

    def status_line(self, stopping: bool) -> str:
        """What it does, or waits for, and how much it has done: one line for people."""
        if stopping:
            doing = "stopping"
        elif self.status == self.STATUS_PAUSED:
            doing = f"waiting for {self.waiting_for}"
        else:
            doing = "working" if self._claims else "idle"
        done = [
            f"{self.statistics_cur[key]} {word}"
            for key, word in (
                (self.STATS_CNT_FETCHED, "messages"),
                (self.STATS_CNT_RETRIED, "put off"),
                (self.STATS_CNT_BANISHED, "banished"),
            )
            if self.statistics_cur.get(key)
        ]
        if self.errors_left:
            done.append(f"{self.errors_left} in errors")
        return "; ".join([doing, ", ".join(done)]) if done else doing

    # -- the life of a daemon --------------------------------------------------------------------------------

    def cbk_event_start(self, daemon: PiperDaemon, args: Any) -> Result:
        """Give back what dead instances had claimed, and begin to claim."""
        self._look_at_errors(daemon)
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

    def wake(self, daemon: PiperDaemon) -> None:
        """Something may have arrived: look now. Called by the daemon's loop."""
        if self._resting:
            self._schedule_next(daemon)

    @property
    def paused(self) -> bool:
        """Whether nothing is claimed now; `waiting_for` says why."""
        return self.status == self.STATUS_PAUSED

    def idle(self) -> bool:
        """Whether there is nothing to do until an arrival, a timer or somebody else changes that."""
        if self._next_queued:
            return False
        return self.status == self.STATUS_PAUSED or (self._resting and not self.queue.busy())

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
                    extra=self._about(daemon, id),
                )
        daemon.tell_status()
        if not daemon.is_done():
            delay = RECOVER_INTERVAL if again is None else min(RECOVER_INTERVAL, max(again, 0.1))
            daemon.queue.schedule_after(delay, self.event(self.EVENT_QUEUE_RECOVER))
        return daemon.FLAG_CONTINUE, args

    # -- claiming --------------------------------------------------------------------------------------------

    def _schedule_next(self, daemon: PiperDaemon) -> None:
        if not self._next_queued:
            self._next_queued = True
            daemon.queue.schedule(self._next_event)

    def go_on(self, daemon: PiperDaemon) -> bool:
        """Nothing else is due: begin the next message, if there may be one; returns whether there may.

        Called by the daemon's loop before it sleeps, for components that settle their messages some time later.
        """
        if self._next_queued or self._resting or self.status == self.STATUS_PAUSED or daemon.is_done():
            return False
        self._schedule_next(daemon)
        return True

    def _begin_next(self, daemon: PiperDaemon) -> None:
        """A message is settled: begin the next one.

        One at a time, so that the outcome of one comes before the next: what a daemon dies of is laid to the charge of
        the message that it was working on, and of no other.
        """
        if self._ready and self.status == self.STATUS_RUNNING and not daemon.is_done():
            daemon.queue.schedule(self.process_event, {"id": self._ready.popleft()})
        else:
            self._schedule_next(daemon)

    def cbk_event_message_next(self, daemon: PiperDaemon, args: Any = None) -> Result:
        """Begin the next message. Where none is claimed, claim a batch, of no more than there is room for.

        Events of this name may be scheduled by anybody, at any time.
        """
        self._next_queued = self._resting = False
        if self._look is not None:
            daemon.queue.cancel(self._look)
            self._look = None
        if self.status == self.STATUS_PAUSED or daemon.is_done():
            return daemon.FLAG_STOP, args
        if not self._ready:
            try:
                self._claim(daemon)
            except (OSError, QueueError) as error:
                self._pause(daemon, str(error), self.queue_in_wait)
        if self._ready:
            daemon.queue.schedule(self.process_event, {"id": self._ready.popleft()})
        return daemon.FLAG_CONTINUE, None

    def _claim(self, daemon: PiperDaemon) -> None:
        if time.monotonic() - self._batch_began > FLUSH_AGE:
            self._end_batch()
        room = self._room()
        if not room:
            self._end_batch()
            self._pause(daemon, f"room in the output queue: its limit of {self.queue_out_limit} messages is reached")
            return
        claims = self.queue.claim(min(self.batch_size, room))
        self._allowance -= len(claims)
        for claim in claims:
            self._claims[claim.id] = _Work(claim.attempt, claim.arrived)
            self._ready.append(claim.id)
        if claims:
            self.inc_statistic(self.STATS_CNT_FETCHED, len(claims))
            self._begin_batch()
        else:
            self._end_batch()
            self._rest(daemon)

    def _rest(self, daemon: PiperDaemon) -> None:
        """Nothing to claim: sleep until an arrival, where those wake us, or until it is time to look."""
        self._resting = True
        delay = self.queue.next_look()
        if not daemon.wakeable:
            delay = self.queue_in_wait if delay is None else min(delay, self.queue_in_wait)
        if delay is not None:
            self._look = daemon.queue.schedule_after(delay, self._next_event)

    def _room(self) -> int:
        """How many more messages may be claimed: each claim counts as if it went to the output queue."""
        if not (self.queue_out_dir and self.queue_out_limit):
            return self.batch_size
        if self._allowance <= 0:
            room = max(0, self.queue.room(self.queue_out_limit) - len(self._claims))
            self._allowance = min(room, max(self.batch_size, room // ROOM_PART))
        return self._allowance

    def _begin_batch(self) -> None:
        """What is done from now on becomes durable together."""
        if self._batch is None:
            self._batch = contextlib.ExitStack()
            self._batch.enter_context(self.queue.batch())
            self._batch_began = time.monotonic()

    def _end_batch(self) -> None:
        """Make durable what the batch did. Raises OSError, and then it is done again by the next one's end."""
        batch, self._batch = self._batch, None
        if batch is not None:
            batch.close()

    # -- waiting ---------------------------------------------------------------------------------------------

    def _pause(self, daemon: PiperDaemon, why: str, delay: float | None = None) -> None:
        """Stop claiming, say why once, and look again later."""
        if self.status != self.STATUS_PAUSED or self.waiting_for != why:
            daemon.logger.warning("Component '%s': processing pauses; waiting for: %s", self.cid, why)
        self.status = self.STATUS_PAUSED
        self.waiting_for = why
        daemon.tell_status()
        if self._check is None:
            delay = self.queue_out_wait if delay is None else min(delay, self.queue_out_wait)
            self._check = daemon.queue.schedule_after(delay, self.event(self.EVENT_QUEUE_CHECK))

    def cbk_event_queue_check(self, daemon: PiperDaemon, args: Any) -> Result:
        """Look whether what processing waits for has come, and go on if so."""
        if self._check is not None:
            daemon.queue.cancel(self._check)
            self._check = None
        blocked, self._blocked = self._blocked, {}
        if blocked:
            # The failed events once more, each with those that have waited behind it; after them, another check.
            for event, event_args in (item for events in blocked.values() for item in events):
                daemon.queue.schedule(event, event_args)
            daemon.queue.schedule(self.event(self.EVENT_QUEUE_CHECK))
            return daemon.FLAG_CONTINUE, args
        if self.status == self.STATUS_PAUSED:
            try:
                room = self._room()
            except (OSError, QueueError) as error:
                self._pause(daemon, str(error))
                return daemon.FLAG_CONTINUE, args
            if not room:
                self._pause(
                    daemon, f"room in the output queue: its limit of {self.queue_out_limit} messages is reached"
                )
            else:
                daemon.logger.warning("Component '%s': processing goes on", self.cid)
                self.status = self.STATUS_RUNNING
                self.waiting_for = None
                daemon.tell_status()
                self._schedule_next(daemon)
        return daemon.FLAG_CONTINUE, args

    def _block(self, daemon: PiperDaemon, id: str, event: str, args: Any, error: Exception) -> Result:
        """An operation failed for a reason that may pass: the message stays claimed, and it is tried again."""
        self._blocked.setdefault(id, []).append((event, args))
        self._pause(daemon, str(error), self.queue_in_wait)
        return daemon.FLAG_STOP, None

    # -- processing ------------------------------------------------------------------------------------------

    def cbk_event_message_process(self, daemon: PiperDaemon, args: Any) -> Result:
        """Before any component sees a message of ours: read it, or banish what no component can be given."""
        if not isinstance(args, dict) or "data" in args or "id" not in args:
            return daemon.FLAG_CONTINUE, args  # emitted by somebody else, who says what it holds
        id = args["id"]
        work = self._claims.get(id)
        if work is None:
            self._begin_next(daemon)
            return daemon.FLAG_STOP, None  # given back meanwhile
        if daemon.is_done():
            self._give_back(daemon, id)
            return daemon.FLAG_STOP, None
        try:
            if self.format is Format.BYTES:
                self.queue.begin(id)
            else:
                contents = self.queue.read(id)
        except NotClaimed as error:
            return self._not_ours(daemon, id, error)
        except MessageTooLarge as error:
            return self._unfit(daemon, id, str(error))
        except OSError as error:
            return self._block(daemon, id, self.process_event, args, error)
        work.begun = True
        work.since = time.monotonic()
        facts = {"id": id, "attempt": work.attempt, "arrived": work.arrived}
        if self.format is Format.BYTES:
            return daemon.FLAG_CONTINUE, Unread(facts, self.queue.read)
        try:
            data = contents.decode()
        except UnicodeDecodeError as error:
            return self._unfit(daemon, id, f"not valid UTF-8: {error.reason} at byte {error.start}")
        if not data or data.isspace():
            return self._unfit(daemon, id, "the message is empty" if not data else "the message is blank")
        facts["data"] = data
        return daemon.FLAG_CONTINUE, facts

    def _about(self, daemon: PiperDaemon, id: str) -> dict[str, Any]:
        """What a log line about a message carries besides, for logs that programs read."""
        work = self._claims.get(id)
        queue = daemon.cc(daemon.CORE_FILEQUEUE)["dir_queue"]
        return {"message_id": id, "queue": queue, "attempt": work.attempt if work else None}

    def _unfit(self, daemon: PiperDaemon, id: str, reason: str) -> Result:
        """No component can be given this message."""
        daemon.logger.warning(
            "Component '%s': message '%s' is banished: %s", self.cid, id, reason, extra=self._about(daemon, id)
        )
        daemon.queue.schedule(self.event(self.EVENT_MSG_BANISH), {"id": id, "reason": reason})
        return daemon.FLAG_STOP, None

    def failed(self, daemon: PiperDaemon, id: str, error: BaseException) -> None:
        """A component raised while it processed this message: retry it or banish it, as the policy decides."""
        work = self._claims.get(id)
        if work is None:
            return
        failure = Failure.of(error)
        decision = self.policy.decide(error, work.attempt)
        if decision.delay is None:
            reason = f"{decision.reason}: {failure.reason}" if decision.reason else failure.reason
            event, what = self.EVENT_MSG_BANISH, f"is banished: {reason}"
            args: dict[str, Any] = {"failure": Failure(reason, failure.exception, failure.traceback)}
        else:
            event, what = self.EVENT_MSG_RETRY, f"is put off for {decision.delay:.1f} s: {failure.reason}"
            args = {"failure": failure, "delay": decision.delay}
        trace = "\n" + failure.traceback.rstrip() if failure.traceback else ""
        daemon.logger.warning(
            "Component '%s': message '%s', attempt %d, %s%s",
            self.cid,
            id,
            work.attempt,
            what,
            trace,
            extra=self._about(daemon, id),
        )
        # Before whatever a component had scheduled for this message: a failed message is not committed.
        daemon.queue.schedule_next(self.event(event), {"id": id, **args})

    # -- the events that say what becomes of a message -------------------------------------------------------

    def cbk_event_message_enqueue(self, daemon: PiperDaemon, args: Any) -> Result:
        """Enqueue {data} into our own queue; what follows in the event's chain sees its new id."""
        args = args if isinstance(args, dict) else {"data": args}
        try:
            args["id"] = self.queue.enqueue(args["data"])
        except (OSError, QueueError) as error:
            self.inc_statistic(self.STATS_CNT_ERRORS)
            if isinstance(error, MessageTooLarge):
                daemon.logger.error("Component '%s': a new message is not enqueued: %s", self.cid, error)
                return daemon.FLAG_STOP, None
            return self._block(daemon, "", self.event(self.EVENT_MSG_ENQUEUE), args, error)
        self.inc_statistic(self.STATS_CNT_ENQUEUED)
        self.wake(daemon)
        return daemon.FLAG_CONTINUE, args

    def enqueue_all(self, daemon: PiperDaemon, contents: collections.deque[Contents]) -> None:
        """Enqueue messages into our own queue, each taken off the front of `contents`; they are on the disk then.

        Raises OSError, QueueError: then what is left in `contents` is not enqueued, and another call goes on with it.
        One that is too large for the queue is dropped, with an error in the log.
        """
        self._begin_batch()
        try:
            while contents:
                try:
                    self.queue.enqueue(contents[0])
                    self.inc_statistic(self.STATS_CNT_ENQUEUED)
                except MessageTooLarge as error:
                    self.inc_statistic(self.STATS_CNT_ERRORS)
                    daemon.logger.error("Component '%s': a new message is not enqueued: %s", self.cid, error)
                contents.popleft()
        finally:
            self.wake(daemon)
        self._end_batch()

    def cbk_event_message_update(self, daemon: PiperDaemon, args: Any) -> Result:
        """Replace the contents by {data}, and keep working."""
        return self._operate(
            daemon,
            self.EVENT_MSG_UPDATE,
            args,
            self.STATS_CNT_UPDATED,
            lambda id, args: self.queue.update(id, args["data"]),
            settles=False,
        )

    def cbk_event_message_commit(self, daemon: PiperDaemon, args: Any) -> Result:
        """Move to the output queue, or delete where there is none; {content}: with these new contents."""
        return self._operate(
            daemon,
            self.EVENT_MSG_COMMIT,
            args,
            self.STATS_CNT_COMMITTED,
            lambda id, args: self.queue.commit(id, args.get("content")),
        )

    def cbk_event_message_cancel(self, daemon: PiperDaemon, args: Any) -> Result:
        """Delete."""
        return self._operate(
            daemon, self.EVENT_MSG_CANCEL, args, self.STATS_CNT_CANCELED, lambda id, args: self.queue.cancel(id)
        )

    def cbk_event_message_banish(self, daemon: PiperDaemon, args: Any) -> Result:
        """Move to `errors`; {reason} or {failure} is stored beside it."""
        return self._operate(
            daemon,
            self.EVENT_MSG_BANISH,
            args,
            self.STATS_CNT_BANISHED,
            lambda id, args: self.queue.banish(id, _failure(args)),
        )

    def cbk_event_message_retry(self, daemon: PiperDaemon, args: Any) -> Result:
        """Put off for {delay} seconds; {reason} or {failure} goes into its history."""
        return self._operate(
            daemon,
            self.EVENT_MSG_RETRY,
            args,
            self.STATS_CNT_RETRIED,
            lambda id, args: self.queue.retry(id, args.get("delay", self.policy.minimum), _failure(args)),
        )

    def cbk_event_message_dispatch(self, daemon: PiperDaemon, args: Any) -> Result:
        """Move to the queue {queue_tgt}; {content}: with these new contents."""
        return self._operate(
            daemon,
            self.EVENT_MSG_DISPATCH,
            args,
            self.STATS_CNT_DISPATCHED,
            lambda id, args: self.queue.dispatch(id, daemon.queue_path(args["queue_tgt"]), args.get("content")),
        )

    def cbk_event_message_duplicate(self, daemon: PiperDaemon, args: Any) -> Result:
        """Copy to the queue {queue_tgt}, and keep working."""
        return self._operate(
            daemon,
            self.EVENT_MSG_DUPLICATE,
            args,
            self.STATS_CNT_DUPLICATED,
            lambda id, args: self.queue.duplicate(id, daemon.queue_path(args["queue_tgt"])),
            settles=False,
        )

    def _operate(
        self,
        daemon: PiperDaemon,
        event: str,
        args: Any,
        statistic: str,
        operation: Callable[[str, dict[str, Any]], None],
        *,
        settles: bool = True,
    ) -> Result:
        """Do one operation on one message, count it, and decide what its failure means."""
        args = args if isinstance(args, dict) else {"id": args}
        id = args["id"]
        if id in self._blocked:
            self._blocked[id].append((self.event(event), args))  # behind the one that failed
            return daemon.FLAG_STOP, None
        if settles:
            self._begin_batch()  # message_next ends it
        try:
            operation(id, args)
        except (NotClaimed, InvalidId) as error:
            return self._not_ours(daemon, id, error)
        except MessageTooLarge as error:
            self.inc_statistic(self.STATS_CNT_ERRORS)
            return self._unfit(daemon, id, f"its new contents: {error}")
        except (OSError, QueueError) as error:
            self.inc_statistic(self.STATS_CNT_ERRORS)
            return self._block(daemon, id, self.event(event), args, error)
        self.inc_statistic(statistic)
        if args.get("content") is not None:
            self.inc_statistic(self.STATS_CNT_UPDATED)
        if settles:
            self._claims.pop(id, None)
            self.last_processed = time.time()
            if time.monotonic() - self._batch_began > FLUSH_AGE and self._batch is not None:
                self._flush(daemon)
            self._begin_next(daemon)
        return daemon.FLAG_CONTINUE, args

    def _flush(self, daemon: PiperDaemon) -> None:
        try:
            self._end_batch()
        except OSError as error:
            self._pause(daemon, str(error), self.queue_in_wait)
        self._begin_batch()

    def _not_ours(self, daemon: PiperDaemon, id: str, error: Exception) -> Result:
        self.inc_statistic(self.STATS_CNT_ERRORS)
        self._claims.pop(id, None)
        daemon.logger.error("Component '%s': %s", self.cid, error)
        self._begin_next(daemon)
        return daemon.FLAG_STOP, None

    def _give_back(self, daemon: PiperDaemon, id: str) -> None:
        try:
            self.queue.requeue(id)
        except (OSError, QueueError) as error:
            text = "Component '%s': message '%s' was not given back: %s"
            daemon.logger.error(text, self.cid, id, error, extra=self._about(daemon, id))
        self._claims.pop(id, None)

    # -- statistics ------------------------------------------------------------------------------------------

    def _look_at_errors(self, daemon: PiperDaemon) -> None:
        """Delete old dead letters where that is asked for, and warn of those that are there."""
        keep: float | None = daemon.c("errors_keep")
        try:
            if keep is not None and (expired := self.queue.expire_errors(keep * 86400)):
                daemon.logger.info(
                    "Component '%s': %d messages deleted from errors, %g days old", self.cid, expired, keep
                )
            self.errors_left = self.queue.counts()["errors"]
        except (OSError, QueueError) as error:
            daemon.log_once("errors", f"Component '{self.cid}': the dead letters cannot be looked at: {error}")
        if self.errors_left:
            daemon.logger.warning(
                "Component '%s': there are %d messages in errors; `piperctl queue ls QUEUE errors` says why",
                self.cid,
                self.errors_left,
            )

    def cbk_event_log_statistics(self, daemon: PiperDaemon, args: Any) -> Result:
        """Log what was done: total, increase and rate of each counter; and look after the dead letters."""
        self._look_at_errors(daemon)
        for key in self.STATISTICS:
            self.statistics_cur.setdefault(key, 0)
        log_statistics(daemon, self, self.cid, self.get_statistics())
        return daemon.FLAG_CONTINUE, args


def _failure(args: dict[str, Any]) -> Failure:
    """What the sender of an event says about why; the contract's components say nothing, or a reason."""
    failure = args.get("failure")
    if isinstance(failure, Failure):
        return failure
    return Failure(str(args.get("reason") or "banished by a component that gave no reason"))
