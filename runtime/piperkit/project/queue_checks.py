"""What `piperctl doctor` looks at in a queue. Nothing here changes a queue: that is left to the commands it names."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from datetime import datetime
from shlex import quote

from piperkit.dirq import DirectoryQueue, ensure_queue, fs, instances, layout, names, records
from piperkit.dirq.limits import MIB, room
from piperkit.dirq.recovery import LITTER_AGE
from piperkit.dirq.view import QueueView
from piperkit.project.finding import Finding
from piperkit.project.patient import Queue

PARTS = (*layout.PROTOCOL, *layout.ADDED)
#: Seconds by which two clocks may differ.
CLOCK_SLACK = 60.0
_RUNNABLE = 0o770
_DEAD_LETTER_DAYS = 30


def exists(queue: Queue) -> Iterator[Finding]:
    """The queue is there, with all parts of the protocol."""
    missing = [part for part in layout.PROTOCOL if not os.path.isdir(os.path.join(queue.path, part))]
    if missing:
        what = (
            f"it has no directory {', '.join(missing)}" if os.path.isdir(queue.path) else "there is no such directory"
        )
        user = f" --user {quote(queue.account_name)}" if queue.account_name else ""
        command = f"piperctl queue create {quote(queue.path)} --perms {queue.perms:#o}{user}"
        owner = queue.account.owner if queue.account is not None and os.geteuid() == 0 else None
        yield Finding(queue.path, what, command, fix=lambda: ensure_queue(queue.path, queue.perms, owner))


def owner_and_mode(queue: Queue) -> Iterator[Finding]:
    """Whoever works on the queue may do so in each part, its group as much as in the queue, and nobody else."""
    whole = os.stat(queue.path)
    uid = queue.account.uid if queue.account is not None and queue.account.uid != -1 else whole.st_uid
    groups = {whole.st_gid, *(queue.account.groups if queue.account else ())}
    for path in (queue.path, *_parts(queue)):
        found = os.stat(path)
        mode = stat.S_IMODE(found.st_mode)
        mine = mode >> 6 if found.st_uid == uid else mode >> 3 if found.st_gid in groups else mode
        if uid != 0 and mine & 7 != 7:
            yield Finding(
                path,
                f"uid {uid} works on it, and may not write there: it belongs to uid {found.st_uid}, mode {mode:o}",
                f"chown {uid}:{whole.st_gid} {quote(path)} && chmod u+rwx {quote(path)}",
            )
        elif lacks := stat.S_IMODE(whole.st_mode) & _RUNNABLE & ~mode:
            yield Finding(path, f"it has the mode {mode:o}, and its queue allows more: {whole.st_mode & 0o7777:o}",
                          f"chmod {mode | lacks:o} {quote(path)}")  # fmt: skip
        elif mode & 0o002 and not queue.perms & 0o002:
            yield Finding(path, f"everybody may write there: it has the mode {mode:o}", f"chmod o-w {quote(path)}")


def one_file_system(queue: Queue) -> Iterator[Finding]:
    """A message can be renamed from part to part and on to the next queue: it is tried."""
    targets = [path for path in _parts(queue) if os.path.basename(path) not in ("tmp", "state")]
    following = os.path.join(queue.next_queue, "tmp") if queue.next_queue else ""
    if os.path.isdir(following):
        targets.append(following)
    probe = f".piperctl-doctor-{os.getpid()}"  # a name with a dot is no message
    source = os.path.join(queue.path, "tmp", probe)
    try:
        os.close(os.open(source, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except PermissionError:
        yield Finding(
            queue.path, "you may not write there, so rename was not tried", f"sudo {queue.again}", warning=True
        )
        return
    except OSError as error:
        if error.errno in fs.NO_ROOM:
            return  # which is another check's
        raise
    try:
        for target in targets:
            try:
                os.rename(source, os.path.join(target, probe))
                os.rename(os.path.join(target, probe), source)
            except OSError as error:
                if error.errno == errno.EXDEV:
                    yield _apart(queue, target)
                elif not isinstance(error, PermissionError):
                    raise
    finally:
        fs.unlink_if_there(source)


def _apart(queue: Queue, target: str) -> Finding:
    if target.startswith(queue.path + os.sep):
        move = f"rm {quote(target)} && mv -T {quote(os.path.realpath(target))} {quote(target)}"
        command = move if os.path.islink(target) else f"umount {quote(target)}"
        return Finding(
            target, "it is on another file system than its queue, so messages cannot be moved there", command
        )
    following = os.path.dirname(target)
    place = quote(os.path.join(os.path.dirname(queue.path), os.path.basename(following)))
    return Finding(
        following,
        f"this output queue is on another file system than {queue.path}: messages are copied, and may come twice",
        f"mv -nT {quote(following)} {place} && ln -s {place} {quote(following)}  # while nobody works on it",
    )


def orphans(queue: Queue) -> Iterator[Finding]:
    """No message is claimed by a process that is dead."""
    found = {
        part: [name for name in _names(queue, part) if _is_orphan(queue, part, name)]
        for part in ("pending", "outgoing")
    }
    if count := sum(map(len, found.values())):
        words = f"{count} of its messages {'is' if count == 1 else 'are'} claimed by a process that is dead"
        if found["outgoing"] and not queue.knows_next:
            # Recovery would take a changed message for committed, and drop it, where it knows no output queue.
            yield Finding(queue.path, f"{words}, and only their daemon knows where they go", "start the daemon")
        else:
            yield Finding(queue.path, words, queue.again, fix=lambda: recover(queue))


def litter(queue: Queue) -> Iterator[Finding]:
    """There is nothing in the queue that nobody will ever want."""
    left = [path for path in (*_left_in_tmp(queue), *_left_in_state(queue)) if path is not None]
    if left:
        words = f"{len(left)} file{'s are' if len(left) > 1 else ' is'} left behind, such as {left[0]}"
        if _names(queue, "outgoing") and not queue.knows_next:
            yield Finding(queue.path, words, "start the daemon", warning=True)
        else:
            yield Finding(queue.path, words, queue.again, fix=lambda: recover(queue))
    with os.scandir(os.path.join(queue.path, "incoming")) as entries:
        for entry in entries:
            if not entry.is_file(follow_symlinks=False) and not entry.name.startswith("."):
                kind = "a link" if entry.is_symlink() else "a directory" if entry.is_dir() else "no regular file"
                path = f"{queue.path}.{fs.display(entry.name)}"
                yield Finding(entry.path, f"it is {kind}, and so no message: it stays there for ever",
                              f"mv -nT {quote(entry.path)} {quote(path)}")  # fmt: skip


def recover(queue: Queue) -> None:
    """Do what the queue's daemon does at its start."""
    with DirectoryQueue(
        queue.path, next_queue=queue.next_queue, orphan_age=queue.orphan_age, perms=queue.perms
    ) as found:
        found.recover()


