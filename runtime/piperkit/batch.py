"""`BatchComponent`, for work that is done in bulk: several messages in, and no commit before the work is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from piperkit.component import Component, Result
from piperkit.config import Option
from piperkit.message import Message, Outcome

if TYPE_CHECKING:
    from piperkit.daemon import PiperDaemon


class BatchComponent(Component):
    """For bulk work: it is given several messages at once, and they are settled only after its work has succeeded.

    Subclass it and write `process_batch`. Messages are collected until there are `batch_size` of them, or the first
    has waited for `batch_wait` seconds, or they take all the room in the output queue, or the daemon stops.
    A message that was tried before comes alone, and so does each message of a batch that failed: so one that fails, or
    kills the daemon, does not take others with it.
    """

    options: ClassVar[tuple[Option, ...]] = (
        Option("batch_size", int, 100, "messages that are processed together", unit="messages", minimum=1),
        Option("batch_wait", float, 1.0, "longest wait for a batch to fill up", unit="seconds", minimum=0),
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._waiting: list[Message] = []
        self._timer: Any = None

    def process_batch(self, messages: Sequence[Message]) -> Sequence[Outcome] | None:
        """Do the work for all of `messages`, and only then return: one outcome each, or None to commit them all.

        Raising fails the batch, and its messages are tried again one by one; for a batch of one it is as in `process`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method process_batch(messages)")

    def get_events(self) -> list[dict[str, Any]]:
        return [
            *super().get_events(),
            self.gen_event_handler(self._flush_event, self.cbk_event_flush),
            self.gen_event_handler("message_no_more", self.cbk_event_flush),
            self.gen_event_handler("stop", self.cbk_event_flush),
        ]

    @property
    def _flush_event(self) -> str:
        return f"batch_flush_{id(self):x}"

    def _take(self, daemon: PiperDaemon, message: Message) -> bool:
        if message.attempt > 1:
            self.cbk_event_flush(daemon, None)
            self._finish(daemon, [message])
            return True
        self._waiting.append(message)
        if len(self._waiting) >= daemon.c("batch_size"):
            self.cbk_event_flush(daemon, None)
        elif self._timer is None:
            self._timer = daemon.queue.schedule_after(daemon.c("batch_wait"), self._flush_event)
        return True

    def cbk_event_flush(self, daemon: PiperDaemon, args: Any) -> Result:
        """Process what has been collected."""
        if self._timer is not None:
            daemon.queue.cancel(self._timer)
            self._timer = None
        batch, self._waiting = self._waiting, []
        error = self._try(daemon, batch) if batch else None
        if error is not None and len(batch) > 1:
            daemon.logger.warning(
                "%s failed for %d messages, which now come one by one: %s", type(self).__name__, len(batch), error
            )
            for message in batch:
                self._fail(daemon, message, self._try(daemon, [message]))
        elif error is not None:
            self._fail(daemon, batch[0], error)
        return daemon.FLAG_CONTINUE, args

    def _try(self, daemon: PiperDaemon, batch: list[Message]) -> Exception | None:
        try:
            self._finish(daemon, batch)
        except Exception as error:
            return error
        return None

    def _fail(self, daemon: PiperDaemon, message: Message, error: Exception | None) -> None:
        if error is not None:
            daemon.filer.failed(daemon, message.id, error)

    def _finish(self, daemon: PiperDaemon, batch: list[Message]) -> None:
        outcomes = self.process_batch(batch)
        if outcomes is None:
            outcomes = [message.commit() for message in batch]
        if len(outcomes) != len(batch):
            raise TypeError(
                f"{type(self).__name__}.process_batch returned {len(outcomes)} outcomes for {len(batch)} messages"
            )
        for message, outcome in zip(batch, outcomes, strict=True):
            self._schedule(daemon, message, outcome)
