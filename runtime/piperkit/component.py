"""`Component`, the short way to write what a daemon does: one message in, one outcome out.

Several components of a daemon form a chain, in their order: a component that returns None passes the message on to the
next, and the first outcome ends the chain. Where other components listen for the contract's events, an outcome is sent
to them as those events.
"""

from __future__ import annotations

from typing import Any, ClassVar

from piperkit.config import Option
from piperkit.host import Host, Result
from piperkit.message import KEPT, Message, Outcome, encode
from piperkit.statistics import log_statistics
from piperkit.zenkit import ZenDaemonComponent


class Component(ZenDaemonComponent):
    """Subclass it and write `process`. The hooks do nothing here, so yours need not call them.

    The hooks are given the daemon, a `piperkit.Host`. A subclass may annotate it as that, or as its own daemon's class.
    """

    #: The daemon, from its construction on.
    _piper: Host | None = None

    #: Whether `--action try` may give it messages. A component that changes something outside of the daemon must not do
    #: so while `is_trial` is true; set this to True to say that it does not.
    trial: ClassVar[bool] = True

    #: Configuration keys of this component in the older form, which are read with `daemon.c(key)`.
    options: ClassVar[tuple[Option, ...]] = ()

    def process(self, message: Message) -> Outcome | None:
        """Decide what happens to one message: return `message.commit()` or another outcome, or None to pass it on.

        After a crash it may be called again for the same message. Raise Reject to banish the message, Retry to defer
        it, and Unavailable if the fault is not the message's but that of something you depend on. Any other exception
        counts as a failed attempt, to which the retry policy applies. The daemon keeps running.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method process(message)")

    def try_out(self, message: Message) -> Outcome | None:
        """What `process` would return for one message, in a trial."""
        return self.process(message)

    @property
    def is_trial(self) -> bool:
        """Whether messages are only being tried, so that nothing outside of the daemon may be changed."""
        return self._piper is not None and self._piper.is_trial

    def setup(self, daemon: Any) -> None:
        """Called once, before the first message, when the configuration is known. An exception ends the start."""

    def reload(self, daemon: Any) -> None:
        """Called after the configuration was read again. An exception is logged, and the daemon keeps running."""

    def teardown(self, daemon: Any) -> None:
        """Called once, after the last message, even if the start failed after `setup`. An exception is logged."""

    def progress(self) -> None:
        """Report that a long piece of work is still going on. Call it if `process` may outlast `process_timeout`."""
        if self._piper is not None:
            self._piper.progress()

    # -- what pyzenkit sees ----------------------------------------------------------------------------------

    def get_events(self) -> list[dict[str, Any]]:
        """The events that a component handles; extend it to handle more."""
        process = "message_process" if self._piper is None else self._piper.filer.event("message_process")
        return [
            self.gen_event_handler(process, self.cbk_event_message_process),
            self.gen_event_handler("reload", self.cbk_event_reload),
            self.gen_event_handler("log_statistics", self.cbk_event_log_statistics),
        ]

    def cbk_event_message_process(self, daemon: Host, args: Any) -> Result:
        """Hand the message to `process`, and have done what comes of it; for messages that do not go straight."""
        if not isinstance(args, dict) or "data" not in args:
            return daemon.FLAG_CONTINUE, args  # an earlier component has taken the message, in the way of events
        message = Message(args["id"], encode(args["data"]), args.get("attempt", 1), args.get("arrived", 0.0))
        self.inc_statistic("cnt_processed")
        outcome = self.process(message)
        if outcome is None:
            return daemon.FLAG_CONTINUE, args
        if outcome is not KEPT:
            daemon.filer.settle(message.id, outcome)
        return daemon.FLAG_STOP, args

    def cbk_event_reload(self, daemon: Host, args: Any) -> Result:
        self.reload(daemon)
        return daemon.FLAG_CONTINUE, args

    def cbk_event_log_statistics(self, daemon: Host, args: Any) -> Result:
        """Log what this component has counted with `inc_statistic`."""
        log_statistics(daemon.logger, self, type(self).__name__)
        return daemon.FLAG_CONTINUE, args