def space(queue: Queue) -> Iterator[Finding]:
    """There is room for messages, in bytes and in files."""
    free, keep = room(queue.path, queue.min_free)
    found = os.statvfs(queue.path)
    if found.f_files and found.f_favail < 1000:
        free, keep, words = 0, 1, f"its file system has room for {found.f_favail} more files"
    else:
        words = f"{free // MIB} MiB are free, and queue_min_free keeps {keep // MIB} MiB: no message can be written"
    if free < keep:
        errors = os.path.join(queue.path, "errors")
        age = time.time() - _DEAD_LETTER_DAYS * 86400
        if any(os.stat(entry.path).st_mtime < age for entry in layout.regular_files(errors)):
            command = f"find {quote(errors)} -type f -mtime +{_DEAD_LETTER_DAYS} -delete  # dead letters"
        else:
            command = f"du -ax {quote(queue.path)} | sort -n | tail  # what to make room with"
        yield Finding(queue.path, words, command)


def clock_went_back(queue: Queue) -> Iterator[Finding]:
    """No message waits because the clock was ahead when it was put off."""
    waiting = []
    for entry in QueueView(queue.path).entries("deferred"):
        path = os.path.join(queue.path, "state", entry.id)
        history = records.load(path, os.stat(entry.path).st_mtime_ns).history
        late = (entry.due or 0) > time.time()
        if late and history and datetime.fromisoformat(history[-1]["time"]).timestamp() > time.time() + CLOCK_SLACK:
            waiting.append(path)
    if waiting:
        words = f"{len(waiting)} of its messages were put off at a time that is yet to come: the clock has gone back"
        yield Finding(queue.path, words, f"touch -c {' '.join(map(quote, waiting))}  # tries them now")


def _parts(queue: Queue) -> list[str]:
    return [path for part in PARTS if os.path.isdir(path := os.path.join(queue.path, part))]


def _names(queue: Queue, part: str) -> set[str]:
    return layout.message_names(queue.path, part)


def _is_orphan(queue: Queue, part: str, name: str) -> bool:
    path = os.path.join(queue.path, part, name)
    fd = fs.lock_message(path, shared=True)
    if fd is None:
        return False
    try:
        return time.time() - os.fstat(fd).st_ctime >= queue.orphan_age
    finally:
        os.close(fd)


def _left_in_tmp(queue: Queue) -> Iterator[str]:
    for entry in layout.regular_files(os.path.join(queue.path, "tmp")):
        found = fs.status(entry)
        if found is not None:
            age = time.time() - max(found.st_atime, found.st_mtime, found.st_ctime)
            if age >= (queue.orphan_age if names.is_ours(entry.name) else LITTER_AGE):
                fd = fs.lock_message(entry.path, shared=True)
                if fd is not None:
                    os.close(fd)
                    yield entry.path


def _left_in_state(queue: Queue) -> Iterator[str]:
    state = os.path.join(queue.path, "state")
    for entry in layout.regular_files(state) if os.path.isdir(state) else ():
        found = fs.status(entry)
        if (
            found is not None
            and not instances.is_instance(entry.name)
            and time.time() - found.st_ctime >= queue.orphan_age
        ):
            places = ("pending", "deferred", "incoming", "outgoing") * 2
            if not any(os.path.lexists(os.path.join(queue.path, part, entry.name)) for part in places):
                yield entry.path


QUEUE_CHECKS = (
    ("queue", exists),
    ("owner and mode", owner_and_mode),
    ("one file system", one_file_system),
    ("orphans", orphans),
    ("litter", litter),
    ("free space", space),
    ("clock", clock_went_back),
)
