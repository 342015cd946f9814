"""Claiming: one rename for each message, from `incoming` (or from `deferred`, when it is due) to `pending`.

The names are announced in the instance's record before that, a batch at a time; see `instances`. So nobody ever takes a
claim of ours for somebody else's, and those that others were faster at are struck out again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping

from piperkit.dirq import fs
from piperkit.dirq.deferred import Deferred
from piperkit.dirq.fs import Directory
from piperkit.dirq.held import Held
from piperkit.dirq.incoming import Incoming
from piperkit.dirq.instances import Instance
from piperkit.dirq.store import Store
from piperkit.errors import QueueMissing

#: Files in a row that could not be moved, after which that is taken for the file system's fault.
_FAULTS_MAX = 100


class Claimer:
    """Takes messages out of one queue's `incoming` and `deferred`."""

    def __init__(self, store: Store, instance: Instance, deferred: Deferred) -> None:
        self._store = store
        self._instance = instance
        self._deferred = deferred
        self._incoming = Incoming(lambda: store.parts.incoming, store.notices, instance.share)
        self._met = False
        self._failed: OSError | QueueMissing | None = None  #: why the last `_claim` ended early
        self._turn = False  #: one message at a time: whether it is that of one that is due

    def busy(self) -> bool:
        """Whether the last `take` left something, which somebody else was at, or which was over its limit."""
        return self._met or bool(self._incoming)

    def take(self, limit: int, held: Mapping[str, Held]) -> list[Held]:
        """Claim up to `limit` messages, oldest first; `held` are those that this instance works with already.

        Raises OSError, or QueueMissing, where that was why nothing was claimed.
        """
        self._met = False
        self._failed = None
        self._incoming.refresh()
        taken = list(held.values())
        try:
            self._take(taken, len(taken) + limit)
        except (OSError, QueueMissing) as error:
            self._fail(error)
        claimed = taken[len(held) :]
        if not claimed and self._failed is not None:
            raise self._failed
        if not taken:
            self._instance.announce([])
        return self._with_records(claimed)

    def _take(self, taken: list[Held], most: int) -> None:
        """Claim messages until there are `most` in `taken`. Raises OSError: those that were got are there then."""
        scanned = False  #: and claimed nothing since: there is nothing more to find
        if not self._incoming:
            self._incoming.scan()  # first, or what is due would come before what is new for ever
            scanned = True
        while len(taken) < most and self._failed is None:
            # As much of what is due as of what is new, if there is enough of both.
            self._turn = not self._turn
            left = most - len(taken)
            due = dict(self._deferred.take((left + self._turn) // 2 if self._incoming else left))
            new = self._incoming.pop(left - len(due))
            if due or new:
                before = len(taken)
                self._claim(due, new, taken)
                scanned = scanned and len(taken) == before
            elif scanned:
                break
            else:
                self._incoming.scan()
                scanned = True

    def _claim(self, due: Mapping[str, int], new: list[str], taken: list[Held]) -> None:
        """Announce the names and rename the files; those that were got are added to `taken`."""
        names = [held.name for held in taken]
        working = bool(taken) and taken[0].begun
        if not set(names).isdisjoint((*due, *new)):
            self._met = True  # one of that name is on its way out of `outgoing`, say
            new = [name for name in new if name not in names]
        try:
            self._instance.announce([*names, *due, *new], working)
        except OSError as error:
            self._fail(error)
        else:
            parts = self._store.parts
            self._rename(parts.deferred, [name for name in due if name not in names], taken)
            self._rename(parts.incoming, new, taken)
        got = {held.name for held in taken[len(names) :]} if due else ()
        for name, when in due.items():
            if name not in got and self._store.parts.deferred.has(name):
                self._deferred.again(name, when)
        if len(taken) < len(names) + len(due) + len(new):
            with contextlib.suppress(OSError):  # what is listed too much does no harm until the next time
                self._instance.announce([held.name for held in taken], working)

    def _rename(self, source: Directory, names: Iterable[str], taken: list[Held]) -> None:
        """Rename these files of `source` to `pending`."""
        pending = self._store.parts.pending
        here, there = source.fd, pending.fd
        faults = 0
        for name in names:
            try:
                fs.rename_exclusive(name, name, here, there)
            except FileNotFoundError:
                self._incoming.missed()  # somebody else has taken it: there is more to find at the next look
                self._met = True
            except FileExistsError:
                self._met = True  # a message of that name is in work, and this one waits for its turn
            except OSError as error:
                faults += 1
                if error.errno not in fs.OF_ONE_FILE or faults > _FAULTS_MAX:
                    error.filename = source.at(name)
                    self._fail(error)
                    return
                self._incoming.leave(source, name, f"it cannot be moved: {error.strerror}", until_changed=False)
            else:
                taken.append(Held(name, pending))

    def _fail(self, error: OSError | QueueMissing) -> None:
        self._failed = error
        self._met = True
        self._incoming.clear()

    def leave(self, held: Held, why: str, *, until_changed: bool) -> None:
        """A message that was claimed cannot be read: put it back, and leave it alone. Raises OSError."""
        held.where.rename(held.name, self._store.parts.incoming, held.name)
        self._incoming.leave(self._store.parts.incoming, held.name, why, until_changed=until_changed)

    def _with_records(self, claimed: list[Held]) -> list[Held]:
        """The claims with what is known about them. One whose record cannot be read now is put back; raises OSError
        where that is all of them.
        """
        if not claimed:
            return claimed
        with contextlib.suppress(OSError, QueueMissing), self._store.parts.state.entries() as entries:
            if next(entries, None) is None:
                return claimed  # so there are no records
        found = []
        failed: OSError | QueueMissing | None = None
        for held in claimed:
            try:
                state = self._store.parts.state
                if os.access(held.name, os.F_OK, dir_fd=state.fd, follow_symlinks=False):
                    held.record = self._store.record(held.name, held.stat.st_mtime_ns)
            except IsADirectoryError:
                pass  # which is found out when it is read
            except (OSError, QueueMissing) as error:
                failed = error
                self._put_back(held)
                continue
            found.append(held)
        if failed is not None and not found:
            raise failed
        return found

    def _put_back(self, held: Held) -> None:
        self._met = True
        try:
            self._store.give_back(held, self._store.parts.incoming, held.name)
        except (OSError, QueueMissing):
            pass  # then recovery does it
