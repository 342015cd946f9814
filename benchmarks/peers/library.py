"""`DirectoryQueue` as a library, without a daemon: of the runtime as it is, or of the earlier one in PYTHONPATH.

It uses only what both of them know. See `stopwatch`.
"""

from __future__ import annotations

import itertools

from piperkit.dirq import DirectoryQueue, Sync
from stopwatch import Stopwatch, arguments

BATCH = 32

options = arguments()
queue = DirectoryQueue(options.queue, sync=Sync(options.sync))
watch = Stopwatch(options.count)
watch.ready()
if options.verb == "enqueue":
    queue.enqueue_many(itertools.repeat(b"x" * options.size, options.count))
    for _ in range(options.count):
        watch.lap()
else:
    while watch.messages < options.count:
        claims = queue.claim(min(BATCH, options.count - watch.messages))
        assert claims
        for claim in claims:
            queue.read(claim.id)
            queue.cancel(claim.id)
            watch.lap()
watch.report()
queue.close()
