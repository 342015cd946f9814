"""dirq 1.8, `QueueSimple`: a file for each message, a lock by a link beside it. It syncs nothing. See `stopwatch`."""

from __future__ import annotations

from dirq.QueueSimple import QueueSimple

from stopwatch import Stopwatch, arguments

options = arguments()
queue = QueueSimple(options.queue)
watch = Stopwatch(options.count)
watch.ready()
if options.verb == "enqueue":
    for _ in range(options.count):
        queue.add(b"x" * options.size)
        watch.lap()
else:
    for name in queue:
        if queue.lock(name):
            queue.get(name)
            queue.remove(name)
            if watch.lap():
                break
watch.report()
