"""What `piperctl doctor` looks at in a queue. Nothing here changes a queue but a finding's `fix`.

Parts are looked at by descriptor, and no link is followed: whoever could change an older queue may have put one there.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import grp
import os
import stat
import time
from collections.abc import Iterator
from shlex import quote

from piperkit.daemon.process import Identity, account_name
from piperkit.dirq import DirectoryQueue, earlier, ensure_queue, fs, layout, pausing
from piperkit.dirq import litter as rules_of_litter
from piperkit.dirq import orphans as rules_of_orphans
from piperkit.dirq.fs import Directory
from piperkit.dirq.limits import MIB, room
from piperkit.dirq.reading import ASIDE
from piperkit.doctor.finding import Finding
from piperkit.doctor.subjects import DEFAULTS, Queue
from piperkit.errors import QueueInUse
from piperkit.operating import HOLDING

_DEAD_LETTER_DAYS = 30


class _Nothing(Directory):
    """A part that is not there: it holds nothing."""

    def __init__(self, path: str) -> None:
        self.path, self.fd = path, -1

    @contextlib.contextmanager
    def entries(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        yield iter(())

    def stat(self, name: str) -> None:
        return None


class _Parts(layout.Parts):
    """The directories of a queue as they are, whoever they belong to. None is made."""

    def __getattr__(self, part: str) -> Directory:
        if part not in layout.PARTS:
            raise AttributeError(part)
        path = f"{self.path}/{part}"
        try:
            found = Directory(path, Directory(self.path))
        except FileNotFoundError:
            found = _Nothing(path)
        setattr(self, part, found)
        return found

    def there(self) -> dict[str, Directory]:
        """Those that there are, by name."""
        return {part: found for part in layout.PARTS if (found := getattr(self, part)).fd >= 0}


def exists(queue: Queue) -> Iterator[Finding]:
    """The queue is there, with all parts of the protocol, and each is a directory."""
    missing, in_the_way = [], False
    if os.path.isdir(queue.path):
        for part in layout.PARTS:
            path = f"{queue.path}/{part}"
            if os.path.islink(path):
                in_the_way = True
                words = f"it is a link, to {os.readlink(path)}; a part of a queue must be a directory"
                yield Finding(path, words, f"rm {quote(path)} && {queue.again}")  # what is behind it stays there
            elif not os.path.lexists(path):
                missing += [part] if part in layout.PROTOCOL else []
            elif not os.path.isdir(path):
                in_the_way = True
                words = "it is not a directory, as a part of a queue must be"
                yield Finding(path, words, f"mv -nT {quote(path)} {quote(f'{queue.path}.{part}')} && {queue.again}")
        words = f"it has no directory {', '.join(missing)}"
    else:
        missing, words = ["all"], "there is no such directory"
    if missing == ["all"] and queue.account is None and os.geteuid() == 0:
        # Made as root's, it would be of no use to a daemon with an account of its own.
        command = f"piperctl queue create --user ${{ACCOUNT:?of its daemon}} {quote(queue.path)}"
        yield Finding(queue.path, words, command)
    elif missing:
        yield Finding(queue.path, words, queue.again, fix=None if in_the_way else lambda: _make(queue))


def _perms(queue: Queue) -> int:
    perms: int = DEFAULTS["queue_in_perms"] if queue.perms is None else queue.perms
    return perms


def _make(queue: Queue) -> None:
    owner = queue.account.owner if queue.account is not None and os.geteuid() == 0 else None
    is_new = not os.path.isdir(queue.path)
    ensure_queue(queue.path, _perms(queue), owner)
    if is_new and owner is not None:
        os.chown(queue.path, 0, 0, follow_symlinks=False)  # as systemd-tmpfiles(8) makes it for a unit


def owner_and_mode(queue: Queue) -> Iterator[Finding]:
    """The queue is its account's alone, but for the parts where others may put messages."""
    account = queue.account or Identity()
    uid, gid = account.owner
    if uid == -1:
        uid = os.stat(queue.path).st_uid
    for part, directory in {"": Directory(queue.path), **_Parts(queue.path).there()}.items():
        path, found = directory.path, os.fstat(directory.fd)
        mode = stat.S_IMODE(found.st_mode)
        wanted = _wanted_mode(queue, part, mode)
        ours = found.st_uid == uid or (found.st_uid == 0 and not part)
        words = f"it has the mode {mode:o}, and must have {wanted:o}"
        if not ours:
            words = f"it belongs to uid {found.st_uid}, and not to uid {uid}, who works on the queue"
            if found.st_uid != 0:
                # Who is that, and what is in it? Only a human knows.
                yield Finding(path, words, f"chown --no-dereference {uid} {quote(path)} && {queue.again}")
                continue
        elif mode == wanted:
            continue
        elif part in layout.SHARED and mode & ~wanted & 0o002:
            words = f"everybody may write there: it has the mode {mode:o}"  # which may be meant so
            yield Finding(path, words, f"chmod {wanted:o} {quote(path)}")
            continue
        if os.geteuid() == 0 or (ours and os.geteuid() == found.st_uid):
            fix = functools.partial(_correct, directory, wanted, None if ours else (uid, gid))
            yield Finding(path, words, queue.again, fix=fix)
        else:
            yield Finding(path, words, f"sudo {queue.again}")


