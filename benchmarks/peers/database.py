"""`DatabaseQueue` as a library, without a daemon: claim, read and move on, a batch as by default. See `stopwatch`."""

from __future__ import annotations

from piperkit.postgres.database_queue import DatabaseQueue
from stopwatch import Stopwatch, arguments

BATCH = 256

options = arguments()
queue = DatabaseQueue(options.queue, next_queue=options.out)
queue.connect()
watch = Stopwatch(options.count)
watch.ready()
if options.verb == "enqueue":
    queue.enqueue_many(b"x" * options.size for _ in range(options.count))
    for _ in range(options.count):
        watch.lap()
else:
    empty = 0
    while empty < 3:
        claims = queue.claim(BATCH)
        empty = 0 if claims else empty + 1
        with queue.batch():
            for claim in claims:
                queue.read(claim.id)
                queue.commit(claim.id)
        for _ in claims:
            watch.lap()
queue.close()
watch.report()
