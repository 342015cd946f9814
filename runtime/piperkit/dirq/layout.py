"""The directories of a queue: what they are, who may do what in them, how they are made, opened and counted.

    the queue           0755    the daemon's account, or root where systemd made it
    tmp, incoming       3770    producers: the queue's group may make files there, and nobody a file of somebody else's
    all others          0700    the daemon's account alone

`perms` is what is configured of that: the mode of `tmp` and `incoming`, and of message files without execution.
Producers, and daemons that deliver into the queue, need `tmp` and `incoming` only.
"""

from __future__ import annotations

import itertools
import os
import stat
import time
from collections.abc import Iterable, Iterator

from piperkit.dirq import deadletters, fs
from piperkit.dirq.fs import Directory
from piperkit.errors import QueueMissing

#: The filer protocol's own.
PROTOCOL = ("tmp", "incoming", "pending", "errors")
#: Our additions: messages that wait for their next attempt, changed messages on their way to the next queue, those that
#: an operator holds back, what is known about messages (`records`), who works on the queue (`instances`), and what
#: became of messages (`journal`).
ADDED = ("deferred", "outgoing", "hold", "state", "instances", "history")
PARTS = PROTOCOL + ADDED
#: Where producers write.
SHARED = ("tmp", "incoming")

#: Mode of `tmp` and `incoming` where nothing else is said.
DEFAULT_PERMS = 0o770
#: Mode of a queue's directory, and of parents that are made with it.
QUEUE_MODE = 0o755
#: The mode of a directory that is being made: nobody else's yet, and by the sticky bit told from one made so.
_UNFINISHED = 0o1700
#: Names that are read at once.
_TOGETHER = 1000
#: Seconds between looks whether the parts are where they were.
_LOOK = 1.0


def part_mode(part: str, perms: int) -> int:
    """The mode of a queue's part. Where others may write it gets set-group-id, so that files have the queue's group,
    and sticky, so that nobody can rename or remove a file of somebody else's.
    """
    if part not in SHARED:
        return perms & 0o700
    return perms | 0o3000 if perms & 0o022 else perms


def file_mode(perms: int) -> int:
    """The mode of message files: that of the parts where producers write, without execution."""
    return perms & 0o666


class Parts:
    """The directories of the queue at `path`, each opened where it is needed first, and held open.

    perms, owner: of those of ours that are made where they are missing, see `ensure_queue`.
    A part is an attribute. It raises QueueMissing where it is a link, or no producers' part and belongs to somebody
    else; FileNotFoundError where a part of the protocol is missing.
    """

    def __init__(self, path: str, perms: int = DEFAULT_PERMS, owner: tuple[int, int] | None = None) -> None:
        self.path = path
        self._perms, self._owner = perms, owner
        self._account: int | None = os.geteuid() or None  #: whose the parts have to be; None: root works with any
        self._looked = time.monotonic()

    def __getattr__(self, part: str) -> Directory:
        if part not in PARTS:
            raise AttributeError(part)
        with_path = f"{self.path}/{part}"
        queue = Directory(self.path)
        try:
            try:
                found = Directory(with_path, queue)
            except FileNotFoundError as error:
                if part not in ADDED:
                    error.filename = with_path
                    raise
                ensure_directory(with_path, part_mode(part, self._perms), self._owner)
                found = Directory(with_path, queue)
        except NotADirectoryError:
            raise _in_the_way(with_path) from None
        finally:
            queue.close()
        if part not in SHARED:
            self._check_owner(found)
        setattr(self, part, found)
        return found

    def holds_back(self, name: str) -> bool:
        """Whether an operator holds back a message of that name."""
        # A queue of 0.5 or before lacks it, and in root's directory its daemon cannot make it.
        there = "hold" in vars(self) or os.path.lexists(f"{self.path}/hold")
        return there and self.hold.has(name)

    def _check_owner(self, directory: Directory) -> None:
        """Whoever owns a part can put into it what this process then believes. Root's are as good as our own."""
        owner = os.fstat(directory.fd).st_uid
        if owner not in (0, self._account):
            if self._account is not None:
                raise QueueMissing(
                    f"{directory.path} belongs to uid {owner}, and not to uid {self._account}, who works on the queue:"
                    " correct its owner, or run the daemon as its owner; piperctl doctor says more"
                )
            self._account = owner  # we are root: then all have to be of one account

    def refresh(self, parts: Iterable[str] = PARTS) -> bool:
        """Let go of these parts where their paths lead to other directories by now; returns whether there were any."""
        moved = [part for part in parts if part in vars(self) and not vars(self)[part].is_there()]
        for part in moved:
            delattr(self, part)
        return bool(moved)

    def refresh_sometimes(self) -> None:
        """The same once a second."""
        now = time.monotonic()
        if now >= self._looked + _LOOK:
            self._looked = now
            self.refresh()

    def close(self) -> None:
        """Let go of all of them; one that is needed again is opened again. Idempotent."""
        for part in PARTS:
            if part in vars(self):
                vars(self)[part].close()  # whoever else still knows it
                delattr(self, part)


