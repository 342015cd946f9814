"""New messages for the input queue: from the event `message_enqueue`, and from sources, many at once."""

from __future__ import annotations

import collections
import itertools
from typing import Any

from piperkit.errors import MessageTooLarge, QueueError
from piperkit.filer import names
from piperkit.filer.desk import Desk
from piperkit.filer.parts import Parts
from piperkit.message import Contents

#: Messages that `enqueue_all` has published together, so that a failure is that of few.
TOGETHER = 100


def enqueue(parts: Parts, desk: Desk, args: dict[str, Any]) -> bool:
    """Enqueue {data}, and add its {id}; returns whether it was. If the disk fails it is done later; what cannot be a
    message is said, and dropped.
    """
    try:
        args["id"] = parts.queue.enqueue(args["data"])
    except Exception as error:
        parts.count(names.ERRORS)
        if isinstance(error, OSError | QueueError) and not isinstance(error, MessageTooLarge):
            parts.waiting.block("", parts.event(names.MESSAGE_ENQUEUE), args)
            desk.pause_for_fault(error)
        else:
            _dropped(parts, error)
        return False
    parts.count(names.ENQUEUED)
    return True


def enqueue_all(parts: Parts, contents: collections.deque[Contents]) -> None:
    """Enqueue messages, taken off the front of `contents`; they are on the disk then.

    Raises OSError, QueueError: then what is left in `contents` is not enqueued, and another call goes on with it.
    What cannot be a message, such as one that is too large, is dropped, with an error in the log.
    """
    size = TOGETHER
    while contents:
        group = list(itertools.islice(contents, size))
        try:
            parts.queue.enqueue_many(group)
            parts.count(names.ENQUEUED, len(group))
        except (MessageTooLarge, TypeError, ValueError, RecursionError) as error:
            if size > 1:
                size = 1  # none of the group was enqueued; one by one, the others are
                continue
            parts.count(names.ERRORS)
            _dropped(parts, error)
        for _ in group:
            contents.popleft()
    parts.window.close()  # if there is one, the directory is synced with it


def _dropped(parts: Parts, error: Exception) -> None:
    what = error if isinstance(error, QueueError) else f"{type(error).__name__}: {error}"
    parts.host.logger.error("Component '%s': a new message is not enqueued: %s", parts.cid, what)
