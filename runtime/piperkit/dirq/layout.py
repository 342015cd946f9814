"""The directories of a queue: what they are, how they are made, and how messages in them are found."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator

from piperkit.dirq import deadletters
from piperkit.errors import QueueMissing

#: The filer protocol's own.
PROTOCOL = ("tmp", "incoming", "pending", "errors")
#: Our additions: messages that wait for their next attempt, changed messages on their way to the next queue,
#: and a small file for each message with a history and for each instance (see `records`).
ADDED = ("deferred", "outgoing", "state")
#: Where a message can be, in the order it usually passes through them.
HOLDING = ("incoming", "pending", "deferred", "outgoing", "errors")


#: The mode of a directory that is being made: nobody else's yet, and by the sticky bit told from one made so.
_UNFINISHED = 0o1700


def file_mode(perms: int) -> int:
    """The mode of files in a queue whose directories have mode `perms`: the same without execution."""
    return perms & 0o666


def ensure_directory(path: str, perms: int, owner: tuple[int, int] | None) -> bool:
    """Make a directory with exactly this mode and owner (uid, gid); one that exists is left as it is.

    Returns whether it was made. Raises QueueMissing if it cannot be.
    """
    try:
        os.mkdir(path, _UNFINISHED)
    except FileExistsError:
        if not os.path.isdir(path):
            raise QueueMissing(f"{path} is in the way: a queue's part must be a directory") from None
        if not _is_unfinished(path):
            return False
    except OSError as error:
        raise QueueMissing(f"cannot make the directory {path}: {error.strerror}") from error
    # By descriptor: whoever may write in the parent could have put a link here by now.
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if owner is not None:
            os.fchown(fd, *owner)
        os.fchmod(fd, perms)
    finally:
        os.close(fd)
    return True


def _is_unfinished(path: str) -> bool:
    """Whether a directory's maker died before it had its mode and owner, and we may finish it."""
    found = os.stat(path, follow_symlinks=False)
    # The set-group-id bit is inherited.
    unfinished = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) & ~stat.S_ISGID == _UNFINISHED
    return unfinished and os.geteuid() in (0, found.st_uid)


def ensure_queue(path: str, perms: int, owner: tuple[int, int] | None = None) -> None:
    """Make what is missing of a queue, its parents included. Idempotent, and safe side by side.

    Raises QueueMissing where it cannot be made, or is there but not writable for us.
    """
    missing = []
    parent = path
    while not os.path.lexists(parent) or _is_unfinished(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    for directory in [*reversed(missing), *(os.path.join(path, part) for part in PROTOCOL + ADDED)]:
        ensure_directory(directory, perms, owner)
    for part in PROTOCOL + ADDED:
        directory = os.path.join(path, part)
        if os.geteuid() != 0 and not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
            raise QueueMissing(
                f"{directory} is not writable for uid {os.geteuid()}: correct its owner or mode,"
                " or run the daemon as its owner"
            )


def is_queue(path: str) -> bool:
    """Whether the filer protocol's directories are there."""
    return all(os.path.isdir(os.path.join(path, part)) for part in PROTOCOL)


def regular_files(directory: str) -> Iterator[os.DirEntry[str]]:
    """The regular files in a directory, in no order; links are not followed."""
    with os.scandir(directory) as entries:
        for entry in entries:
            try:
                if entry.is_file(follow_symlinks=False):
                    yield entry
            except FileNotFoundError:
                continue  # moved on meanwhile, on a file system whose listing does not tell kinds


def message_names(queue: str, part: str) -> set[str]:
    """The names of the messages in one part of a queue; an addition that is not there holds none.

    Raises QueueMissing where a part of the protocol is missing.
    """
    try:
        names = {entry.name for entry in regular_files(os.path.join(queue, part))}
    except (FileNotFoundError, NotADirectoryError):
        _missing(queue, part)
        return set()
    if part == "errors":
        return deadletters.messages(names)
    return {name for name in names if not name.startswith(".")}


def count_messages(queue: str, part: str, most: int | None = None) -> int:
    """The number of messages in one part of a queue, in no memory to speak of; counted up to `most`.

    Raises as `message_names`.
    """
    if part == "errors":
        return len(message_names(queue, part))
    try:
        found = (entry for entry in regular_files(os.path.join(queue, part)) if not entry.name.startswith("."))
        return sum(1 for _ in itertools.islice(found, most))
    except (FileNotFoundError, NotADirectoryError):
        _missing(queue, part)
        return 0


def _missing(queue: str, part: str) -> None:
    """A part is not there. Raises QueueMissing where every queue has it."""
    if part not in ADDED:
        raise QueueMissing(f"{queue} is not a queue: it has no directory {part!r}") from None
