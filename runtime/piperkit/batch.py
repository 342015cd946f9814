"""`BatchComponent`, for work in bulk: several messages in, and nothing committed before the work is done."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any, ClassVar

from piperkit.component import Component
from piperkit.config import Option
from piperkit.host import Host, Result, Timer
from piperkit.message import KEPT, Message, Outcome, Unavailable


class BatchComponent(Component):
    """For work in bulk: it gets several messages at once, and they are settled only after its work has succeeded.

    Subclass it and write `process_batch`. Messages are collected until there are `batch_size` of them, the first has
    waited for `batch_wait` seconds, they would fill the output queue, or the daemon stops. A message that was tried
    before comes alone, and so does each message of a batch that failed; a message that fails, or kills the daemon, then
    takes no others with it. Between two such messages the daemon does whatever else is due.
    """

    trial: ClassVar[bool] = False  # work in bulk is nearly always work on something else

    options: ClassVar[tuple[Option, ...]] = (
        Option("batch_size", int, 100, "messages that are processed together", unit="messages", minimum=1),
        Option("batch_wait", float, 1.0, "longest wait for a batch to fill up", unit="seconds", minimum=0),
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.__waiting: list[Message] = []
        self.__alone: collections.deque[Message] = collections.deque()  #: those of a batch that failed
        self.__timer: Timer | None = None

    def process_batch(self, messages: Sequence[Message]) -> Sequence[Outcome | None] | None:
        """Do the work for all `messages` and only then return: one outcome for each, or None to commit them all.

        If it raises, the messages are tried again one by one; for a single message, an exception means the same as in
        `process`. Unavailable gives all of them back.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method process_batch(messages)")

    def process(self, message: Message) -> Outcome | None:
        """Collect the message; it is settled with its batch."""
        daemon = self._piper
        assert daemon is not None, "a component works in a daemon"
        if message.attempt > 1:
            self.__flush(daemon)
            self.__settle(daemon, [message], self.process_batch([message]))
            return KEPT
        self.__waiting.append(message)
        if len(self.__waiting) >= daemon.c("batch_size"):
            self.__flush(daemon)
        elif self.__timer is None:
            self.__timer = daemon.queue.schedule_after(daemon.c("batch_wait"), self.__event("flush"))
        return KEPT

    def try_out(self, message: Message) -> Outcome | None:
        outcomes = self.process_batch([message])
        return message.commit() if outcomes is None else outcomes[0]

    # -- what pyzenkit sees ----------------------------------------------------------------------------------

    def get_events(self) -> list[dict[str, Any]]:
        no_more = "message_no_more" if self._piper is None else self._piper.filer.event("message_no_more")
        return [
            *super().get_events(),
            self.gen_event_handler(self.__event("flush"), self.cbk_event_flush),
            self.gen_event_handler(self.__event("alone"), self.cbk_event_alone),
            self.gen_event_handler(no_more, self.cbk_event_flush),
            self.gen_event_handler("stop", self.cbk_event_flush),
        ]

    def __event(self, what: str) -> str:
        return f"batch_{what}_{id(self):x}"

    def cbk_event_flush(self, daemon: Host, args: Any) -> Result:
        """Process what has been collected."""
        self.__flush(daemon)
        return daemon.FLAG_CONTINUE, args

    def cbk_event_alone(self, daemon: Host, args: Any) -> Result:
        """Process one message of a batch that failed."""
        if self.__alone:
            message = self.__alone.popleft()
            daemon.progress()
            self.__next_alone(daemon)
            try:
                self.__settle(daemon, [message], self.process_batch([message]))
            except BaseException as error:
                if isinstance(error, Unavailable):
                    self.__give_back(daemon)
                daemon.filer.failed(message.id, error)
        return daemon.FLAG_CONTINUE, args

    def __next_alone(self, daemon: Host) -> None:
        if self.__alone:
            daemon.queue.schedule(self.__event("alone"))

    def __flush(self, daemon: Host) -> None:
        if self.__timer is not None:
            daemon.queue.cancel(self.__timer)
            self.__timer = None
        batch, self.__waiting = self.__waiting, []
        if not batch:
            return
        try:
            self.__settle(daemon, batch, self.process_batch(batch))
        except BaseException as error:
            if isinstance(error, Unavailable) or len(batch) == 1:
                for message in batch:
                    daemon.filer.failed(message.id, error)
                return
            daemon.logger.warning(
                "%s failed for %d messages, which now come one by one: %s: %s",
                type(self).__name__,
                len(batch),
                type(error).__name__,
                error,
            )
            begun = bool(self.__alone)
            self.__alone.extend(batch)
            if not begun:
                self.__next_alone(daemon)

    def __give_back(self, daemon: Host) -> None:
        while self.__alone:
            daemon.filer.give_back(self.__alone.popleft().id)

    def __settle(self, daemon: Host, batch: list[Message], outcomes: Sequence[Outcome | None] | None) -> None:
        """Do what the component says; a message of which it says nothing that can be done has failed.

        Raises TypeError, before anything is done, where outcomes are not one for each message.
        """
        name = f"{type(self).__name__}.process_batch"
        if outcomes is None:
            outcomes = [message.commit() for message in batch]
        if isinstance(outcomes, str | bytes | Outcome) or len(outcomes) != len(batch):
            raise TypeError(
                f"{name} returned {outcomes!r:.200} for {len(batch)} messages; it must be an outcome for each"
            )
        for message, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Outcome):
                daemon.filer.settle(message.id, outcome)
            else:
                error = TypeError(f"{name} returned {outcome!r:.200} for this message; it must be an outcome")
                daemon.filer.failed(message.id, error)
