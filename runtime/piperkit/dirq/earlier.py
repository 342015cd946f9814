"""What instances of 0.4 and before have left in a queue, or still do there.

Each had a hidden record in `state`, locked while it lived: the names of what it worked on with slashes between, and two
at the end. Their claims were locked files in `pending`; those of the dead look as a foreign program's do now.
"""

from __future__ import annotations

import os

from piperkit import naming
from piperkit.dirq import fs
from piperkit.dirq.fs import Directory
from piperkit.dirq.reading import Unreadable, read_small
from piperkit.errors import QueueInUse


def accused(state: Directory) -> dict[str, str]:
    """What dead instances were working on, and their records. Raises QueueInUse for a living one."""
    found: dict[str, str] = {}
    for name in records(state):
        try:
            fd = state.open(name)
        except OSError:
            continue
        try:
            data = read_small(state, name)  # whoever else could write there once is not an instance
            if not fs.try_lock(fd):
                pid = name.split(".")[3]
                raise QueueInUse(
                    int(pid),
                    f"an instance of piperkit 0.4 or older, with pid {pid}, works on {os.path.dirname(state.path)}:"
                    " stop it first; the two cannot share a queue",
                )
            found |= {os.fsdecode(each): name for each in data.partition(b"//")[0].split(b"/") if each}
        except (FileNotFoundError, Unreadable):
            continue
        finally:
            fs.release(fd)
    return found


def records(state: Directory) -> list[str]:
    """The names of their records."""
    with state.entries() as entries:
        return [entry.name for entry in fs.regular(entries) if is_record(entry.name)]


def is_record(name: str) -> bool:
    """Whether a file in `state` is one, by its name."""
    return name.startswith(".") and naming.is_ours(name[1:]) is not None
