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
from piperkit.dirq.incoming import Incoming
from piperkit.dirq.instances import Instance
from piperkit.dirq.store import Held, Store

#: Files in a row that could not be moved, after which that is taken for the file system's fault.
_FAULTS_MAX = 100

#: A name, where it is, and when it was due, if that is `deferred`.
_Candidate = tuple[str, Directory, int | None]


class Claimer:
    """Takes messages out of one queue's `incoming` and `deferred`."""

    def __init__(self, store: Store, instance: Instance, deferred: Deferred) -> None:
        self._store = store
        self._instance = instance
        self._deferred = deferred
        self._incoming = Incoming(lambda: store.parts.incoming, store.notices, instance.share)
        self._met = False
        self._failed: OSError | None = None  #: why the last `_claim` ended early
        self._turn = False  #: one message at a time: whether it is that of one that is due

    def busy(self) -> bool:
        """Whether the last `take` left something, which somebody else was at, or which was over its limit."""
        return self._met or bool(self._incoming)

    def take(self, limit: int, held: Mapping[str, Held]) -> list[Held]:
        """Claim up to `limit` messages, oldest first; `held` are those that this instance works with already."""
        self._met = False
        self._incoming.refresh()
        busy = {each.name for each in held.values()}
        taken: list[Held] = []
        scanned = False  #: and claimed nothing since: there is nothing more to find
        if not self._incoming and self._deferred.seconds() == 0:
            self._incoming.scan()  # or what is due would come first for ever
            scanned = True
        while len(taken) < limit:
            wanted = self._candidates(limit - len(taken))
            if not wanted:
                if scanned:
                    break
                self._incoming.scan()
                scanned = True
                continue
            claimed = self._claim(wanted, [*held.values(), *taken], busy)
            scanned = scanned and not claimed
            taken += claimed
            if self._failed is not None:
                if not taken:
                    raise self._failed
                break  # first work with those that we have
        if not taken and not held:
            self._instance.announce([])
        return self._with_records(taken)

    _store_failed: OSError | None = None

    def _candidates(self, limit: int) -> list[_Candidate]:
        """What to claim next: as much of what is due as of what is new, if there is enough of both."""
        parts = self._store.parts
        self._turn = not self._turn
        share = (limit + self._turn) // 2 if self._incoming else limit
        found: list[_Candidate] = [(name, parts.deferred, due) for name, due in self._deferred.take(share)]
        incoming = parts.incoming
        return found + [(name, incoming, None) for name in self._incoming.pop(limit - len(found))]

    def _claim(self, wanted: list[_Candidate], held: Iterable[Held], busy: set[str]) -> list[Held]:
        """Announce the names and rename the files; returns those that were got."""
        self._failed = None
        pending = self._store.parts.pending
        names = [each.name for each in held]
        wanted = [each for each in wanted if self._is_free(each, busy)]
        try:
            self._instance.announce(names + [name for name, _, _ in wanted])
        except OSError as error:
            self._not_claimed(wanted)
            self._failed = error
            return []
        claimed: list[Held] = []
        faults = 0
        for position, (name, source, due) in enumerate(wanted):
            try:
                fs.rename_exclusive(name, name, source.fd, pending.fd)
            except FileNotFoundError:
                self._met_another()
            except FileExistsError:
                self._met = True  # a message of that name is in work, and this one waits for its turn
                if due is not None:
                    self._deferred.again(name, due)
            except OSError as error:
                faults += 1
                if error.errno not in fs.OF_ONE_FILE or faults > _FAULTS_MAX:
                    error.filename = source.at(name)
                    self._failed = error
                    self._not_claimed(wanted[position:])
                    break
                self._pass_by(name, source, due, error)
            else:
                claimed.append(Held(name, pending))
                busy.add(name)
        if len(claimed) < len(wanted):
            with contextlib.suppress(OSError):  # what is listed too much does no harm until the next time
                self._instance.announce(names + [each.name for each in claimed])
        return claimed

    def _is_free(self, candidate: _Candidate, busy: set[str]) -> bool:
        name, _, due = candidate
        if name not in busy:
            return True
        self._met = True  # that one is on its way out of `outgoing`, say
        if due is not None:
            self._deferred.again(name, due)
        return False

    def _pass_by(self, name: str, source: Directory, due: int | None, error: OSError) -> None:
        why = f"it cannot be moved: {error.strerror}"
        if due is None:
            self._incoming.leave(name, why, until_changed=False)
        else:
            self._store.notices.say(source.at(name), f"left alone, since {why}")

    def _not_claimed(self, wanted: list[_Candidate]) -> None:
        self._met = True
        self._incoming.clear()
        for name, _, due in wanted:
            if due is not None:
                self._deferred.again(name, due)

    def _met_another(self) -> None:
        """Somebody else has taken this message: there is more to find at the next look."""
        self._incoming.missed()
        self._met = True

    def leave(self, held: Held, why: str, *, until_changed: bool) -> None:
        """A message that was claimed cannot be read: put it back, and leave it alone. Raises OSError."""
        held.where.rename(held.name, self._store.parts.incoming, held.name)
        self._incoming.leave(held.name, why, until_changed=until_changed)

    def _with_records(self, claimed: list[Held]) -> list[Held]:
        """The claims with what is known about them. One whose record cannot be read now is put back; raises OSError
        where that is all of them.
        """
        if not claimed:
            return claimed
        state = self._store.parts.state
        with state.entries() as entries:
            if next(entries, None) is None:
                return claimed  # so there are no records
        found = []
        failed: OSError | None = None
        for held in claimed:
            try:
                if os.access(held.name, os.F_OK, dir_fd=state.fd, follow_symlinks=False):
                    held.record = self._store.record(held.name, held.stat.st_mtime_ns)
            except IsADirectoryError:
                pass  # which is found out when it is read
            except OSError as error:
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
        except OSError:
            pass  # then recovery does it
