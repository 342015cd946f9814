"""The floor of Python: the system calls of floor.c, and of a changed message, from a loop with nothing around it.

What our daemon takes beyond it is the price of its events, statistics and checks; what this takes beyond floor.c is
that of calling the kernel from Python. Names are written down and moved to `pending` by descriptors of the directories,
32 at a time; then each message is opened and read, and deleted or moved. `--work json` has the component's own work
done, and what a move of new contents takes that is made once, whatever dies: written in `tmp`, moved to `outgoing`, and
only then to the output queue. See `stopwatch`.
"""

from __future__ import annotations

import os
from typing import Any

import orjson

from piperkit.dirq.fs import OPEN_MESSAGE, rename_exclusive
from stopwatch import Stopwatch, arguments

BATCH = 32


def part(queue: str, name: str) -> int:
    return os.open(os.path.join(queue, name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def drain(options: Any) -> None:
    os.makedirs(os.path.join(options.queue, "outgoing"), exist_ok=True)
    incoming, pending, tmp, outgoing = (
        part(options.queue, name) for name in ("incoming", "pending", "tmp", "outgoing")
    )
    target = part(options.out, "incoming") if options.out else -1
    watch = Stopwatch(options.count)
    watch.ready()
    names = sorted(os.listdir(incoming))[: options.count]
    lease = os.open("floor", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=tmp)
    for start in range(0, len(names), BATCH):
        claims = names[start : start + BATCH]
        os.pwrite(lease, "/".join(claims).encode(), 0)
        for name in claims:
            rename_exclusive(name, name, incoming, pending)
        for name in claims:
            fd = os.open(name, OPEN_MESSAGE, dir_fd=pending)
            stat = os.fstat(fd)
            data = os.read(fd, stat.st_size + 1)
            os.close(fd)
            if options.work == "json":
                new = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=tmp)
                os.fchmod(new, stat.st_mode & 0o666)
                os.write(new, orjson.dumps({**orjson.loads(data), "seen": True}))
                os.utime(new, ns=(stat.st_atime_ns, stat.st_mtime_ns))
                rename_exclusive(name, name, tmp, outgoing)
                os.unlink(name, dir_fd=pending)
                rename_exclusive(name, name, outgoing, target)
                os.close(new)
            elif target >= 0:
                rename_exclusive(name, name, pending, target)
            else:
                os.unlink(name, dir_fd=pending)
            watch.lap()
    watch.report()


if __name__ == "__main__":
    drain(arguments())
