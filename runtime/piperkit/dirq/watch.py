"""Being told when a message arrives: inotify(7) on `incoming`, by the library inotify-simple.

Nothing tells of what another machine does in a network file system; there, looking now and then is all there is.
"""

from __future__ import annotations

import inotify_simple

from piperkit.dirq import fs


class Watch:
    """Readable when something has arrived in a directory. Raises OSError where that cannot be told."""

    def __init__(self, directory: str) -> None:
        if fs.is_remote(directory):
            raise OSError(f"arrivals on {fs.file_system(directory)} are not told")
        self._inotify = inotify_simple.INotify()
        try:
            self._inotify.add_watch(directory, inotify_simple.flags.MOVED_TO | inotify_simple.flags.CREATE)
        except BaseException:
            self._inotify.close()
            raise

    def fileno(self) -> int:
        return int(self._inotify.fileno())

    def drain(self) -> None:
        """Read what was told; that something was is all that matters."""
        self._inotify.read(timeout=0)

    def close(self) -> None:
        self._inotify.close()
