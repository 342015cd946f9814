"""Why a daemon claims nothing for the time being, as one of a few classes that can be counted and alerted on."""

from __future__ import annotations

import enum
import errno

from piperkit.errors import NoRoom, QueueAway, TargetUnavailable


class Pause(enum.Enum):
    """What it waits for."""

    OUTPUT_FULL = "output_full"  #: room in the output queue
    OUTPUT_UNAVAILABLE = "output_unavailable"  #: the output queue, which is missing or not writable
    BACKEND_UNAVAILABLE = "backend_unavailable"  #: what a component works with, such as a database
    OPERATOR = "operator"  #: an operator, who has paused the queue
    QUEUE_AWAY = "queue_away"  #: the server that keeps the queue
    DISK_FULL = "disk_full"  #: space on a file system
    FAULT = "fault"  #: the end of any other fault, such as an I/O error

    @classmethod
    def of(cls, error: BaseException) -> Pause:
        """The class of a failed operation."""
        if isinstance(error, NoRoom) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return cls.DISK_FULL
        if isinstance(error, QueueAway):
            return cls.QUEUE_AWAY
        return cls.OUTPUT_UNAVAILABLE if isinstance(error, TargetUnavailable) else cls.FAULT
