"""Putting in order what dead instances left behind.

Everything is done under the lock of the file that it concerns, so any number of instances can recover side by side,
and a recovery that is itself cut off is finished by the next. A claim is an orphan when its file is not locked, and
has not been for `orphan_age` seconds by the time of its last rename or as watched by us; before that it could belong
to a foreign program that takes no locks.
"""

from __future__ import annotations

import os
import time

from piperkit.dirq import deadletters, fs, instances, layout, names
from piperkit.dirq.store import Lease, Store
from piperkit.errors import QueueError
from piperkit.message import Failure
from piperkit.queue import Recovered

#: Seconds after which a file in `tmp` that nobody has touched is litter: maildir(5) gives it 36 hours.
LITTER_AGE = 36 * 3600.0
#: Seconds until another try where a queue that a message goes to cannot be written to.
FAULT_WAIT = 5.0
#: Orphans that one run gives back; each is an open file.
ORPHANS_MAX = 200


class Recovery:
    """Recovers one queue."""

    def __init__(self, store: Store, next_queue: str | None, orphan_age: float, crash_limit: int) -> None:
        self._store = store
        self._next_queue = next_queue
        self._orphan_age = orphan_age
        self._crash_limit = crash_limit
        self._seen: dict[tuple[str, int], float] = {}  # (name, inode) of an unlocked claim: first seen
        self._said: set[str] = set()

    def run(self, ours: frozenset[str]) -> Recovered:
        """Look once at everything; `ours` are the names that this instance has claimed."""
        done: dict[str, list[str]] = {"returned": [], "finished": [], "banished": []}
        waits: list[float] = []
        faults: list[str] = []
        with self._store.syncer.batch():
            orphans = self._orphans(ours, waits)
            try:
                # Read after the orphans are locked: whoever held them is dead by now.
                dead = self._dead_instances()
                suspects = {name: os.path.basename(path) for path, in_work in dead.items() for name in in_work}
                for lease in orphans:
                    try:
                        result = self._settle(lease, suspects.get(lease.name))
                    except FileNotFoundError:
                        continue  # a foreign program took it: no orphan then
                    except QueueError as error:
                        faults.append(str(error))
                        waits.append(FAULT_WAIT)
                    else:
                        done[result].append(lease.name)
            finally:
                for lease in orphans:
                    os.close(lease.fd)
        self._say_once(faults)
        for path, names_in_work in dead.items():
            # Kept while a claim that it accuses may still have to be given back, by us or by another instance.
            if not any(os.path.lexists(os.path.join(self._store.part("pending"), name)) for name in names_in_work):
                fs.unlink_if_there(path)
        return Recovered(
            tuple(done["returned"]),
            tuple(done["finished"]),
            tuple(done["banished"]),
            self._litter(),
            min(waits) if waits else None,
        )

    def _orphans(self, ours: frozenset[str], waits: list[float]) -> list[Lease]:
        """The claims of dead instances, locked by us; those in `outgoing` first."""
        seen: dict[tuple[str, int], float] = {}
        orphans: list[Lease] = []
        try:
            for part in ("outgoing", "pending"):
                for name in sorted(layout.message_names(self._store.path, part) - ours, key=names.sort_key):
                    if len(orphans) >= ORPHANS_MAX:
                        waits.append(0.0)
                        break
                    lease = self._orphan(part, name, seen, waits)
                    if lease is not None:
                        orphans.append(lease)
        except BaseException as error:
            # Each is an open file, and to give it back needs some more.
            keep = len(orphans) // 2 if getattr(error, "errno", None) in fs.NO_DESCRIPTOR else 0
            for lease in orphans[keep:]:
                os.close(lease.fd)
            del orphans[keep:]
            if not orphans:
                raise
            waits.append(0.0)
        self._seen = seen
        return orphans

    def _dead_instances(self) -> dict[str, set[str]]:
        """The records of dead instances, by path, with the names of the messages that they were working on."""
        dead: dict[str, set[str]] = {}
        for entry in layout.regular_files(self._store.part("state")):
            if instances.is_instance(entry.name):
                # A shared lock: several may be reading, and only a living instance has it for itself.
                fd = fs.lock_message(entry.path, shared=True)
                if fd is not None:
                    try:
                        dead[entry.path] = instances.names_in_work(fd)
                    finally:
                        os.close(fd)
        return dead

    def _settle(self, lease: Lease, death: str | None) -> str:
        """Do what is left to do with an orphan; returns what that was."""
        if lease.part == "outgoing":
            self._finish(lease)
            return "finished"
        if self._arrived(lease, self._next_queue):
            return "finished"
        return "banished" if self._return(lease, death) else "returned"

    def _orphan(self, part: str, name: str, seen: dict[tuple[str, int], float], waits: list[float]) -> Lease | None:
        """The lease of a claim whose process is dead; None where it lives, or may."""
        fd = fs.lock_message(os.path.join(self._store.part(part), name))
        if fd is None:
            return None
        lease = None
        try:
            if self._is_orphan(part, name, fd, seen, waits):
                lease = self._store.lease(name, fd, part)
        finally:
            if lease is None:
                os.close(fd)
        return lease

    def _is_orphan(self, part: str, name: str, fd: int, seen: dict[tuple[str, int], float], waits: list[float]) -> bool:
        if part == "pending" and os.path.lexists(os.path.join(self._store.part("outgoing"), name)):
            return False  # its last contents are on their way, and whoever moves them drops it
        stat = os.fstat(fd)
        key = (name, stat.st_ino)
        now = time.monotonic()
        seen[key] = self._seen.get(key, now)
        # rename(2) changes the inode's ctime, so that tells the age of the claim; the clock may have been set since.
        age = max(now - seen[key], self._store.clock() / 1e9 - stat.st_ctime)
        if age < self._orphan_age:
            waits.append(self._orphan_age - age)
            return False
        return True

    def _finish(self, lease: Lease) -> None:
        """A changed message on its way out: drop its original, if that is still there, and move it on."""
        original = os.path.join(self._store.part("pending"), lease.name)
        fd = fs.lock_message(original)
        if fd is not None:
            try:
                # By name and arrival; a later message may have been claimed under that name meanwhile.
                if os.fstat(fd).st_mtime_ns == lease.arrived:
                    os.unlink(original)
            finally:
                os.close(fd)
        target = lease.record.target or self._next_queue
        if self._arrived(lease, target):
            self._store.forget(lease)
        elif target is None:
            self._store.drop(lease)  # there is no output queue any more: committed means deleted
        else:
            self._store.deliver(lease, target)

    def _arrived(self, lease: Lease, target: str | None) -> bool:
        """Whether the message stands in another place too, and so has left this one, where its name is removed.

        That is how a move looks that was cut off between its two names: by link(2) and unlink(2), or by a power cut
        on btrfs. Where it was dispatched to, unchanged, is not known any more: from there it may come twice.
        """
        here = self._store.at(lease)
        places = [
            os.path.join(queue, part, lease.name)
            for queue in (self._store.path, target)
            if queue is not None
            for part in layout.HOLDING
        ]
        if not any(fs.is_at(lease.fd, path) for path in places if path != here):
            return False
        os.unlink(here)
        self._store.syncer.changed(source=os.path.dirname(here))
        return True

    def _return(self, lease: Lease, death: str | None) -> bool:
        """Give back a claim; returns whether it was banished instead.

        death: the record of the instance that died while it worked on the message.
        """
        name = fs.display(lease.name)
        if death is None:
            self._store.give_back(lease, "incoming", lease.name)
            self._store.logger.warning(
                "%s: given back, since nobody holds its claim any more", name, extra=self._store.about(lease)
            )
            return False
        about = self._store.about(lease)
        failure = Failure("the daemon died while it was working on this message")
        record = lease.record.failed(failure, self._store.timestamp(), death=death)
        if record.crashes >= self._crash_limit:
            lease.record = record
            reason = f"{record.crashes} times the daemon died while it was working on this message"
            self._store.banish(lease, Failure(reason, "Crash"))
            self._store.logger.error("%s: banished: %s", name, reason, extra=about)
            return True
        given = self._store.own_name(lease)
        self._store.write_record(lease, record, given, self._store.clock())
        self._store.give_back(lease, "incoming", given)
        self._store.logger.warning(
            "%s: given back after its daemon died (attempt %d, death %d)",
            name,
            record.attempts,
            record.crashes,
            extra=about,
        )
        return False

    def _say_once(self, faults: list[str]) -> None:
        """Log what is new of what cannot be done now."""
        for fault in dict.fromkeys(faults):
            if fault not in self._said:
                self._store.logger.error("recovery waits: %s", fault)
        self._said = set(faults)

    # -- litter ----------------------------------------------------------------------------------------------

    def _litter(self) -> int:
        """Remove files of no use; returns how many. Nothing here is a message, or known to be wanted."""
        return self._tidy_tmp() + self._tidy_state() + deadletters.tidy(self._store.part("errors"), self._old_enough)

    def _old_enough(self, stat: os.stat_result) -> bool:
        return self._store.clock() / 1e9 - stat.st_ctime >= self._orphan_age

    def _tidy_tmp(self) -> int:
        """What writers of ours left when they died, and what nobody has touched for 36 hours."""
        removed = 0
        for entry in layout.regular_files(self._store.part("tmp")):
            stat = fs.status(entry)
            if stat is None:
                continue  # a message that was published meanwhile
            untouched = self._store.clock() / 1e9 - max(stat.st_atime, stat.st_mtime, stat.st_ctime)
            ours = names.is_ours(entry.name) and self._old_enough(stat)
            if ours or untouched >= LITTER_AGE:
                fd = fs.lock_message(entry.path)  # a writer of ours holds this lock, however long it takes
                if fd is not None:
                    try:
                        fs.unlink_if_there(entry.path)
                    finally:
                        os.close(fd)
                    removed += 1
        return removed

    def _tidy_state(self) -> int:
        """Records of messages that have left the queue."""
        removed = 0
        for entry in layout.regular_files(self._store.part("state")):
            stat = fs.status(entry)
            if instances.is_instance(entry.name) or stat is None or not self._old_enough(stat):
                continue
            # Twice, in the order in which messages move: one that moves on meanwhile is seen the second time.
            if not any(
                os.path.lexists(os.path.join(self._store.part(part), entry.name))
                for part in ("pending", "deferred", "incoming", "outgoing") * 2
            ):
                fs.unlink_if_there(entry.path)
                removed += 1
        return removed
