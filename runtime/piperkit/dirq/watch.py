"""Being told when a message may have arrived: inotify(7) on `incoming`, by the library inotify-simple.

What is told is a help, and not the truth. Nothing tells what another machine does in a network file system, or that a
directory above was moved or mounted over. So whoever watches also looks now and then, and renews the watch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from inotify_simple import INotify, flags

#: The directory was removed, moved, or went away with its file system.
_GONE = flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT
#: ATTRIB: a message or the directory has another mode or owner, so what could not be read may be readable now.
_TOLD = flags.MOVED_TO | flags.CREATE | flags.ATTRIB | flags.DELETE_SELF | flags.MOVE_SELF | flags.ONLYDIR


class Watch:
    """Readable when a message may have arrived in a directory, once it is there. Raises OSError if that cannot be told.

    moved: called when the path leads to another directory by now.
    """

    def __init__(self, directory: str, moved: Callable[[], object] = lambda: None) -> None:
        self._directory = directory
        self._moved = moved
        self._inotify = INotify()
        try:
            self._wd = self._inotify.add_watch(directory, _TOLD)
        except FileNotFoundError:
            self._wd = -1
        except BaseException:
            self._inotify.close()
            raise

    def fileno(self) -> int:
        return int(self._inotify.fileno())

    def drain(self) -> None:
        """Read what was told; only that something was told matters."""
        if any(event.mask & _GONE for event in self._inotify.read(timeout=0)):
            self.renew()

    def renew(self) -> bool:
        """Watch the directory that the path leads to now; returns whether that is a different one.

        If there is none, or it cannot be watched, the next call tries again.
        """
        try:
            wd = self._inotify.add_watch(self._directory, _TOLD)
        except OSError:
            return False
        if wd == self._wd:
            return False  # inotify_add_watch(2): the same inode has the same watch descriptor
        old, self._wd = self._wd, wd
        with contextlib.suppress(OSError):
            self._inotify.rm_watch(old)  # gone already if the directory is
        self._moved()
        return True

    def close(self) -> None:
        self._inotify.close()
