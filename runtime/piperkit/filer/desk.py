"""`Desk`: does to messages what is asked for, and decides what becomes of those that it cannot be done to."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from piperkit.errors import MessageTooLarge, QueueError
from piperkit.filer import names
from piperkit.filer.faults import Owner, owner
from piperkit.filer.operations import BANISH, CANCEL, COMMIT, OPERATIONS, POSTPONE, RETRY, Operation, steps
from piperkit.filer.parts import Parts
from piperkit.host import Timer
from piperkit.message import Action, Failure, Outcome, Reject
from piperkit.pause import Pause

#: What is done to a message that was not processed: it shows nothing of what processing waits for.
_IN_VAIN = (BANISH, RETRY, POSTPONE)
#: What is the end of a message, where there is no next queue.
_ENDS = (COMMIT, CANCEL)


class Desk:
    """Where messages are settled.

    alone: events that no other component listens to: then they are not sent around, what they ask for is done.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.alone: frozenset[str] = frozenset()
        self._events = {parts.event(operation.event) for operation in OPERATIONS}
        self._check: Timer | None = None  #: of the next look at what it waits for
        #: Told of each message that is settled how many seconds have passed since a component was given it.
        self.processed: Callable[[float], None] | None = None
        #: Told of each message that has come to its end here, or gone on.
        self.ended: Callable[[str], None] | None = None
        self.last_settled: float | None = None  #: monotonic time
        self.now = 0.0  #: monotonic time, as of the last look at the clock

    # -- doing it --------------------------------------------------------------------------------------------

    def settle(self, id: str, outcome: Outcome) -> None:
        """Do to a message what a component says. Raises TypeError where that is not an outcome."""
        if not isinstance(outcome, Outcome):
            raise TypeError(f"{outcome!r} is not an outcome; return message.commit() or another one")
        if outcome.action is not Action.COMMIT or outcome.copies or names.MESSAGE_COMMIT not in self.alone:
            for operation, args in steps(id, outcome):
                self._ask(operation, args)
            return
        # `perform`, for what is done most:
        parts, content = self._parts, outcome.content
        if not parts.window.is_open:
            parts.window.open()
        try:
            parts.queue.commit(id, content)
        except BaseException as error:
            self._trouble(COMMIT, id, {"id": id, "content": content}, error)
            return
        counts = parts.counts
        counts[names.COMMITTED] = counts.get(names.COMMITTED, 0) + 1
        if parts.history.every:
            self._keep(COMMIT, id, {})
        if self.ended is not None:
            self.ended(id)
        if content is not None:
            parts.count(names.UPDATED)
        self.settled(id)
        if parts.waiting.reason is not None:
            self.resume()

    def _ask(self, operation: Operation, args: dict[str, Any], *, first: bool = False) -> None:
        """Have an operation done: at once, or by its event, if others listen to it."""
        if operation.event in self.alone:
            self.perform(operation, args)
        else:
            queue = self._parts.host.queue
            (queue.schedule_next if first else queue.schedule)(self._parts.event(operation.event), args)

    def perform(self, operation: Operation, args: dict[str, Any]) -> bool:
        """Do one operation on one message; returns whether it was done. It may be done later, or not at all."""
        parts = self._parts
        id = args.get("id")
        if not isinstance(id, str):
            parts.count(names.ERRORS)
            parts.host.logger.error(
                "Component '%s': %s without the id of a message: %r", parts.cid, operation.event, id
            )
            return False
        if parts.waiting.blocked and id in parts.waiting.blocked:
            parts.waiting.block(id, parts.event(operation.event), args)  # behind the one that failed
            return False
        if operation.settles:
            parts.window.open()  # `work` closes it
        try:
            target = self._target(args) if operation.names_target else ""
            operation.do(parts.queue, id, args, target)
        except BaseException as error:
            self._trouble(operation, id, args, error)
            return False
        parts.count(operation.counter)
        if parts.history.failures:
            self._keep(operation, id, {**args, "queue_tgt": target} if target else args)
        if args.get("content") is not None:
            parts.count(names.UPDATED)
        if self.ended is not None and operation in _ENDS:
            self.ended(id)
        if operation.settles:
            self.settled(id)
        if parts.waiting.reason is not None and operation not in _IN_VAIN:
            self.resume()
        return True

    def _keep(self, operation: Operation, id: str, args: dict[str, Any]) -> None:
        """Keep in the history what was done."""
        parts = self._parts
        parts.history.done(operation, id, parts.claims.held.get(id), parts.claims.begun.get(id), args)

    def _target(self, args: dict[str, Any]) -> str:
        """The path of the queue that an event names, if there is room in it. Raises what is wrong with it."""
        parts = self._parts
        target = parts.host.queue_path(args["queue_tgt"])
        if parts.targets.is_same(target, parts.settings.in_dir):
            raise Reject(f"it would go back to {target}, the queue that it comes from, and never end")
        if parts.settings.out_limit:
            parts.targets.take(target, parts.settings.out_limit, parts.settings.batch)
        return target

    def settled(self, id: str) -> None:
        """A claim has ended."""
        parts = self._parts
        claims = parts.claims
        claims.held.pop(id, None)
        since = claims.begun.pop(id, None)  # as `Claims.end`, without a call
        self.now = self.last_settled = now = time.monotonic()
        if self.processed is not None and since is not None:
            self.processed(now - since)
        if now >= parts.window.ends:
            self.flush()

    def flush(self) -> None:
        """Make durable what was done, and go on; where that fails, wait, and do it again."""
        window = self._parts.window
        try:
            window.close()
        except (OSError, QueueError) as error:
            self.pause_for_fault(error)
        window.open()

    # -- what cannot be done ---------------------------------------------------------------------------------

    def _trouble(self, operation: Operation, id: str, args: dict[str, Any], error: BaseException) -> None:
        """An operation failed."""
        whose = owner(error, of_queue=True, names_target=operation.names_target)
        if whose is Owner.MESSAGE and isinstance(args.get("failure"), Failure):
            whose = Owner.DAEMON  # that was to be the end of a failure already
        if whose is not Owner.NOBODY:
            self._parts.count(names.ERRORS)
        if whose is Owner.MESSAGE:
            if isinstance(error, MessageTooLarge):
                error = Reject(f"its new contents: {error}")
            self.failed(id, error)
        elif whose is Owner.TARGET:
            self._postpone(id, error)
        else:
            self._lost(whose, id, self._parts.event(operation.event), args, error)

    def unopened(self, id: str, error: BaseException) -> None:
        """A message could not be read for a component."""
        whose = owner(error, of_queue=not isinstance(error, Reject))
        if whose is Owner.MESSAGE:
            self.failed(id, Reject(str(error)) if isinstance(error, MessageTooLarge) else error)
        else:
            self._lost(whose, id, self._parts.event(names.MESSAGE_PROCESS), {"id": id}, error)

    def _lost(self, whose: Owner, id: str, event: str, args: dict[str, Any], error: BaseException) -> None:
        """It is not the message's trouble: the message is gone, or the event is tried again later."""
        parts = self._parts
        if whose is Owner.DAEMON:
            parts.waiting.block(id, event, args)
            self.pause_for_fault(error)
            return
        if whose is Owner.GONE:
            parts.host.logger.error("Component '%s': %s", parts.cid, error, extra=parts.about(id))
        parts.claims.end(id)

    def failed(self, id: str, error: BaseException) -> None:
        """A component raised while it processed this message: retry it or banish it, as the policy decides."""
        parts = self._parts
        claim = parts.claims.held.get(id)
        if claim is None:
            return
        self._forget_events(id)
        if owner(error, of_queue=False) is Owner.BACKEND:
            self._give_all_back(id, error)
            return
        failure = Failure.of(error)
        decision = parts.settings.policy.decide(error, claim.attempt)
        if decision.delay is None:
            reason = f"{decision.reason}: {failure.reason}" if decision.reason else failure.reason
            operation, what = BANISH, f"is banished: {reason}"
            args: dict[str, Any] = {"failure": Failure(reason, failure.exception, failure.traceback)}
        else:
            operation, what = RETRY, f"is put off for {decision.delay:.1f} s: {failure.reason}"
            args = {"failure": failure, "delay": decision.delay}
        trace = "\n" + failure.traceback.rstrip() if failure.traceback else ""
        self._warn(id, f"attempt {claim.attempt}, {what}{trace}", failure.reason)
        self._ask(operation, {"id": id, **args}, first=True)

    def _postpone(self, id: str, error: BaseException) -> None:
        """The queue that a message names is not there, or full: that message waits for it, and no other."""
        parts = self._parts
        claim = parts.claims.held.get(id)
        if claim is None:
            return
        self._forget_events(id)
        failure = Failure(str(error), type(error).__name__)
        delay = parts.settings.policy.delay(claim.waits + 1, random.random())
        self._warn(id, f"waits {delay:.1f} s for the queue that it goes to: {error}", failure.reason)
        self._ask(POSTPONE, {"id": id, "failure": failure, "delay": delay}, first=True)

    def _warn(self, id: str, what: str, fault: str) -> None:
        parts = self._parts
        parts.host.logger.warning(
            "Component '%s': message '%s', %s", parts.cid, id, what, extra={**parts.about(id), "fault": fault}
        )

    def _forget_events(self, id: str) -> None:
        """A failed message is not committed, whatever was scheduled for it."""
        events = self._parts.host.queue.events
        others = [
            (event, args)
            for event, args in events
            if not (event in self._events and (args.get("id") if isinstance(args, dict) else args) == id)
        ]
        if len(others) < len(events):
            events.clear()
            events.extend(others)
        self._parts.waiting.blocked.pop(id, None)

    def _give_all_back(self, id: str, error: BaseException) -> None:
        """What the component works with is away: every message goes back, and nothing is counted against any."""
        parts = self._parts
        self.give_back(id)
        while parts.claims.ready:
            self.give_back(parts.claims.ready.popleft().id)
        self.pause(parts.waiting.for_backend(error))

    def give_back(self, id: str) -> None:
        """Requeue a message; no attempt is counted."""
        parts = self._parts
        try:
            parts.queue.requeue(id)
            parts.count(names.RETURNED)
        except (OSError, QueueError) as error:
            text = "Component '%s': message '%s' was not given back: %s"
            parts.host.logger.error(text, parts.cid, id, error, extra=parts.about(id))
        parts.claims.end(id)

    # -- pausing ---------------------------------------------------------------------------------------------

    def pause_for_fault(self, error: BaseException) -> None:
        """The disk or the output queue failed."""
        settings = self._parts.settings
        delay = min(settings.in_wait, settings.out_wait)
        self.pause(self._parts.waiting.for_fault(error, settings.in_dir, delay))

    def pause(self, is_news: bool) -> None:
        """Processing pauses, for the reason that `waiting` knows: say so, and look again later."""
        parts = self._parts
        if is_news:
            parts.host.logger.warning(
                "Component '%s': processing pauses; waiting for: %s", parts.cid, parts.waiting.reason
            )
            parts.queue.tell(parts.waiting.reason)
            parts.host.tell_status()
        if self._check is None:
            self._check = parts.host.queue.schedule_after(parts.waiting.delay, parts.event(names.QUEUE_CHECK))

    def look_now(self) -> None:
        """Do not wait for the time of the next look, if there is to be one."""
        if self._check is not None:
            self._parts.host.queue.schedule(self._parts.event(names.QUEUE_CHECK))

    def check(self) -> None:
        """Time has passed: try again what failed, and claim."""
        parts = self._parts
        if self._check is not None:
            parts.host.queue.cancel(self._check)
            self._check = None
        parts.targets.forget()
        for event, args in parts.waiting.unblock():
            parts.host.queue.schedule(event, args)
        parts.waiting.try_again()

    def resume(self) -> None:
        """What processing waited for has come: a claim, or what was tried again, has succeeded."""
        parts = self._parts
        if parts.waiting.pause is Pause.OUTPUT_FULL:
            parts.queue.waits_for_room(False)
        if parts.waiting.passed():
            parts.host.logger.warning("Component '%s': processing goes on", parts.cid)
            parts.queue.tell(None)
            parts.host.tell_status()
