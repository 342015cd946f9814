"""litequeue: rows of an SQLite database that are popped and then marked as done. See `stopwatch`."""

from __future__ import annotations

import os

from litequeue import LiteQueue

from stopwatch import Stopwatch, arguments

options = arguments()
os.makedirs(options.queue, exist_ok=True)
queue = LiteQueue(os.path.join(options.queue, "messages.db"))
watch = Stopwatch(options.count)
watch.ready()
while watch.messages < options.count:
    if options.verb == "enqueue":
        queue.put("x" * options.size)
    else:
        message = queue.pop()
        assert message is not None
        queue.done(message.message_id)
    watch.lap()
watch.report()
