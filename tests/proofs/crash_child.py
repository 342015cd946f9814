"""What the crash walk runs and kills: one operation on a queue, without pytest and without site-packages.

    python -I -S crash_child.py RUNTIME

serves runs, each with the arguments ROOT FAR OPERATION [OPTION ...]. ROOT holds the queues `in`, `next` and `other`;
FAR is a queue on another file system. Options: `give-up` ends at the first error, as a program does that dies of it;
otherwise the operation is called until it succeeds. `links` makes renames that never replace fail as they do on NFS.
`drip` makes each write(2) take three bytes. `limit=N` lets files grow to N bytes only, until that has failed once.
`seal` copies messages of other accounts. `few` lets recovery settle one orphan at a time. `unsynced` takes each message
for one that its producer has not synced. `cold` leaves it to the operation to open the parts of the queue.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import json
import os
import resource
import sys

sys.path.insert(0, sys.argv[1])

from piperkit import crashwalk
from piperkit.dirq import DirectoryQueue, fs, layout, recovery, sync
from piperkit.errors import LeftAlone, NotClaimed, QueueError
from piperkit.message import Failure

OLD = b"old " * 1500 + b"end"
NEW = b"new " * 2500 + b"end"
#: The operation begins after this path was asked to be removed, and is over when this name in ROOT was.
MARK, END = "/crash-walk-begins-here", "crash-walk-ends-here"

failures: list[str] = []
left = []
root = far = ""
options: list[str] = []
queue: DirectoryQueue


def path(name):
    return os.path.join(root, name)


def attempt(call, held=None):
    """Call it until it succeeds; after each failure what is claimed has to be so still, and whole."""
    for _ in range(4):
        try:
            return call()
        except LeftAlone:
            left.append(held)
            return None
        except NotClaimed:
            raise
        except (OSError, QueueError) as error:
            failures.append(f"{type(error).__name__}: {error}")
        if "give-up" in options:
            os._exit(0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if held is not None:
            assert held in queue.claimed(), f"not claimed any more after {failures}"
            if not queue._held[held].settled:  # else it has moved on, and only the disk may not know
                assert queue.read(held) in (OLD, NEW, b"beside"), f"torn after {failures}"
    raise SystemExit(f"never succeeded: {failures}")


def remove(name):
    with contextlib.suppress(OSError):
        os.unlink(name)


def mark():
    if "cold" not in options:
        for part in layout.PARTS:
            getattr(queue._store.parts, part)
    remove(MARK)
    for option in options:
        if option.startswith("limit="):
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(option[6:]), resource.RLIM_INFINITY))


def descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


def work(call):
    """Claim the oldest message, read it, and do `call` with it: that alone is walked through."""
    id = queue.claim()[0].id
    queue.read(id)
    mark()
    attempt(lambda: call(id), id)


def claim():
    mark()
    while not queue.claimed():
        attempt(lambda: queue.claim(2))


def work_on_a_full_disk():
    """Neither the list of claims nor what is begun can be written down."""
    mark()
    while not queue.claimed():
        attempt(lambda: queue.claim(2))
    for id in queue.claimed():
        attempt(lambda id=id: queue.read(id), id)
        if id in queue.claimed():
            attempt(lambda id=id: queue.commit(id), id)


def read_one():
    id = queue.claim()[0].id
    mark()
    attempt(lambda: queue.read(id))


def make():
    mark()
    attempt(lambda: DirectoryQueue(path("made/queue"), perms=0o770).close())


def batch():
    first, second = (claim.id for claim in queue.claim(2))
    queue.read(first)
    queue.read(second)
    mark()

    def call():
        with queue.batch():
            # What a batch has done stays done when its end fails: only what is still held is done again.
            if first in queue.claimed():
                queue.commit(first, NEW)
            if second in queue.claimed():
                queue.commit(second)

    attempt(call)


def close():
    queue.read(queue.claim(2)[0].id)
    mark()
    attempt(queue.close)


def recover():
    mark()
    attempt(queue.recover)  # what fails for one message is not raised
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    while attempt(queue.recover):
        pass


def plain(call):
    mark()
    attempt(call)


def die():
    """Die at work on the oldest message, with all the others claimed."""
    queue.read(queue.claim(9)[0].id)
    os._exit(0)


failure = Failure("it did not work", "ValueError")
OPERATIONS = {
    "make": make,
    "enqueue": lambda: plain(lambda: queue.enqueue(NEW)),
    "enqueue_many": lambda: plain(lambda: queue.enqueue_many([NEW, NEW])),
    "enqueue_file": lambda: plain(lambda: queue.enqueue_file(path("file"), "named")),
    "claim": claim,
    "work_on_a_full_disk": work_on_a_full_disk,
    "read": read_one,
    "requeue": lambda: work(queue.requeue),
    "update": lambda: work(lambda id: queue.update(id, NEW)),
    "commit": lambda: work(queue.commit),
    "commit_changed": lambda: work(lambda id: queue.commit(id, NEW)),
    "cancel": lambda: work(queue.cancel),
    "banish": lambda: work(lambda id: queue.banish(id, failure)),
    "retry": lambda: work(lambda id: queue.retry(id, 0, failure)),
    "dispatch": lambda: work(lambda id: queue.dispatch(id, path("other"))),
    "dispatch_changed": lambda: work(lambda id: queue.dispatch(id, path("other"), NEW)),
    "dispatch_far_changed": lambda: work(lambda id: queue.dispatch(id, far, NEW)),
    "duplicate": lambda: work(lambda id: queue.duplicate(id, path("other"))),
    "duplicate_far": lambda: work(lambda id: queue.duplicate(id, far)),
    "batch": batch,
    "close": close,
    "recover": recover,
    "die": die,
}


def main(arguments):
    global root, far, options, queue  # noqa: PLW0603 - a run is a process, whose state they are
    root, far, operation, *options = arguments
    if "links" in options:

        def renameat2(*_):
            ctypes.set_errno(errno.EINVAL)
            return -1

        fs._libc.renameat2 = renameat2
    # Else it would depend on what the kernel has written by now.
    sync.Syncer.is_synced = lambda *_: "unsynced" not in options
    if "few" in options:
        recovery.ORPHANS_MAX = 1
    if "drip" in options:
        os_write = os.write
        os.write = lambda fd, data: os_write(fd, bytes(data[:3]))

    settings = dict(option.split("=") for option in options if "=" in option)
    next_queue = {"none": None, "far": far, "next": path("next")}[settings.get("next", "next")]
    limit = int(settings.get("crash_limit", 3))
    before = descriptors()
    queue = DirectoryQueue(
        path("in"), next_queue=next_queue, orphan_age=0, crash_limit=limit, min_free=0, seal="seal" in options
    )
    OPERATIONS[operation]()
    remove(path(END))
    attempt(queue.close)
    after = descriptors()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    leaked = [target for name, target in after.items() if name not in before]
    print(json.dumps({"failures": failures, "leaked": leaked, "left": bool(left)}))


gc.freeze()  # or each run copies all of this, as it looks for cycles at its end
crashwalk.serve(main)
