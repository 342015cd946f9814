"""Claiming: from `incoming` to `pending` under a lock, a batch at a time.

The lock comes before the rename, so that nobody ever sees a claim of ours without it. What costs a system call for each
message is done once for a batch where that is as safe: whether the files that were renamed are those that were locked,
and whether any of them has a record.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Container

from piperkit.dirq import fs, records
from piperkit.dirq.incoming import Incoming, Share
from piperkit.dirq.store import Lease, Store

#: Seconds between looks at a message that somebody has just moved to `incoming`, and is about to let go of.
_MOVED_PAUSES = (0.0005, 0.001, 0.002, 0.004, 0.008)
#: Claims in `pending`, of all instances, up to which it is listed rather than asked for each of ours.
_LISTED_MAX = 1000


class Claimer:
    """Takes messages out of one queue's `incoming`."""

    def __init__(self, store: Store, logger: logging.Logger, share: Callable[[], Share]) -> None:
        self._store = store
        self._incoming = Incoming(store.part("incoming"), logger, share)
        self._records = records.RecordNames(store.part("state"))
        self._pending = fs.Directory(store.part("pending"))
        self._many_pending = False
        self._met = False

    def busy(self) -> bool:
        """Whether the last `take` left something, which somebody else was at, or which was over its limit."""
        return self._met or bool(self._incoming)

    def take(self, limit: int, held: Container[str]) -> list[Lease]:
        """Claim up to `limit` messages, oldest first; `held` are the names that this instance works with already."""
        self._met = False
        self._incoming.refresh()
        with self._incoming.directory, self._pending:
            return self._take(limit, held)

    def _take(self, limit: int, held: Container[str]) -> list[Lease]:
        taken: list[Lease] = []
        scanned = False  #: and claimed nothing since: there is nothing more to find
        while len(taken) < limit:
            try:
                name = self._incoming.pop()
                if name is None:
                    if scanned:
                        break
                    self._incoming.scan()
                    scanned = True
                    continue
                lease = self._take_one(name, held)
            except OSError as error:
                if not taken:
                    raise
                self._met = True  # first work with those that we have
                if error.errno in fs.NO_DESCRIPTOR:
                    self._put_some_back(taken)
                break
            if lease is not None:
                taken.append(lease)
                scanned = False
        return self._with_records(self._confirmed(taken)) if taken else []

    def _put_some_back(self, taken: list[Lease]) -> None:
        """Keep the older half of the claims: each is an open file, and the work with them needs some too."""
        self._incoming.clear()  # they come first at the next look
        keep = (len(taken) + 1) // 2
        back = taken[keep:]
        del taken[keep:]
        with contextlib.suppress(OSError), self._store.syncer.operation():  # what is not synced now is with the next
            for lease in reversed(back):
                self._put_back(lease)

    def _take_one(self, name: str, held: Container[str]) -> Lease | None:
        """Lock a message and move it to `pending`; None where that cannot be done now."""
        incoming = self._incoming.directory
        try:
            fd = os.open(name, fs.OPEN_MESSAGE, dir_fd=incoming.fd)
        except FileNotFoundError:
            self._met_another()
            return None
        except OSError as error:
            if error.errno not in fs.NO_MESSAGE:
                error.filename = incoming.at(name)
                raise
            self._incoming.report(name, fs.NO_MESSAGE[error.errno])
            return None
        found = None
        try:
            if not fs.try_lock(fd):
                self._wait_for_mover(incoming.at(name), fd)
            here = os.fstat(fd)
            if not stat.S_ISREG(here.st_mode):
                self._incoming.report(name, fs.NO_MESSAGE[errno.EISDIR])
                return None
            if name in held:
                raise FileExistsError  # it is on its way out of `outgoing`
            incoming.rename(name, self._pending, name)
            found = Lease(name, name, fd, "pending", here.st_mtime_ns, here.st_size, here)
        except FileNotFoundError:
            self._met_another()
        except (FileExistsError, BlockingIOError):
            # A message of that name is in work, and this one waits for its turn; or it is locked for long, by a
            # process that was stopped just after it had moved it here.
            self._met = True
        finally:
            if found is None:
                os.close(fd)
        return found

    def _wait_for_mover(self, source: str, fd: int) -> None:
        """Get the lock of a message that whoever moved it here is about to let go of: to pass it over would change the
        order. Raises FileNotFoundError where another instance has claimed it, BlockingIOError where this takes long.
        """
        for pause in _MOVED_PAUSES:
            if not fs.is_at(fd, source):
                raise FileNotFoundError
            time.sleep(pause)
            if fs.try_lock(fd):
                return
        raise BlockingIOError

    def _met_another(self) -> None:
        """Somebody else has taken this message: there is more to find at the next look."""
        self._incoming.missed()
        self._met = True

    def _confirmed(self, taken: list[Lease]) -> list[Lease]:
        """The claims: those whose file is the one that we have locked, and what stands in the place of others.

        RACE: between our opening a file and locking it, somebody may have moved it on, and another one of that name
        have come. That one was renamed then, and is without a lock for this moment, which is far below orphan_age.
        """
        inodes: dict[str, int] = {}
        if len(taken) > 1 and not self._many_pending:
            try:
                with os.scandir(self._pending.path) as entries:
                    inodes = {entry.name: entry.inode() for entry in entries}
            except OSError:
                pass  # too many open files, say: each is asked for
        self._many_pending = len(inodes) > _LISTED_MAX
        leases = []
        for lease in taken:
            # Some file systems list other inode numbers than stat(2) gives.
            try:
                if inodes.get(lease.name) == lease.stat.st_ino or self._pending.holds(lease.name, lease.fd):
                    leases.append(lease)
                    continue
            except OSError:
                self._put_back(lease)
                continue
            os.close(lease.fd)
            fd = fs.lock_message(self._pending.at(lease.name))
            if fd is not None:
                leases.append(self._store.lease(lease.name, fd, "pending"))
        return leases

    def _with_records(self, leases: list[Lease]) -> list[Lease]:
        """The claims with what is known about them. One whose record cannot be read is put back; raises OSError where
        that is all of them.
        """
        self._records.look()
        if self._records.none():
            return leases
        found = []
        failed: OSError | None = None
        for lease in leases:
            try:
                if self._records.may_have(lease.name):
                    lease.record = self._store.record(lease.name, lease.arrived)
            except OSError as error:
                failed = error
                self._put_back(lease)
            else:
                found.append(lease)
        if failed is not None and not found:
            raise failed
        return found

    def _put_back(self, lease: Lease) -> None:
        self._met = True
        try:
            self._store.give_back(lease, "incoming", lease.name)
        except OSError:
            pass  # then recovery does it
        finally:
            os.close(lease.fd)