def ensure_directory(path: str, mode: int, owner: tuple[int, int] | None) -> None:
    """Make a directory with exactly this mode and owner (uid, gid); one that exists is left as it is.

    Raises QueueMissing if it cannot be made.
    """
    try:
        os.mkdir(path, _UNFINISHED)
    except FileExistsError:
        if not _is_unfinished(path):
            return
    except OSError as error:
        raise QueueMissing(f"cannot make the directory {path}: {error.strerror}") from error
    # By descriptor: whoever may write in the parent could have put a link here by now.
    set_mode_and_owner(path, mode, owner)


def set_mode_and_owner(path: str, mode: int, owner: tuple[int, int] | None) -> None:
    """Correct a directory, which is not a link. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if owner is not None:
            os.fchown(fd, *owner)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _is_unfinished(path: str) -> bool:
    """Whether a directory's maker died before it had its mode and owner, and we may finish it."""
    there = os.stat(path, follow_symlinks=False)
    # The set-group-id bit is inherited.
    unfinished = stat.S_ISDIR(there.st_mode) and stat.S_IMODE(there.st_mode) & ~stat.S_ISGID == _UNFINISHED
    return unfinished and os.geteuid() in (0, there.st_uid)


def ensure_queue(path: str, perms: int, owner: tuple[int, int] | None = None) -> None:
    """Make what is missing of a queue, its parents included. Idempotent, and safe side by side.

    perms: mode of `tmp` and `incoming`, see above.
    owner: (uid, gid) of what is made; None: the process's own.
    Raises QueueMissing where it cannot be made, a part is a link, or no message can be put there by us.
    """
    missing = []
    parent = path
    while not os.path.lexists(parent) or _is_unfinished(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    for directory in reversed(missing):
        ensure_directory(directory, QUEUE_MODE, owner)
    if not os.path.isdir(path):
        raise _in_the_way(path)
    # Ours are made only where we may: whoever only enqueues needs none of them.
    ours = os.geteuid() in (0, os.stat(path).st_uid) or os.access(path, os.W_OK, effective_ids=True)
    for part in PARTS if ours else PROTOCOL:
        directory = f"{path}/{part}"
        ensure_directory(directory, part_mode(part, perms), owner)
        if not stat.S_ISDIR(os.stat(directory, follow_symlinks=False).st_mode):
            raise _in_the_way(directory)
        if part in SHARED and not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
            raise QueueMissing(
                f"{directory} is not writable for uid {os.geteuid()}: correct its owner or mode,"
                " or run the daemon as its owner"
            )


def _in_the_way(path: str) -> QueueMissing:
    return QueueMissing(f"{path} is in the way: a queue, and each of its parts, must be a directory, and no link")


def is_queue(path: str) -> bool:
    """Whether the filer protocol's directories are there."""
    return all(os.path.isdir(f"{path}/{part}") for part in PROTOCOL)


def message_names(queue: str, part: str) -> set[str]:
    """The names of the messages in one part of a queue; an addition that is not there holds none.

    Raises QueueMissing where a part of the protocol is missing.
    """
    try:
        with os.scandir(f"{queue}/{part}") as entries:
            names = {entry.name for entry in fs.regular(entries)}
    except (FileNotFoundError, NotADirectoryError):
        _missing(queue, part)
        return set()
    if part == "errors":
        return deadletters.messages(names)
    return {name for name in names if not name.startswith(".")}


def each_message(queue: str, part: str) -> Iterator[str]:
    """The same, in no order, and in no memory to speak of."""
    return itertools.chain.from_iterable(some_messages(queue, part))


def some_messages(queue: str, part: str, together: int = _TOGETHER) -> Iterator[list[str]]:
    """The same, so many files at a time: of a million, each costs half a microsecond."""
    try:
        with os.scandir(f"{queue}/{part}") as entries:
            while some := list(itertools.islice(entries, together)):
                try:
                    visible = [e.name for e in some if e.is_file(follow_symlinks=False) and e.name[0] != "."]
                except FileNotFoundError:  # moved on meanwhile, on a file system whose listing does not tell kinds
                    visible = [e.name for e in fs.regular(iter(some)) if e.name[0] != "."]
                if part == "errors":
                    visible = list(filter(deadletters.is_message(f"{queue}/{part}"), visible))
                yield visible
    except (FileNotFoundError, NotADirectoryError):
        _missing(queue, part)


def count_messages(queue: str, part: str, most: int | None = None) -> int:
    """The number of messages in one part of a queue, in no memory to speak of; counted up to `most`.

    Raises as `message_names`.
    """
    if most is None:
        return sum(map(len, some_messages(queue, part)))
    number = 0
    for some in some_messages(queue, part, max(1, min(most, _TOGETHER))):
        number += len(some)
        if number >= most:
            return most
    return number


def _missing(queue: str, part: str) -> None:
    """A part is not there. Raises QueueMissing where every queue has it."""
    if part not in ADDED:
        raise QueueMissing(f"{queue} is not a queue: it has no directory {part!r}") from None
