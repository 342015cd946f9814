"""What becomes of messages: they are handed to the components, and what those say is done to the queue.

For each operation there is an event; one wrapper does it, counts it, and decides what its failure means.
"""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from piperkit.component import Result, Unread
from piperkit.errors import InvalidId, LeftAlone, MessageTooLarge, NotClaimed, QueueError
from piperkit.filer.claiming import FLUSH_AGE, Claiming
from piperkit.message import Contents, Failure

if TYPE_CHECKING:
    from piperkit.daemon import PiperDaemon


#: Messages that `enqueue_all` has published together, so that a failure is that of few.
ENQUEUED_TOGETHER = 100


class Settling(Claiming):
    """The part of the filer that hands messages out and settles them."""

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
            if self.gives_bytes:
                self.queue.begin(id)
            else:
                contents = self.queue.read(id)
            facts = {"id": id, "attempt": work.claim.attempt, "arrived": work.claim.arrived}
        except NotClaimed as error:
            return self._not_ours(daemon, id, error)
        except MessageTooLarge as error:
            return self._unfit(daemon, id, str(error))
        except OSError as error:
            return self._block(daemon, id, self.process_event, args, error)
        work.begun = True
        work.since = time.monotonic()
        if self.gives_bytes:
            self.inc_statistic(self.STATS_CNT_ATTEMPTS)
            return daemon.FLAG_CONTINUE, Unread(facts, self.queue.read)
        try:
            data = contents.decode()
        except UnicodeDecodeError as error:
            return self._unfit(daemon, id, f"not valid UTF-8: {error.reason} at byte {error.start}")
        if not data or data.isspace():
            return self._unfit(daemon, id, "the message is empty" if not data else "the message is blank")
        facts["data"] = data
        self.inc_statistic(self.STATS_CNT_ATTEMPTS)
        return daemon.FLAG_CONTINUE, facts

    def _unfit(self, daemon: PiperDaemon, id: str, reason: str) -> Result:
        """No component can be given this message."""
        daemon.logger.warning(
            "Component '%s': message '%s' is banished: %s", self.cid, id, reason, extra=self.about(daemon, id)
        )
        daemon.queue.schedule(self.event(self.EVENT_MSG_BANISH), {"id": id, "reason": reason})
        return daemon.FLAG_STOP, None

    def failed(self, daemon: PiperDaemon, id: str, error: BaseException) -> None:
        """A component raised while it processed this message: retry it or banish it, as the policy decides."""
        work = self._claims.get(id)
        if work is None:
            return
        failure = Failure.of(error)
        decision = self.policy.decide(error, work.claim.attempt)
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
            work.claim.attempt,
            what,
            trace,
            extra={**self.about(daemon, id), "fault": failure.reason},
        )
        # Before whatever a component had scheduled for this message: a failed message is not committed.
        daemon.queue.schedule_next(self.event(event), {"id": id, **args})

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
        """Enqueue messages into our own queue, taken off the front of `contents`; they are on the disk then.

        Raises OSError, QueueError: then what is left in `contents` is not enqueued, and another call goes on with it.
        One that is too large for the queue is dropped, with an error in the log.
        """
        try:
            size = ENQUEUED_TOGETHER
            while contents:
                group = list(itertools.islice(contents, size))
                try:
                    self.queue.enqueue_many(group)
                    self.inc_statistic(self.STATS_CNT_ENQUEUED, len(group))
                except MessageTooLarge as error:
                    if size > 1:
                        size = 1  # none of the group was enqueued; one by one, the others are
                        continue
                    self.inc_statistic(self.STATS_CNT_ERRORS)
                    daemon.logger.error("Component '%s': a new message is not enqueued: %s", self.cid, error)
                for _ in group:
                    contents.popleft()
            self._end_batch()  # if there is one, the directory is synced with it
        finally:
            self.wake(daemon)

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
        return self._operate(daemon, self.EVENT_MSG_COMMIT, args, self.STATS_CNT_COMMITTED, self._commit)

    def _commit(self, id: str, args: dict[str, Any]) -> None:
        self.queue.commit(id, args.get("content"))

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
        if self._blocked and id in self._blocked:
            self._blocked[id].append((self.event(event), args))  # behind the one that failed
            return daemon.FLAG_STOP, None
        if settles and self._batch is None:
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
            work = self._claims.pop(id, None)
            self.last_processed = time.time()
            now = time.monotonic()
            if self.processed is not None and work is not None and work.begun:
                self.processed(now - work.since)
            if now - self._batch_began > FLUSH_AGE and self._batch is not None:
                self._flush(daemon)
            self._begin_next(daemon)
        return daemon.FLAG_CONTINUE, args

    def _not_ours(self, daemon: PiperDaemon, id: str, error: Exception) -> Result:
        if not isinstance(error, LeftAlone):
            self.inc_statistic(self.STATS_CNT_ERRORS)
            daemon.logger.error("Component '%s': %s", self.cid, error, extra=self.about(daemon, id))
        self._claims.pop(id, None)
        self._begin_next(daemon)
        return daemon.FLAG_STOP, None

    def _give_back(self, daemon: PiperDaemon, id: str) -> None:
        try:
            self.queue.requeue(id)
        except (OSError, QueueError) as error:
            text = "Component '%s': message '%s' was not given back: %s"
            daemon.logger.error(text, self.cid, id, error, extra=self.about(daemon, id))
        self._claims.pop(id, None)


def _failure(args: dict[str, Any]) -> Failure:
    """What the sender of an event says about why; the contract's components say nothing, or a reason."""
    failure = args.get("failure")
    if isinstance(failure, Failure):
        return failure
    return Failure(str(args.get("reason") or "banished by a component that gave no reason"))
