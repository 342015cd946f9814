"""pyzenkit, as far as we use it, without what it does when it is imported: it reads the file `.env` of the current
directory, which may be anybody's, and which could say where the programs that we start find their modules.
"""

from __future__ import annotations

import pyzenkit.utils

pyzenkit.utils.load_dotenv_cwd = lambda: None

from pyzenkit.baseapp import BaseApp  # noqa: E402  only now
from pyzenkit.zendaemon import (  # noqa: E402
    EventQueueManager,
    QueueEmptyException,
    ZenDaemon,
    ZenDaemonComponent,
    ZenDaemonStopException,
)

__all__ = [
    "BaseApp",
    "EventQueueManager",
    "QueueEmptyException",
    "ZenDaemon",
    "ZenDaemonComponent",
    "ZenDaemonStopException",
]
