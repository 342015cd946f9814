"""Queues in a circle, each of whose daemons waits for room in the next: none of them would ever go on.

While an instance waits for room in its next queue, a link `tmp/.waits-for` in its own queue names that one: in `tmp`,
since the daemons that deliver to it can look there, and perhaps nowhere else. Who follows these links from its next
queue and comes back to its own is in a circle. They are made anew at each look for room, so that an old one, of a dead
instance, misleads nobody for long. Whoever may enqueue can make one: they are only shown, and nothing is done because
of them.
"""

from __future__ import annotations

import contextlib
import os
import time

#: The link.
MARK = ".waits-for"
#: Seconds for which one is believed; it is renewed at each look, every `queue_out_wait` seconds at least.
BELIEVED = 300.0
#: Queues in a circle, at the most.
_LONGEST = 32


def mark(queue: str, next_queue: str) -> None:
    """The queue's daemon waits for room in `next_queue`. What cannot be done is left."""
    new = f"{queue}/tmp/{MARK}.{os.getpid()}"
    with contextlib.suppress(OSError):
        unmark(queue)
        os.symlink(next_queue, new)
        os.rename(new, f"{queue}/tmp/{MARK}")


def unmark(queue: str) -> None:
    """It goes on. Idempotent. What cannot be done is left."""
    with contextlib.suppress(OSError):
        os.unlink(f"{queue}/tmp/{MARK}")


def find(queue: str, next_queue: str) -> tuple[str, ...]:
    """The queues of the circle that `queue` is in, beginning and ending with it; none where there is no circle."""
    here = next_queue
    path = [queue]
    home = os.path.realpath(queue)
    while len(path) < _LONGEST:
        path.append(here)
        if os.path.realpath(here) == home:
            return tuple(path)
        try:
            link = f"{here}/tmp/{MARK}"
            if time.time() - os.lstat(link).st_mtime > BELIEVED:
                return ()
            here = os.readlink(link)
        except (OSError, ValueError):
            return ()
        if not here.startswith("/"):
            return ()
    return ()