def _wanted_mode(queue: Queue, part: str, mode: int) -> int:
    """The mode that a part of this mode is to have; the queue itself, named "", and what is not configured may differ
    where that does no harm.
    """
    if not part:
        return mode if mode & 0o700 == 0o700 and not mode & 0o022 else layout.QUEUE_MODE
    return layout.part_mode(part, 0o700 | mode & 0o777 if queue.perms is None else queue.perms)


def _correct(directory: Directory, mode: int, owner: tuple[int, int] | None) -> None:
    """Give a directory this mode and owner: the very one that was looked at."""
    if owner is not None:
        os.chown(".", *owner, dir_fd=directory.fd)
    os.chmod(".", mode, dir_fd=directory.fd)


def delivery(queue: Queue) -> Iterator[Finding]:
    """Whoever delivers into the queue may put messages there."""
    if queue.producer is None or queue.producer.uid in (-1, 0):
        return
    uid = queue.producer.uid
    for part, directory in _Parts(queue.path).there().items():
        found = os.fstat(directory.fd)
        shift = 6 if found.st_uid == uid else 3 if found.st_gid in queue.producer.groups else 0
        if part in layout.SHARED and found.st_mode >> shift & 3 != 3:
            try:
                group = grp.getgrgid(found.st_gid).gr_name
            except KeyError:
                group = str(found.st_gid)
            yield Finding(
                directory.path,
                f"uid {uid} delivers into it, and may not write there: it belongs to uid {found.st_uid}, group {group},"
                f" mode {stat.S_IMODE(found.st_mode):o}",
                f"usermod --append --groups {quote(group)} {quote(account_name(uid) or str(uid))}",
            )
            return


def one_file_system(queue: Queue) -> Iterator[Finding]:
    """A message can be renamed from part to part and on to the next queue: it is tried."""
    parts = _Parts(queue.path)
    targets = [found for part, found in parts.there().items() if part in HOLDING]
    if queue.next_queue:
        with contextlib.suppress(OSError):  # which is said of that queue
            targets.append(Directory(f"{queue.next_queue}/tmp", Directory(queue.next_queue)))
    probe = f".piperctl-doctor-{os.getpid()}"  # a name with a dot is not a message
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parts.tmp.fd))
    except OSError as error:
        if error.errno in fs.NO_ROOM:
            return  # which is another check's
        raise
    try:
        for target in targets:
            try:
                parts.tmp.rename(probe, target, probe)
                target.rename(probe, parts.tmp, probe)
            except FileNotFoundError:
                return  # somebody has removed it
            except OSError as error:
                if error.errno == errno.EXDEV:
                    yield _apart(queue, target.path)
                elif not isinstance(error, PermissionError):
                    raise
    finally:
        parts.tmp.remove(probe)


def _apart(queue: Queue, target: str) -> Finding:
    if target.startswith(queue.path + os.sep):
        words = "it is on another file system than its queue, so messages cannot be moved there"
        return Finding(target, words, f"umount {quote(target)}")
    following = os.path.dirname(target)
    place = quote(os.path.join(os.path.dirname(queue.path), os.path.basename(following)))
    return Finding(
        following,
        f"this output queue is on another file system than {queue.path}: messages are copied, and may come twice",
        f"mv -nT {quote(following)} {place} && ln -s {place} {quote(following)}  # while nobody works on it",
    )


def orphans(queue: Queue) -> Iterator[Finding]:
    """No message is claimed by a process that is dead, and no instance of an earlier version is at work."""
    parts = _Parts(queue.path)
    try:
        accused = earlier.accused(parts.state)
    except QueueInUse as error:
        yield Finding(queue.path, str(error), f"kill {error.pid}")
        return
    found = rules_of_orphans.find(parts, (), "", rules_of_orphans.Ages(queue.orphan_age, time.time_ns), accused)
    if count := len(found.orphans) + len(found.outgoing):
        words = f"{count} of its messages {'is' if count == 1 else 'are'} claimed by a process that is dead"
        if found.outgoing and not queue.knows_next:
            yield Finding(queue.path, f"{words}, and only their daemon knows where they go", "start the daemon")
        else:
            yield Finding(queue.path, words, queue.again, fix=lambda: recover(queue))


