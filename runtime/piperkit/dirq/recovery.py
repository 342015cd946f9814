"""Putting in order what dead instances left behind.

It is done under the lock of `instances/.recovery`, by one instance at a time; a recovery that is itself cut off is
finished by the next. What is an orphan, `orphans` says.

Each run does a bounded part, which is synced as one batch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator

from piperkit.dirq import earlier, fs, instances, orphans
from piperkit.dirq.delivery import place
from piperkit.dirq.fs import Directory
from piperkit.dirq.held import Held
from piperkit.dirq.instances import Instance, Listed
from piperkit.dirq.litter import Litter
from piperkit.dirq.store import Store
from piperkit.errors import QueueError
from piperkit.message import Failure
from piperkit.operating import HOLDING
from piperkit.queue import Recovered

#: Seconds until the next attempt where something cannot be done now.
FAULT_WAIT = 5.0
#: Orphans that one run settles.
ORPHANS_MAX = 500
#: Seconds after which somebody who holds the lock of recovery is named.
HELD_LONG = 60.0


class Recovery:
    """Recovers one queue."""

    def __init__(
        self, store: Store, instance: Instance, next_queue: str | None, orphan_age: float, crash_limit: int
    ) -> None:
        self._store = store
        self._instance = instance
        self._next_queue = next_queue
        self._crash_limit = crash_limit
        self._ages = orphans.Ages(orphan_age, store.clock)
        self._said: set[str] = set()
        self._passed_by: set[str] = set()  #: names of what cannot be settled now
        self._waiting_since: float | None = None  #: for the lock
        self._dead: dict[str, Listed | None] = {}  #: what the records of dead instances say, in this run
        self._litter = Litter(store.parts, orphan_age, store.clock, store.notices)

    def check_earlier(self) -> None:
        """Raises QueueInUse where an instance of 0.4 or before is at work on the queue."""
        earlier.accused(self._store.parts.state)

    def run(self, ours: frozenset[str]) -> Recovered:
        """Look once at everything; `ours` are the names that this instance has claimed."""
        with self._locked() as locked:
            if not locked:
                return Recovered(again=FAULT_WAIT)
            return self._run(ours)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """Whether we have the lock, in this block. Whoever holds it for long is named in the log, once."""
        directory = self._store.parts.instances
        fd = None if self._instance.recovering else instances.lock_recovery(directory)
        if fd is not None or self._instance.recovering:
            self._waiting_since = None
            try:
                yield True
            finally:
                if fd is not None:
                    fs.release(fd)
            return
        now = time.monotonic()
        self._waiting_since = self._waiting_since or now
        if now - self._waiting_since > HELD_LONG:
            pid = instances.holder(directory)
            text = f"recovery waits for the process {pid or 'that'} that holds its lock: is it stopped?"
            self._store.notices.say(directory.at(instances.RECOVERY), text)
        yield False

    def _run(self, ours: frozenset[str]) -> Recovered:
        done: dict[str, list[str]] = {"returned": [], "finished": [], "banished": []}
        parts = self._store.parts
        claims = orphans.find(
            parts, ours, self._instance.name, self._ages, earlier.accused(parts.state) if self._litter.earlier else {}
        )
        if claims.foreign:
            self.check_earlier()  # one may have been started since, and they are its claims
        waits = [] if claims.again is None else [claims.again]
        faults: list[str] = []
        work: list[tuple[str, Directory, str | None]] = [(name, parts.outgoing, None) for name in claims.outgoing]
        work += [(name, parts.pending, death) for name, death in claims.orphans]
        if not work:
            self._said.clear()
        if self._passed_by.issuperset(name for name, _, _ in work):
            self._passed_by.clear()
        # What was in work first, and what failed last.
        work.sort(key=lambda each: (each[0] in self._passed_by, each[2] is None))
        self._dead = claims.dead
        with self._store.syncer.batch():
            for name, where, death in work[:ORPHANS_MAX]:
                try:
                    done[self._settle(self._store.held(name, where), death)].append(name)
                except FileNotFoundError:
                    continue  # a foreign program took it: no orphan then
                except IsADirectoryError:  # no message: it is left alone in `incoming`
                    self._try(functools.partial(self._put_back, where, name))
                except (OSError, QueueError) as error:
                    faults.append(f"{fs.display(where.at(name))}: {error}")
                    self._passed_by.add(name)
                    waits.append(FAULT_WAIT)
        if len(work) > ORPHANS_MAX and any(done.values()):
            waits.append(0.0)
        self._say_once(faults)
        self._forget_the_dead()
        return Recovered(
            tuple(done["returned"]),
            tuple(done["finished"]),
            tuple(done["banished"]),
            self._litter.remove(),
            min(waits) if waits else None,
        )

    def _forget_the_dead(self) -> None:
        """Remove the records of dead instances whose claims are settled, or they would accuse later messages."""
        parts = self._store.parts
        earlier_records = earlier.records(parts.state) if self._litter.earlier else []
        self._litter.earlier = bool(earlier_records)
        if not self._dead and not earlier_records:
            return
        left = {*parts.pending.names(), *parts.outgoing.names()}
        for name, listed in self._dead.items():
            if listed is None or not left.intersection(listed.claimed):
                self._try(lambda name=name: instances.remove(parts.instances, name))  # type: ignore[misc]
        accused = earlier.accused(parts.state) if earlier_records else {}
        for name in earlier_records:
            if not any(message in left for message, record in accused.items() if record == name):
                self._try(lambda name=name: parts.state.remove(name))  # type: ignore[misc]

    def _accuse_also(self, death: str, name: str, new: str) -> None:
        """A message of which that one died is about to get a new name. Raises OSError."""
        listed = self._dead.get(death)
        if listed is not None:
            begun, claimed = (instances.beside(names, name, new) for names in (listed.begun, listed.claimed))
            instances.rewrite(self._store.parts.instances, death, Listed(False, begun, claimed))
            self._dead[death] = Listed(False, tuple(each for each in begun if each != name), claimed)

    def _acquit(self, death: str, name: str) -> None:
        """That death is counted for the message: note that in its record, or another one would be accused of it, should
        we die too. Raises OSError.
        """
        listed = self._dead.get(death)
        if listed is not None:
            begun = tuple(each for each in listed.begun if each != name)
            listed = self._dead[death] = dataclasses.replace(listed, begun=begun)
            instances.rewrite(self._store.parts.instances, death, listed)

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except OSError as error:
            self._store.notices.say(str(error.filename or self._store.path), f"cannot be tidied up: {error.strerror}")

    # -- one message -----------------------------------------------------------------------------------------

    def _settle(self, held: Held, death: str | None) -> str:
        """Do what is left to do with an orphan; returns what that was."""
        if held.where is self._store.parts.outgoing:
            self._finish(held)
            return "finished"
        if self._arrived(held, self._next_queue):
            return "finished"
        return "banished" if self._return(held, death) else "returned"

    def _put_back(self, where: Directory, name: str) -> None:
        stat = where.stat(name)
        if stat is not None:
            place(where, name, stat, self._store.parts.incoming, name, self._store.ids.new)

    def _finish(self, held: Held) -> None:
        """A changed message on its way out: drop its original, if that is still there, and move it on.

        Raises QueueError where its target is the output queue and there is none: that may be known to another instance.
        """
        pending = self._store.parts.pending
        original = pending.stat(held.name)
        # By name and arrival; a later message may have been claimed under that name meanwhile.
        if original is not None and original.st_mtime_ns == held.stat.st_mtime_ns:
            pending.remove(held.name)
        target = held.record.target or self._next_queue
        if target is None:
            raise QueueError("it was changed, and waits for a daemon that knows its output queue; this one has none")
        held.synced = True
        if self._arrived(held, target):
            self._store.forget(held)
        else:
            self._store.deliver(held, target)

    def _arrived(self, held: Held, target: str | None) -> bool:
        """Whether the message stands in another place too, and so has left this one, where its name is removed.

        That is how a move looks that was cut off between its two names: by link(2) and unlink(2), or by a power cut
        on btrfs. Where it was dispatched to, unchanged, is not known any more: from there it may come twice.
        """
        for queue in (self._store.path, target):
            for part in HOLDING if queue is not None else ():
                path = f"{queue}/{part}/{held.name}"
                with contextlib.suppress(OSError, ValueError):  # it is not there, or not for us to look at, or no path
                    if path != held.path and os.path.samestat(os.stat(path, follow_symlinks=False), held.stat):
                        held.where.unlink(held.name)
                        self._store.syncer.changed(source=held.where)
                        return True
        return False

    def _return(self, held: Held, death: str | None) -> bool:
        """Give back a claim; returns whether it was banished instead.

        death: the record of the instance that died while it worked on the message.
        """
        name = fs.display(held.name)
        incoming = self._store.parts.incoming
        about = self._store.about(held)
        record = held.record
        if death is not None:
            failure = Failure("the daemon died while it was working on this message")
            record = record.failed(failure, self._store.timestamp(), death=death)
            self._store.take_own_name(held, functools.partial(self._accuse_also, death))
            self._store.write_record(held, record, held.name, self._store.clock())
            self._acquit(death, held.name)
        if record.crashes >= self._crash_limit:
            held.record = record
            reason = f"{record.crashes} times the daemon died while it was working on this message"
            self._store.banish(held, Failure(reason, "Crash"))
            self._store.logger.error("%s: banished: %s", name, reason, extra=about)
            return True
        self._store.give_back(held, incoming, held.name)
        if death is None:
            self._store.logger.warning("%s: given back, since nobody holds its claim any more", name, extra=about)
            return False
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
        self._said.update(faults)
