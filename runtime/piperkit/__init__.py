"""piperkit: daemons that take messages from a queue, do one thing, and pass them on."""

import importlib
from typing import TYPE_CHECKING, Any

from piperkit.config import Option
from piperkit.errors import PiperError
from piperkit.message import Failure, Format, Message, Outcome, Reject, Retry

if TYPE_CHECKING:
    from piperkit.batch import BatchComponent
    from piperkit.component import Component
    from piperkit.daemon import PiperDaemon
    from piperkit.source import Source

__all__ = [
    "BatchComponent",
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
    "Source",
]


_ON_PYZENKIT = {"BatchComponent": "batch", "Component": "component", "PiperDaemon": "daemon", "Source": "source"}


def __getattr__(name: str) -> Any:
    """Import what stands on pyzenkit when it is asked for: a queue alone needs the standard library only."""
    if name in _ON_PYZENKIT:
        return getattr(importlib.import_module(f"piperkit.{_ON_PYZENKIT[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
