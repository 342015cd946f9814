"""The run log: one JSON file for each run of a daemon, written on `save_runlog`, on SIGUSR1 and at the end."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import socket
import time
from typing import Any

from piperkit.dirq import fs

#: Found out while importing: after a chroot, or as another user, the packages may be out of reach.
VERSIONS = {
    "python": platform.python_version(),
    "piperkit": importlib.metadata.version("piperkit"),
    "pyzenkit": importlib.metadata.version("pyzenkit"),
}


class RunLog:
    """What is known about this run."""

    def __init__(self, directory: str, name: str, start: float) -> None:
        moment = datetime.datetime.fromtimestamp(start, datetime.UTC)
        self.path = os.path.join(directory, f"{name}.{moment:%Y%m%dT%H%M%SZ}.{os.getpid()}.json")
        self._facts = {
            "name": name,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "start": moment.isoformat(timespec="seconds"),
            "versions": VERSIONS,
        }

    def save(self, *, rc: int, errors: list[str], statistics: dict[str, Any]) -> None:
        """Write the file, whole or not at all. Raises OSError."""
        now = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
        facts = {**self._facts, "saved": now.isoformat(timespec="seconds"), "rc": rc, "errors": errors}
        write_json(self.path, {**facts, "statistics": statistics})


def write_json(path: str, data: dict[str, Any]) -> None:
    """Replace a file by JSON, atomically; what JSON has no form for is written as text. Raises OSError."""
    text = json.dumps(data, indent=2, sort_keys=True, default=str) + "\n"
    replace_file(path, text.encode("utf-8", "backslashreplace"))


def replace_file(path: str, data: bytes, *, public: bool = False) -> None:
    """Replace a file, atomically. Others can read it only if it is `public`, whatever the umask. Raises OSError."""
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        if public:
            os.fchmod(fd, 0o644)
        fs.write_all(fd, data)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    finally:
        os.close(fd)
