"""`Component`, the short way to write what a daemon does: one message in, one outcome out.

Several components of a daemon form a chain, in their order: one that returns nothing passes the message on to the
next, and the first outcome ends the chain. An outcome travels as the filer's events, so other components see it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from piperkit.message import Action, Message, Outcome, encode
from piperkit.zenkit import ZenDaemonComponent

if TYPE_CHECKING:
    from piperkit.config import Option
    from piperkit.daemon import PiperDaemon

#: What an event's handler returns: whether the next handler is called, and with what.
Result = tuple[int, Any]
#: The event that carries out what becomes of a message.
_EVENTS = {
    Action.COMMIT: "message_commit",
    Action.CANCEL: "message_cancel",
    Action.DISPATCH: "message_dispatch",
}


class Unread(dict[str, Any]):
    """What an event says of a message of bytes: its `data` is read when somebody asks for it, and may be large."""

    def __init__(self, facts: dict[str, Any], read: Callable[[str], bytes]) -> None:
        super().__init__(facts)
        self._read = read

    def __missing__(self, key: str) -> bytes:
        if key != "data":
            raise KeyError(key)
        data: bytes = self.setdefault(key, self._read(self["id"]))
        return data

    def __contains__(self, key: object) -> bool:
        return key == "data" or super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401  it would call itself


class Component(ZenDaemonComponent):
    """Subclass it and write `process`. The hooks do nothing here; none of them has to call the one it replaces."""

    _daemon: PiperDaemon | None = None
    #: The daemon, where the values of options come from.
    _piper: PiperDaemon | None = None

    #: Configuration keys in the older form, which are read with `daemon.c(key)`; see `Option`.
    options: ClassVar[tuple[Option, ...]] = ()

    def process(self, message: Message) -> Outcome | None:
        """Say what becomes of one message: return `message.commit()` or another outcome, or None to pass it on.

        It may be called twice for the same message, after a crash. Raise Reject to banish the message, Retry to put
        it off; anything else that is raised is a failure, on which the retry policy decides. The daemon lives on.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method process(message)")

    def setup(self, daemon: PiperDaemon) -> None:
        """Called once, before the first message, when the configuration is known. Raising ends the start."""

    def reload(self, daemon: PiperDaemon) -> None:
        """Called after the configuration was read again. Raising is logged; the daemon goes on."""

    def teardown(self, daemon: PiperDaemon) -> None:
        """Called once, after the last message, also when the start failed after `setup`. Raising is logged."""

    def progress(self) -> None:
        """Say that a long piece of work goes on: call it while `process` takes longer than `process_timeout` may be."""
        if self._daemon is not None:
            self._daemon.progress()

    # -- what pyzenkit sees ----------------------------------------------------------------------------------

    def get_events(self) -> list[dict[str, Any]]:
        """The events that a component handles; extend it to handle more."""
        return [
            self.gen_event_handler("message_process", self.cbk_event_message_process),
            self.gen_event_handler("reload", self.cbk_event_reload),
            self.gen_event_handler("log_statistics", self.cbk_event_log_statistics),
        ]

    def cbk_event_message_process(self, daemon: PiperDaemon, args: Any) -> Result:
        """Hand the message to `process`, and schedule what comes of it."""
        if not isinstance(args, dict) or "data" not in args:
            return daemon.FLAG_CONTINUE, args  # an earlier component has taken the message, in the way of events
        self._daemon = daemon
        message = _message(args)
        if daemon.filer.gives_json:
            _ = message.json  # what is no JSON is rejected before the component can trip over it
        self.inc_statistic("cnt_processed")
        return (daemon.FLAG_STOP if self._take(daemon, message) else daemon.FLAG_CONTINUE), args

    def _take(self, daemon: PiperDaemon, message: Message) -> bool:
        """Process a message; returns whether that settled it, or will."""
        outcome = self.process(message)
        if outcome is not None:
            self._schedule(daemon, message, outcome)
        return outcome is not None

    def _schedule(self, daemon: PiperDaemon, message: Message, outcome: Outcome) -> None:
        if not isinstance(outcome, Outcome):
            raise TypeError(
                f"{type(self).__name__} returned {outcome!r} for a message; return message.commit() or another outcome"
            )
        for copy in outcome.copies:
            daemon.queue.schedule("message_duplicate", {"id": message.id, "queue_tgt": copy})
        args: dict[str, Any] = {"id": message.id}
        if outcome.target is not None:
            args["queue_tgt"] = outcome.target
        if outcome.content is not None:
            # The filer writes and moves it in one step, so that a crash in between cannot make a component see its own
            # output, as it could after a `message_update`.
            args["content"] = outcome.content
        daemon.queue.schedule(_EVENTS[outcome.action], args)

    def cbk_event_reload(self, daemon: PiperDaemon, args: Any) -> Result:
        self.reload(daemon)
        return daemon.FLAG_CONTINUE, args

    def cbk_event_log_statistics(self, daemon: PiperDaemon, args: Any) -> Result:
        """Log what this component has counted with `inc_statistic`."""
        log_statistics(daemon, self, type(self).__name__, self.get_statistics())
        return daemon.FLAG_CONTINUE, args


def _message(args: dict[str, Any]) -> Message:
    """The message that an event is about."""
    return Message(args["id"], encode(args["data"]), args.get("attempt", 1), args.get("arrived", 0.0))


def log_statistics(daemon: PiperDaemon, component: ZenDaemonComponent, title: str, found: dict[str, Any]) -> None:
    """Log counters as total, increase and rate per second."""
    text = ""
    for key in sorted(found):
        text = component.pattern_stats.format(text, key, found[key]["cnt"], found[key]["inc"], found[key]["spd"])
    if text:
        daemon.logger.info("Component '%s': *** Processing statistics ***%s", title, text)
