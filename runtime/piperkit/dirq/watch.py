"""Being told when a message arrives: inotify(7) on `incoming`, by the library inotify-simple.

Nothing tells of what another machine does in a network file system; there, looking now and then is all there is.
"""

from __future__ import annotations

import os

import inotify_simple

#: File systems, as /proc/self/mountinfo calls them, where another machine's changes are not told.
_REMOTE = ("nfs", "cifs", "smb", "9p", "ceph", "gluster", "lustre", "afs", "fuse.sshfs", "fuse.gluster", "fuse.s3")


class Watch:
    """Readable when something has arrived in a directory. Raises OSError where that cannot be told."""

    def __init__(self, directory: str) -> None:
        kind = file_system(directory)
        if kind.startswith(_REMOTE):
            raise OSError(f"arrivals on {kind} are not told")
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


def file_system(path: str) -> str:
    """The type of the file system that a directory is on; empty where that cannot be found out."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                fields = line.split()
                if fields[2] == wanted:
                    return fields[fields.index("-") + 1]
    except (OSError, ValueError, IndexError):
        pass
    return ""
