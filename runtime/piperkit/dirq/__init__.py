"""A queue that is a directory: the filer protocol, after Postfix, with nothing but the standard library.

Layout of a queue:

    QUEUE/tmp/        messages that are being written
    QUEUE/incoming/   complete messages, one regular file each
    QUEUE/pending/    messages that an instance has claimed
    QUEUE/errors/     messages that could not be processed, each with NAME.meta (JSON: why) beside it

and, beside these four that any other program may know too:

    QUEUE/deferred/   messages that failed and wait for their next attempt
    QUEUE/outgoing/   changed messages on their way to the next queue
    QUEUE/state/      a small file for each message with a history
    QUEUE/instances/  a small file for each instance, locked while it lives, that lists what it has claimed

Guarantees: a message is seen whole or not at all, and no operation ever replaces another message. A claim is a
rename from `incoming` to `pending`, announced in the instance's file before. The kernel ends the lock on that file
with the process, so what a dead instance had claimed is given back, and what a living one has claimed is never
touched, however slow it is. A message is delivered at least once; its move within a file system happens exactly once.

Whoever may enqueue may do no more than that: the modes in `layout` see to it.

Anything in `incoming` that is not a regular file, or whose name begins with a dot, is left alone and reported once.
"""

from piperkit.dirq.directory_queue import DirectoryQueue
from piperkit.dirq.layout import ensure_queue, is_queue
from piperkit.dirq.sync import Sync

__all__ = ["DirectoryQueue", "Sync", "ensure_queue", "is_queue"]
