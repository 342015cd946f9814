"""piperkit: daemons that take messages from a queue, do one thing, and pass them on."""

from typing import TYPE_CHECKING, Any

from piperkit.config import Option
from piperkit.errors import PiperError
from piperkit.message import Failure, Format, Message, Outcome, Reject, Retry

if TYPE_CHECKING:
    from piperkit.component import Component
    from piperkit.daemon import PiperDaemon

__all__ = [
    "Component",
    "Failure",
    "Format",
    "Message",
    "Option",
    "Outcome",
    "PiperDaemon",
    "PiperError",
    "Reject",
    "Retry",
]


def __getattr__(name: str) -> Any:
    """Import what stands on pyzenkit when it is asked for: a queue alone needs the standard library only."""
    if name == "Component":
        from piperkit.component import Component

        return Component
    if name == "PiperDaemon":
        from piperkit.daemon import PiperDaemon

        return PiperDaemon
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
