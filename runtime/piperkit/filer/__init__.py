"""The filer component: events in, queue calls out.

It claims messages, a batch at a time, and emits `message_process` for each; the events by which other components say
what becomes of a message come back to it. All that it knows of the queue is `piperkit.queue.Queue`.

A class is made of four, each on top of the one before: what all of them know (`base`), what it waits for (`waiting`),
claiming (`claiming`), and what becomes of messages (`settling`); `component` is the whole.
"""

from piperkit.filer.component import FilerDaemonComponent

__all__ = ["FilerDaemonComponent"]
