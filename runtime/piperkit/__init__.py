"""piperkit: daemons that take messages from a queue, do one thing, and pass them on."""

import importlib
from typing import TYPE_CHECKING

from piperkit.errors import ConfigError, PiperError, QueueError
from piperkit.message import Contents, Failure, Format, Message, Outcome, Reject, Retry, Unavailable
from piperkit.option import Option
from piperkit.timelimit import time_limit

__all__ = [
    "BatchComponent",
    "Component",
    "ConfigError",
    "Contents",
    "DirectoryQueue",
    "Failure",
    "Format",
    "Message",
    "Option",
    "Outcome",
    "PiperDaemon",
    "PiperError",
    "QueueError",
    "Reject",
    "Retry",
    "Source",
    "Unavailable",
    "time_limit",
]

if TYPE_CHECKING:
    from piperkit.batch import BatchComponent
    from piperkit.component import Component
    from piperkit.daemon import PiperDaemon
    from piperkit.dirq import DirectoryQueue
    from piperkit.source import Source
else:  # or a type checker would believe that there is whatever somebody asks for
    #: What is imported when somebody asks for it: a queue alone needs the standard library only, and a daemon pyzenkit.
    _LATER = {
        "BatchComponent": "batch",
        "Component": "component",
        "DirectoryQueue": "dirq",
        "PiperDaemon": "daemon",
        "Source": "source",
    }

    def __getattr__(name):
        if name in _LATER:
            return getattr(importlib.import_module(f"piperkit.{_LATER[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
