"""`Component`, the short way to write what a daemon does: one message in, one outcome out.

Several components of a daemon form a chain, in their order: one that returns nothing passes the message on to the
next, and the first outcome ends the chain. Where other components listen to the contract's events, an outcome
travels as these.
"""

from __future__ import annotations

from typing import Any, ClassVar

from piperkit.config import Option
from piperkit.host import Host, Result
from piperkit.message import KEPT, Message, Outcome, encode
from piperkit.statistics import log_statistics
from piperkit.zenkit import ZenDaemonComponent


class Component(ZenDaemonComponent):
    """Subclass it and write `process`. The hooks do nothing here; none of them has to call the one it replaces.

    The hooks are given the daemon, a `piperkit.Host`; a subclass may say so, or name its own daemon's class.
    """

    #: The daemon, from its construction on.
    _piper: Host | None = None

    #: Whether `--action try` may give it messages. A component that changes something outside of the daemon leaves that
    #: undone where `is_trial` says so, and says here that it does.
    trial: ClassVar[bool] = True

    #: Configuration keys of this component in the older form, which are read with `daemon.c(key)`.
    options: ClassVar[tuple[Option, ...]] = ()

    def process(self, message: Message) -> Outcome | None:
        """Say what becomes of one message: return `message.commit()` or another outcome, or None to pass it on.

        It may be called twice for the same message, after a crash. Raise Reject to banish the message, Retry to put
        it off, Unavailable where it is not the message's fault, but that of what you work with; anything else that is
        raised is a failure, on which the retry policy decides. The daemon lives on.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method process(message)")

    def try_out(self, message: Message) -> Outcome | None:
        """What `process` says of one message, in a trial."""
        return self.process(message)

    @property
    def is_trial(self) -> bool:
        """Whether messages are only tried, and nothing outside of the daemon may be changed."""
        return self._piper is not None and self._piper.is_trial

    def setup(self, daemon: Any) -> None:
        """Called once, before the first message, when the configuration is known. Raising ends the start."""

    def reload(self, daemon: Any) -> None:
        """Called after the configuration was read again. Raising is logged; the daemon goes on."""

    def teardown(self, daemon: Any) -> None:
        """Called once, after the last message, also when the start failed after `setup`. Raising is logged."""

    def progress(self) -> None:
        """Say that a long piece of work goes on: call it while `process` takes longer than `process_timeout` may be."""
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
