"""Whose trouble it is that something could not be done to a message: a table, and nothing else.

Whatever is raised while a message is handled is that message's trouble, unless it is known to be somebody else's.
"""

from __future__ import annotations

import enum

from piperkit.errors import InvalidId, LeftAlone, MessageTooLarge, NoRoom, NotClaimed, QueueError, TargetUnavailable
from piperkit.message import Unavailable


class Owner(enum.Enum):
    """Whose trouble it is, and so what is done."""

    NOBODY = enum.auto()  #: the queue has said that it leaves the message alone
    GONE = enum.auto()  #: the message is not ours any more: that is logged
    MESSAGE = enum.auto()  #: it is tried again later, or banished, as the retry policy says
    TARGET = enum.auto()  #: the queue that the message names: it is put off, and no attempt is counted
    BACKEND = enum.auto()  #: what the component works with: everything is given back, and the daemon waits
    DAEMON = enum.auto()  #: the disk, or the output queue: the message stays in work, and the daemon waits


def owner(error: BaseException, *, of_queue: bool, names_target: bool = False) -> Owner:
    """Whose trouble `error` is.

    of_queue: the queue raised it, and not a component. names_target: while the message was moved, or copied, to a
    queue that it names.
    """
    if not of_queue:
        return Owner.BACKEND if isinstance(error, Unavailable) else Owner.MESSAGE
    if isinstance(error, NotClaimed | InvalidId):
        return Owner.NOBODY if isinstance(error, LeftAlone) else Owner.GONE
    if isinstance(error, MessageTooLarge):
        return Owner.MESSAGE
    if isinstance(error, TargetUnavailable | NoRoom) and names_target:
        return Owner.TARGET
    return Owner.DAEMON if isinstance(error, OSError | QueueError) else Owner.MESSAGE