def litter(queue: Queue) -> Iterator[Finding]:
    """There is nothing in the queue that nobody will ever want."""
    parts = _Parts(queue.path)
    now, age = time.time_ns(), queue.orphan_age
    tmp = [name for name in _files(parts.tmp) if rules_of_litter.is_litter_of_tmp(parts.tmp, name, now, age)]
    state = [name for name in _files(parts.state) if rules_of_litter.is_litter_of_state(parts, name, now, age)]
    if left := [*map(parts.tmp.at, tmp), *map(parts.state.at, state)]:
        words = f"{len(left)} file{'s are' if len(left) > 1 else ' is'} left behind, such as {left[0]}"
        if not queue.knows_next and parts.outgoing.names(1):
            yield Finding(queue.path, words, "start the daemon", warning=True)
        else:
            yield Finding(queue.path, words, queue.again, fix=lambda: recover(queue))
    with parts.incoming.entries() as entries:
        for entry in entries:
            if not entry.is_file(follow_symlinks=False) and not entry.name.startswith("."):
                directory = entry.is_dir(follow_symlinks=False)
                kind = "a link" if entry.is_symlink() else "a directory" if directory else "no regular file"
                path, aside = parts.incoming.at(entry.name), f"{queue.path}.{fs.display(entry.name)}"
                words = f"it is {kind}, and so no message: it stays there for ever"
                yield Finding(path, words, f"mv -nT {quote(path)} {quote(aside)}")


def _files(directory: Directory) -> list[str]:
    with directory.entries() as entries:
        return [entry.name for entry in fs.regular(entries)]


def recover(queue: Queue) -> None:
    """Do what the queue's daemon does at its start."""
    with DirectoryQueue(
        queue.path, next_queue=queue.next_queue, orphan_age=queue.orphan_age, perms=_perms(queue)
    ) as found:
        while found.recover().again == 0:
            pass  # it does a bounded part at a time


def unreadable(queue: Queue) -> Iterator[Finding]:
    """No record of a message, and no reason of a dead letter, was moved aside since nobody can read it."""
    parts = _Parts(queue.path)
    for directory in (parts.state, parts.errors):
        with directory.entries() as entries:
            aside = sorted(entry.name for entry in entries if entry.name.startswith(ASIDE))
        if aside:
            words = f"{len(aside)} unreadable file{'s were' if len(aside) > 1 else ' was'} moved aside: {aside[0]}"
            command = f"find {quote(directory.path)} -name {quote(ASIDE + '*')} -exec rm -r {{}} +"
            yield Finding(directory.path, words, f"{command}  # when you have looked at what they were")


def pause(queue: Queue) -> Iterator[Finding]:
    """No operator has paused the queue."""
    paused = pausing.paused(queue.path)
    if paused is not None:
        yield Finding(queue.path, str(paused), f"piperctl queue resume {quote(queue.path)}", warning=True)


def space(queue: Queue) -> Iterator[Finding]:
    """There is room for messages, in bytes and in files."""
    free, keep = room(queue.path, queue.min_free)
    found = os.statvfs(queue.path)
    if found.f_files and found.f_favail < 1000:
        free, keep, words = 0, 1, f"its file system has room for {found.f_favail} more files"
    else:
        words = f"{free // MIB} MiB are free, and queue_min_free keeps {keep // MIB} MiB: no message can be written"
    if free < keep:
        errors = _Parts(queue.path).errors
        age = time.time() - _DEAD_LETTER_DAYS * 86400
        if any(there.st_mtime < age for name in _files(errors) if (there := errors.stat(name))):
            command = f"find {quote(errors.path)} -type f -mtime +{_DEAD_LETTER_DAYS} -delete  # dead letters"
        else:
            command = f"du -ax {quote(queue.path)} | sort -n | tail  # what to make room with"
        yield Finding(queue.path, words, command)


#: The first of them finds whether there is anything to look at.
QUEUE_CHECKS = (
    ("queue", exists),
    ("owner and mode", owner_and_mode),
    ("delivery", delivery),
    ("one file system", one_file_system),
    ("orphans", orphans),
    ("litter", litter),
    ("unreadable", unreadable),
    ("free space", space),
    ("pause", pause),
)
