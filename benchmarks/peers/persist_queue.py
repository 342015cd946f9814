"""persist-queue, `SQLiteAckQueue`: rows of an SQLite database that are got and then acknowledged. See `stopwatch`."""

from __future__ import annotations

from persistqueue import SQLiteAckQueue

from stopwatch import Stopwatch, arguments

options = arguments()
queue = SQLiteAckQueue(options.queue, auto_commit=True)
watch = Stopwatch(options.count)
watch.ready()
while watch.messages < options.count:
    if options.verb == "enqueue":
        queue.put(b"x" * options.size)
    else:
        queue.ack(queue.get(block=False))
    watch.lap()
watch.report()
