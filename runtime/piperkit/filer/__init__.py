"""The filer component: it claims messages, has them processed, and does to the queue what the components say.

All that it knows of the queue is `piperkit.queue.Queue`. Its parts:

- `claims`: what this instance holds, and what is next;
- `waiting`: what makes it pause, and what waits meanwhile;
- `room`: the room in the output queue, and in the queues that messages name;
- `doorbell`: when to look for messages;
- `window`: what becomes durable together;
- `housekeeping`: recovery, and the dead letters;
- `operations`: the table of what can be done to a message; `faults`: whose trouble it is if that fails;
- `desk`: does it; `intake`: claims; `component`: the events of the contract, and the daemon's turns.
"""

from piperkit.filer.component import FilerDaemonComponent

__all__ = ["FilerDaemonComponent"]
