"""Messages of another engine, put into a directory queue."""

from __future__ import annotations

import contextlib
import os
import time

from piperkit.dirq import fs, layout
from piperkit.dirq.delivery import explained, part, place
from piperkit.dirq.fs import Directory
from piperkit.errors import QueueMissing, TargetUnavailable
from piperkit.naming import Ids

#: Files that wait to be synced together, each of them open.
_TOGETHER = 200


class DirectoryOutlet:
    """A `piperkit.queue.Outlet` into the queue at `path`. A message that is put there again is there once, if it is
    still in `incoming`.

    The files are written first, and synced and named together, so that the file system brings them to the disk at once.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._ids = Ids()
        self._written: list[tuple[Directory, str, int, str]] = []  #: tmp, the name there, open file, the id

    def put(self, id: str, arrived: float, data: bytes) -> None:
        """See `Outlet`."""
        try:
            tmp = part(self._path, "tmp")
            name, fd = tmp.create(self._ids.new)
            self._written.append((tmp, name, fd, id))
            fs.write_all(fd, data)
            os.fchmod(fd, layout.file_mode(layout.DEFAULT_PERMS))
            # Other engines keep it to a microsecond.
            os.utime(fd, ns=(time.time_ns(), round(arrived * 1e6) * 1000))
            if len(self._written) >= _TOGETHER:
                self.sync()
        except OSError as error:
            self.close()
            raise explained(error, self._path)  # noqa: B904  it has its cause, or is the error itself

    def sync(self) -> None:
        """See `Outlet`."""
        if not self._written:
            return
        try:
            incoming = part(self._path, "incoming")
            for _, _, fd, _ in self._written:
                os.fsync(fd)
            while self._written:
                tmp, name, fd, id = self._written[-1]
                place(tmp, name, os.fstat(fd), incoming, id, self._ids.new, copy_of=fd)
                os.close(self._written.pop()[2])
            incoming.sync()
        except OSError as error:
            self.close()
            raise explained(error, self._path)  # noqa: B904  as above

    def room(self, limit: int) -> int:
        """See `Outlet`."""
        try:
            return limit - layout.count_messages(self._path, "incoming", limit)
        except (QueueMissing, OSError) as error:
            raise TargetUnavailable(str(error)) from error

    def close(self) -> None:
        """What is not synced is not there. Idempotent."""
        while self._written:
            tmp, name, fd, _ = self._written.pop()
            os.close(fd)
            with contextlib.suppress(OSError):
                tmp.remove(name)
