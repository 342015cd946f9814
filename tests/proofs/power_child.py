"""The pipeline whose power is cut: two processes that produce, one that works.

    python -I -S power_child.py RUNTIME produce|produce_foreign|work SYNC IN NEXT

Each id is reported on standard output, which is not part of the failing file system, and only when the queue has said
that it is done: `enqueue` has returned, or the block of the batch has ended. `produce_foreign` knows no more than the
protocol, and syncs nothing; what it has written is reported by `work` only. All end with the first error: the power is
gone.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import sys

runtime, role, sync, path, next_path = sys.argv[1:]
sys.path.insert(0, runtime)

from piperkit.dirq import DirectoryQueue, Sync  # noqa: E402
from piperkit.errors import QueueError  # noqa: E402

BATCH = 8


def sealed(text):
    """Contents that show whether they are whole: their checksum comes first."""
    body = text.encode()
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def report(*words):
    os.write(1, (" ".join(words) + "\n").encode())


def texts():
    """Of a few bytes, of some blocks, and of many."""
    chance = random.Random(os.getpid())
    for number in itertools.count():
        yield number, f"{number} " * chance.choice((1, 1000, 20000))


def produce(queue):
    for number, text in texts():
        report("enqueued", queue.enqueue(sealed(text)))
        if number % 16 == 15:
            with queue.batch():
                ids = [queue.enqueue(sealed(f"{number} in a batch {index}")) for index in range(BATCH)]
            for id in ids:
                report("enqueued", id)


def produce_foreign(queue):
    for number, text in texts():
        name = f"foreign-{number}"
        with open(f"{path}/tmp/{name}", "wb") as file:
            file.write(sealed(text))
        os.rename(f"{path}/tmp/{name}", f"{path}/incoming/{name}")
        while os.path.exists(f"{path}/incoming/{name}"):  # no more of them than of the others
            os.sched_yield()


def work(queue):
    while True:
        claims = queue.claim(BATCH)
        if not claims:
            os.sched_yield()
            continue
        with queue.batch():
            for index, claim in enumerate(claims):
                contents = queue.read(claim.id)
                changed = sealed("changed: " + contents.partition(b"\n")[2].decode()) if index % 2 else None
                queue.commit(claim.id, changed)
        for claim in claims:
            report("done", claim.id)


queue = DirectoryQueue(path, next_queue=next_path if role == "work" else None, sync=Sync(sync), min_free=0)
try:
    {"produce": produce, "produce_foreign": produce_foreign, "work": work}[role](queue)
except (OSError, QueueError):
    pass
