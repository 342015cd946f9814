"""`FilerDaemonComponent`: the events of the contract, and the turns that the daemon's loop gives to messages.

Where no other component listens to a message's events, and all that process it are `Component`s, a message goes
straight: claimed, processed, settled, without an event. Otherwise it goes by the events, one step after the other; what
is done in each is the same.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable
from typing import Any

from piperkit.component import Component
from piperkit.errors import QueueError
from piperkit.filer import names, producing
from piperkit.filer.desk import Desk
from piperkit.filer.housekeeping import PART_PAUSE, RECOVER_INTERVAL, Housekeeping
from piperkit.filer.intake import Intake
from piperkit.filer.operations import OPERATIONS, RETRY, Operation
from piperkit.filer.parts import Parts, Settings
from piperkit.host import Result, Surroundings
from piperkit.message import KEPT, ClaimedMessage, Contents, Format, Message, Outcome, text_of
from piperkit.pause import Pause
from piperkit.queue import Claim, Queue
from piperkit.statistics import log_statistics
from piperkit.zenkit import ZenDaemonComponent, ZenDaemonStopException

#: Seconds after which a claim that no component has settled is worth a warning.
UNSETTLED_AGE = 300.0


class FilerDaemonComponent(ZenDaemonComponent):
    """A daemon's access to its queue.

    cid: the component's name in the log.
    event_map: other names for events; what is not in it keeps its name. Handled and emitted events are mapped alike.
    """

    queue: Queue  #: from `setup` on, as the parts
    desk: Desk
    intake: Intake
    housekeeping: Housekeeping
    _parts: Parts
    _host: Surroundings

    def __init__(self, *, cid: str = "filer", event_map: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cid = cid
        self._map = event_map or {}
        self._forked = False  #: this is a child of the daemon's process
        self._chain: tuple[Component, ...] | None = None  #: those that process messages, if messages go straight
        self.in_hand: str | None = None  #: the message that is processed now

    def event(self, name: str) -> str:
        """The name that an event has in this daemon."""
        return self._map.get(name, name)

    def get_events(self) -> list[dict[str, Any]]:
        """The contract's events, and ours."""
        handlers: dict[str, Callable[[Any, Any], Result]] = {
            names.START: self.cbk_event_start,
            names.STOP: self.cbk_event_stop,
            names.QUEUE_CHECK: self.cbk_event_queue_check,
            names.QUEUE_RECOVER: self.cbk_event_queue_recover,
            names.QUEUE_EXPIRE: self.cbk_event_queue_expire,
            names.MESSAGE_ENQUEUE: self.cbk_event_message_enqueue,
            names.MESSAGE_NEXT: self.cbk_event_message_next,
            names.MESSAGE_NO_MORE: self.cbk_event_message_no_more,
            names.MESSAGE_PROCESS: self.cbk_event_message_process,
            names.LOG_STATISTICS: self.cbk_event_log_statistics,
            **{operation.event: self._handler(operation) for operation in OPERATIONS},
        }
        first = names.MESSAGE_PROCESS
        return [self.gen_event_handler(self.event(name), handlers[name], name == first) for name in handlers]

    # -- its life --------------------------------------------------------------------------------------------

    def setup(self, daemon: Surroundings) -> None:
        """Open the queue. Raises QueueMissing where it cannot be used."""
        self._host = daemon
        self.queue = daemon.open_queue()
        parts = self._parts = Parts(daemon, self.queue, self.cid, self.event, self.statistics_cur)
        self.desk = Desk(parts)
        self.intake = Intake(parts, self.desk)
        self.housekeeping = Housekeeping(self.queue, daemon, self.cid)
        daemon.logger.info("Component '%s': input queue is %s", self.cid, parts.settings.in_dir)
        if parts.settings.out_dir:
            daemon.logger.info(
                "Component '%s': output queue is %s, limit %d",
                self.cid,
                parts.settings.out_dir,
                parts.settings.out_limit,
            )
        else:
            daemon.logger.info("Component '%s': there is no output queue: what is committed is deleted", self.cid)

    def configure(self) -> None:
        """Take over the settings that may change while the daemon runs, and do not wait for what followed from them."""
        self._parts.settings = Settings.of(self._host)
        self._parts.history.follow(self._parts.settings.history, self._parts.settings.history_sample)
        self.desk.look_now()
        self.intake.wake()

    def close(self) -> None:
        """Give everything back and close the queue; the daemon calls it after its last event."""
        parts = self._parts
        left = len(parts.claims.held)
        parts.claims.clear()
        try:
            parts.window.close()
        except (OSError, QueueError) as error:
            self._host.logger.error("Component '%s': the last batch is not on the disk: %s", self.cid, error)
        self.intake.bell.close()
        if parts.waiting.pause is Pause.OUTPUT_FULL:
            self.queue.waits_for_room(False)
        self.queue.close()
        if left:
            self._host.logger.warning(
                "Component '%s': %d messages were not settled, and were given back", self.cid, left
            )
        lost = len(parts.waiting.blocked.get("", ()))
        if lost:
            self._host.logger.error(
                "Component '%s': %d new messages could not be enqueued: %s", self.cid, lost, parts.waiting.reason
            )

    def forget(self) -> None:
        """This is a forked child now: the claims are its parent's."""
        self._forked = True
        if hasattr(self, "_parts"):
            self._parts.claims.clear()
            self._parts.history.forget()
            self.intake.bell.close()

    # -- what others want to know ----------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Whether nothing is claimed now; `waiting_for` says why."""
        return self._parts.waiting.closed

    @property
    def waiting_for(self) -> str | None:
        """What it pauses for, for people."""
        return self._parts.waiting.reason

    def doing(self) -> str:
        """What it does, or waits for, for people."""
        if self.waiting_for is not None:
            return f"waiting for {self.waiting_for}"
        return "working" if self._parts.claims.held else "idle"

    @property
    def parts(self) -> Parts:
        """What it holds, waits for and counts, and by which settings; from `setup` on."""
        return self._parts

    def idle(self) -> bool:
        """Whether there is nothing to do until an arrival, a timer or somebody else changes that."""
        return self.paused or self.intake.is_full or (self.intake.bell.resting and not self.queue.busy())

    def about(self, id: str) -> dict[str, Any]:
        """What a log line about a claimed message carries besides; nothing for what is none."""
        return self._parts.about(id) if hasattr(self, "_parts") else {}

    def get_state(self) -> dict[str, Any]:
        """What the state file says about the filer."""
        return {
            "statistics": self.statistics_cur,
            "status": "status_paused" if self.paused else "status_running",
            "waiting_for": self.waiting_for,
            "claimed": self.queue.claimed(),
        }

    # -- turns -----------------------------------------------------------------------------------------------

    def work(self) -> bool:
        """Begin messages, until an event is due; returns whether there was one to begin.

        Called by the daemon's loop when it has nothing else to do. One message at a time, so that the outcome of one
        comes before the next: what a daemon dies of is laid to the charge of the message that it was working on.
        """
        parts, intake = self._parts, self.intake
        host, ready = self._host, parts.claims.ready
        if parts.waiting.closed or host.is_done() or (not ready and (intake.bell.resting or intake.is_full)):
            return False
        if not ready and not intake.claim():
            return False
        if self._chain is None:
            if parts.claims.begun and host.queue.events:
                return False  # the events of the message before it
            host.progress()
            host.queue.schedule(self.event(names.MESSAGE_PROCESS), {"id": ready.popleft().id})
            return True
        chain, progress, desk = self._chain, host.sign_of_life(), self.desk
        events, timers = host.queue.events, host.queue.events_at
        desk.now = time.monotonic()
        while ready:
            if progress is not None:
                progress()  # each message has the whole of `process_timeout`
            self._straight(ready.popleft(), chain)
            if events or (timers and timers[0][0] <= desk.now) or parts.waiting.closed:
                break
        return True

    def chain(self, daemon: Surroundings) -> tuple[Component, ...] | None:
        """The components that a message is given to, in order; None where others listen to its events, too."""
        handlers = daemon.listeners(self.event(names.MESSAGE_PROCESS))[1:]
        standard = Component.cbk_event_message_process
        chain = [getattr(each, "__self__") for each in handlers if getattr(each, "__func__", None) is standard]  # noqa: B009
        return tuple(chain) if len(chain) == len(handlers) else None

    def _straight(self, claim: Claim, chain: tuple[Component, ...]) -> None:
        """Have one message processed, and settle it."""
        id = claim.id
        try:
            message = self._open(claim)
        except BaseException as error:
            self.desk.unopened(id, error)
            return
        outcome: Outcome | None = None
        self.in_hand = id
        try:
            for component in chain:
                counts = component.statistics_cur
                counts["cnt_processed"] = counts.get("cnt_processed", 0) + 1
                outcome = component.process(message)
                if outcome is not None:
                    break
            if outcome is not None and outcome is not KEPT:
                self.desk.settle(id, outcome)
        except BaseException as error:
            if self._forked or isinstance(error, ZenDaemonStopException):
                raise
            self.desk.failed(id, error)
        finally:
            self.in_hand = None

    def _open(self, claim: Claim) -> Message:
        """A claimed message as a component is given it: work on it begins. Raises Reject, NotClaimed, OSError."""
        form = self._parts.settings.format
        begun, counts = self._parts.claims.begun, self.statistics_cur
        id = claim.id
        if form is Format.BYTES:
            self.queue.begin(id)
            message = ClaimedMessage(claim, self.queue.read)
        else:
            message = ClaimedMessage(claim, self.queue.read, text_of(self.queue.read(id)))
            if form is Format.JSON:
                _ = message.json  # what is not JSON is rejected before the component can trip over it
        begun[id] = self.desk.now
        if self._parts.history.also is not None:
            self._parts.history.look_up(claim)
        counts[names.ATTEMPTS] = counts.get(names.ATTEMPTS, 0) + 1
        return message

    def settle(self, id: str, outcome: Outcome) -> None:
        """See `Messages`."""
        self.desk.settle(id, outcome)

    def failed(self, id: str, error: BaseException) -> None:
        """See `Messages`."""
        self.desk.failed(id, error)

    def give_back(self, id: str) -> None:
        """See `Messages`."""
        self.desk.give_back(id)

    def enqueue_all(self, contents: collections.deque[Contents]) -> None:
        """See `Messages`."""
        try:
            producing.enqueue_all(self._parts, contents)
        finally:
            self.intake.wake()

    # -- events ----------------------------------------------------------------------------------------------

    def _handler(self, operation: Operation) -> Callable[[Any, Any], Result]:
        """What handles the event of an operation. It takes {id, ...}, or a bare id."""

        def handle(daemon: Surroundings, args: Any) -> Result:
            args = args if isinstance(args, dict) else {"id": args}
            if operation is RETRY:
                args.setdefault("delay", self._parts.settings.policy.minimum)
            done = self.desk.perform(operation, args)
            return daemon.FLAG_CONTINUE if done else daemon.FLAG_STOP, args

        handle.__qualname__ = f"{type(self).__name__}.cbk_event_{operation.event}"
        return handle

    def cbk_event_start(self, daemon: Surroundings, args: Any) -> Result:
        """Find out who listens, give back what dead instances had claimed, and begin to claim."""
        alone = [operation.event for operation in OPERATIONS if len(daemon.listeners(self.event(operation.event))) == 1]
        self.desk.alone = frozenset(alone)
        self._chain = self.chain(daemon)
        self.cbk_event_queue_expire(daemon, None)
        self.housekeeping.count_errors()
        daemon.every(self.event(names.QUEUE_RECOVER), lambda: RECOVER_INTERVAL)
        daemon.again(self.event(names.QUEUE_RECOVER), 0)
        return daemon.FLAG_CONTINUE, args

    def cbk_event_stop(self, daemon: Surroundings, args: Any) -> Result:
        """Give back every claim that is not in work; what is in work is finished by the events that follow."""
        ready = self._parts.claims.ready
        while ready:
            self.desk.give_back(ready.popleft().id)
        return daemon.FLAG_CONTINUE, args

    def cbk_event_queue_check(self, daemon: Surroundings, args: Any) -> Result:
        """Look whether what processing waits for has come: what failed is tried again, and messages are claimed."""
        self.desk.check()
        self.intake.bell.renew()
        self.intake.bell.rise()
        return daemon.FLAG_CONTINUE, args

    def cbk_event_queue_recover(self, daemon: Surroundings, args: Any) -> Result:
        """Look for what dead instances left, and for claims that no component settles."""
        settled, returned, again = self.housekeeping.recover()
        self._parts.count(names.RECOVERED, settled)
        if returned:
            self.intake.bell.rise()
        for id in self._parts.claims.unsettled(time.monotonic() - UNSETTLED_AGE):
            daemon.logger.warning(
                "Component '%s': message '%s' has been claimed for %d s and no component has settled it",
                self.cid,
                id,
                UNSETTLED_AGE,
                extra=self.about(id),
            )
        daemon.tell_status()
        daemon.again(self.event(names.QUEUE_RECOVER), again)
        return daemon.FLAG_CONTINUE, args

    def cbk_event_queue_expire(self, daemon: Surroundings, args: Any) -> Result:
        """Delete a part of the old dead letters where that is asked for, and the next part soon."""
        if self.housekeeping.expire(self._parts.settings.errors_keep) and not daemon.is_done():
            daemon.queue.schedule_after(PART_PAUSE, self.event(names.QUEUE_EXPIRE))
        return daemon.FLAG_CONTINUE, args

    def cbk_event_message_next(self, daemon: Surroundings, args: Any) -> Result:
        """Look for messages now. Events of this name may be scheduled by anybody, at any time."""
        self.intake.bell.rise()
        return daemon.FLAG_CONTINUE, args

    def cbk_event_message_no_more(self, daemon: Surroundings, args: Any) -> Result:
        """For components that collect messages: they have to go on with those that they have."""
        return daemon.FLAG_CONTINUE, args

    def cbk_event_message_process(self, daemon: Surroundings, args: Any) -> Result:
        """Before any component sees a message of ours: read it, or banish what no component can be given."""
        if not isinstance(args, dict) or "data" in args or "id" not in args:
            return daemon.FLAG_CONTINUE, args  # emitted by somebody else, who says what it holds
        id = args["id"]
        claim = self._parts.claims.held.get(id)
        if claim is None:
            return daemon.FLAG_STOP, None  # given back meanwhile
        if daemon.is_done():
            self.desk.give_back(id)
            return daemon.FLAG_STOP, None
        try:
            message = self._open(claim)
            data = message.data if self._parts.settings.format is Format.BYTES else message.text
            facts = {"id": id, "data": data, "attempt": message.attempt, "arrived": message.arrived}
        except BaseException as error:
            self.desk.unopened(id, error)
            return daemon.FLAG_STOP, None
        return daemon.FLAG_CONTINUE, facts

    def cbk_event_message_enqueue(self, daemon: Surroundings, args: Any) -> Result:
        """Enqueue {data} into our own queue; what follows in the event's chain sees its new id."""
        args = args if isinstance(args, dict) else {"data": args}
        done = producing.enqueue(self._parts, self.desk, args)
        self.intake.wake()
        return daemon.FLAG_CONTINUE if done else daemon.FLAG_STOP, args

    def cbk_event_log_statistics(self, daemon: Surroundings, args: Any) -> Result:
        """Log what was done: total, increase and rate of each counter; and look after the dead letters."""
        self.cbk_event_queue_expire(daemon, None)
        self.housekeeping.count_errors()
        for key in names.COUNTERS:
            self.statistics_cur.setdefault(key, 0)
        log_statistics(daemon.logger, self, self.cid)
        return daemon.FLAG_CONTINUE, args
