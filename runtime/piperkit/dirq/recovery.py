"""Putting in order what dead instances left behind.

It is done under the lock of `instances/.recovery`, by one instance at a time; a recovery that is itself cut off is
finished by the next. `pending` is listed first, and the records of the instances are read then: so a claim that is
seen was announced in a record that is read (see `instances`). A claim is an orphan if no living instance lists it and

- a dead one does; or
- no record lists it, for `orphan_age` seconds by the time of its last rename or as watched by us: a foreign program
  takes no lease, and may be at it. So were the claims of 0.4, whose records in `state` say what killed it.

Each run does a bounded part, which is synced as one batch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping

from piperkit.dirq import deadletters, fs, instances, names
from piperkit.dirq.fs import Directory, Walk
from piperkit.dirq.instances import Instance, Listed
from piperkit.dirq.layout import HOLDING, Parts
from piperkit.dirq.reading import Unreadable, read_small
from piperkit.dirq.store import Held, Store
from piperkit.errors import QueueError, QueueInUse
from piperkit.message import Failure
from piperkit.queue import Recovered

#: Seconds after which a file in `tmp` that nobody has touched is litter: maildir(5) gives it 36 hours.
LITTER_AGE = 36 * 3600.0
#: Seconds until the next attempt where something cannot be done now.
FAULT_WAIT = 5.0
#: Orphans that one run settles, and files that it looks at in each part for litter.
ORPHANS_MAX, LOOKED_AT = 500, 1000
#: Seconds after which somebody who holds the lock of recovery is named.
HELD_LONG = 60.0


@dataclasses.dataclass(slots=True)
class Claims:
    """The claims in a queue that are not ours, by what is known of their owners."""

    orphans: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)  #: and the death it is accused of
    outgoing: list[str] = dataclasses.field(default_factory=list)  #: on their way, their instances dead
    dead: dict[str, Listed | None] = dataclasses.field(default_factory=dict)  #: the records of dead instances
    foreign: bool = False  #: some of them are listed by nobody
    again: float | None = None  #: seconds until there may be more


class Ages:
    """How long claims that no record lists are there: by their last rename, and as watched by us."""

    def __init__(self, orphan_age: float, clock: Callable[[], int]) -> None:
        self._orphan_age = orphan_age
        self._clock = clock
        self._seen: dict[tuple[str, int], float] = {}
        self._seen_now: dict[tuple[str, int], float] = {}

    def wait(self, name: str, stat: os.stat_result) -> float:
        """Seconds until it is an orphan; 0: it is one."""
        key = (name, stat.st_ino)
        now = time.monotonic()
        self._seen_now[key] = self._seen.get(key, now)
        # rename(2) changes the inode's ctime, so that tells the age of the claim; the clock may have been set since.
        age = max(now - self._seen_now[key], self._clock() / 1e9 - stat.st_ctime)
        return max(0.0, self._orphan_age - age)

    def next_round(self) -> None:
        """Forget what is gone."""
        self._seen, self._seen_now = self._seen_now, {}


def find(parts: Parts, ours: Collection[str], our_record: str, ages: Ages, earlier: Mapping[str, str]) -> Claims:
    """Who the claims belong to.

    earlier: what instances of 0.4 were working on when they died, and their records.
    """
    outgoing, pending = parts.outgoing.names(), parts.pending.names()
    living, dead = instances.read(parts.instances, our_record)
    found = Claims(dead=dead)
    if any(listed is None for listed in living.values()):
        found.again = 0.1  # it is being written just now
        return found
    alive = {name for listed in living.values() if listed is not None for name in listed.claimed} | set(ours)
    accused, listed_by_dead, in_pending = dict(earlier), set[str](), set(pending) - alive
    for record, listed in dead.items():
        if listed is not None:
            listed_by_dead.update(listed.claimed)
            in_turn = next((name for name in listed.claimed if name in in_pending), None) if listed.working else None
            accused |= {name: record for name in (in_turn, *listed.begun) if name is not None}
    on_its_way = set(outgoing)
    waits: list[float] = []
    for part, candidates in ((parts.outgoing, outgoing), (parts.pending, pending)):
        for name in sorted(candidates, key=names.sort_key):
            if name in alive or (part is parts.pending and name in on_its_way):
                continue  # in `pending`: what replaces it is on its way, and whoever moves that drops it
            stat = part.stat(name)
            if stat is None:
                continue
            if name not in listed_by_dead and (wait := ages.wait(name, stat)):
                waits.append(wait)
                continue
            found.foreign = found.foreign or name not in listed_by_dead
            if part is parts.outgoing:
                found.outgoing.append(name)
            else:
                found.orphans.append((name, accused.get(name)))
    ages.next_round()
    found.again = min(waits, default=None)
    return found


def earlier(state: Directory) -> dict[str, str]:
    """What dead instances of 0.4 or before were working on, and their records. Raises QueueInUse for a living one.

    They have a hidden record each in `state`, locked while they live: names with slashes between, and two at the end.
    """
    accused: dict[str, str] = {}
    for name in _earlier_records(state):
        try:
            fd = state.open(name)
        except OSError:
            continue
        try:
            data = read_small(state, name)  # whoever else could write there once is no instance
            if not fs.try_lock(fd):
                pid = name.split(".")[3]
                raise QueueInUse(
                    f"an instance of piperkit 0.4 or older, with pid {pid}, works on {os.path.dirname(state.path)}:"
                    " stop it first; the two cannot share a queue"
                )
            accused |= {os.fsdecode(each): name for each in data.partition(b"//")[0].split(b"/") if each}
        except (FileNotFoundError, Unreadable):
            continue
        finally:
            os.close(fd)
    return accused


def _earlier_records(state: Directory) -> list[str]:
    with state.entries() as entries:
        return [entry.name for entry in fs.regular(entries) if _is_earlier(entry.name)]


def _is_earlier(name: str) -> bool:
    return name.startswith(".") and names.is_ours(name[1:]) is not None


class Recovery:
    """Recovers one queue."""

    def __init__(
        self, store: Store, instance: Instance, next_queue: str | None, orphan_age: float, crash_limit: int
    ) -> None:
        self._store = store
        self._instance = instance
        self._next_queue = next_queue
        self._orphan_age = orphan_age
        self._crash_limit = crash_limit
        self._ages = Ages(orphan_age, store.clock)
        self._said: set[str] = set()
        self._passed_by: set[str] = set()  #: names of what cannot be settled now
        self._earlier = True  #: there may be records of 0.4
        self._waiting_since: float | None = None  #: for the lock
        parts = store.parts
        self._walks = [Walk(lambda: parts.tmp), Walk(lambda: parts.state), Walk(lambda: parts.errors)]

    def check_earlier(self) -> None:
        """Raises QueueInUse where an instance of 0.4 or before is at work on the queue."""
        earlier(self._store.parts.state)

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
                    os.close(fd)
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
        claims = find(parts, ours, self._instance.name, self._ages, earlier(parts.state) if self._earlier else {})
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
        # What was in work first: of the others, none is accused in its place later. What failed last.
        work.sort(key=lambda each: (each[0] in self._passed_by, each[2] is None))
        deaths: set[str] = set()
        with self._store.syncer.batch():
            for name, where, death in work[:ORPHANS_MAX]:
                try:
                    done[self._settle(self._store.held(name, where), death)].append(name)
                    if death is not None:
                        deaths.add(death)
                except FileNotFoundError:
                    continue  # a foreign program took it: no orphan then
                except (OSError, QueueError) as error:
                    faults.append(f"{fs.display(where.at(name))}: {error}")
                    self._passed_by.add(name)
                    waits.append(FAULT_WAIT)
        if len(work) > ORPHANS_MAX and any(done.values()):
            waits.append(0.0)
        self._say_once(faults)
        self._forget_the_dead(claims.dead, deaths)
        return Recovered(
            tuple(done["returned"]),
            tuple(done["finished"]),
            tuple(done["banished"]),
            self._litter(),
            min(waits) if waits else None,
        )

    def _forget_the_dead(self, dead: Mapping[str, Listed | None], deaths: Collection[str]) -> None:
        """Remove the records of dead instances whose claims are settled, or they would accuse later messages.

        deaths: those whose cause was found; where claims are left, none of them is accused of the same.
        """
        parts = self._store.parts
        earlier_records = _earlier_records(parts.state) if self._earlier else []
        self._earlier = bool(earlier_records)
        if not dead and not earlier_records:
            return
        left = {*parts.pending.names(), *parts.outgoing.names()}
        for name, listed in dead.items():
            if listed is None or not left.intersection(listed.claimed):
                self._try(lambda name=name: instances.remove(parts.instances, name))  # type: ignore[misc]
            elif name in deaths:
                self._try(lambda name=name, listed=listed: instances.acquit(parts.instances, name, listed))  # type: ignore[misc]
        accused = earlier(parts.state) if earlier_records else {}
        for name in earlier_records:
            if not any(message in left for message, record in accused.items() if record == name):
                self._try(lambda name=name: parts.state.remove(name))  # type: ignore[misc]

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
        if death is None:
            self._store.give_back(held, incoming, held.name)
            self._store.logger.warning(
                "%s: given back, since nobody holds its claim any more", name, extra=self._store.about(held)
            )
            return False
        about = self._store.about(held)
        failure = Failure("the daemon died while it was working on this message")
        record = held.record.failed(failure, self._store.timestamp(), death=death)
        if record.crashes >= self._crash_limit:
            held.record = record
            reason = f"{record.crashes} times the daemon died while it was working on this message"
            self._store.banish(held, Failure(reason, "Crash"))
            self._store.logger.error("%s: banished: %s", name, reason, extra=about)
            return True
        given = self._store.own_name(held)
        self._store.write_record(held, record, given, self._store.clock())
        self._store.give_back(held, incoming, given)
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

    # -- litter ----------------------------------------------------------------------------------------------

    def _litter(self) -> int:
        """Remove files of no use, as many as one run looks at; returns how many. Nothing here is a message."""
        tmp, state, errors = (walk.some(LOOKED_AT) for walk in self._walks)
        self._earlier = self._earlier or any(map(_is_earlier, state))
        parts, clock = self._store.parts, self._store.clock
        litter = [(parts.tmp, name) for name in tmp if is_litter_of_tmp(parts.tmp, name, clock(), self._orphan_age)]
        litter += [(parts.state, name) for name in state if is_litter_of_state(parts, name, clock(), self._orphan_age)]
        for directory, name in litter:
            self._try(lambda directory=directory, name=name: directory.remove(name))  # type: ignore[misc]

        def old_enough(stat: os.stat_result) -> bool:
            return clock() / 1e9 - stat.st_ctime >= self._orphan_age

        return len(litter) + deadletters.tidy(parts.errors, errors, old_enough, self._store.notices)


def is_litter_of_tmp(tmp: Directory, name: str, now: int, orphan_age: float) -> bool:
    """Whether a file in `tmp` is what a dead writer of ours left, or what nobody has touched for 36 hours.

    now: nanoseconds since the epoch.
    """
    stat = tmp.stat(name)
    if stat is None:
        return False
    old = now / 1e9 - max(stat.st_atime, stat.st_mtime, stat.st_ctime) >= LITTER_AGE
    if stat.st_mode & 0o7777 != fs.UNFINISHED or now / 1e9 - stat.st_ctime < orphan_age:
        return old
    try:
        fd = tmp.open(name)
    except OSError:
        return old  # gone, or somebody else's: then only its age tells
    try:
        return fs.try_lock(fd)  # its writer holds this lock, however long it takes
    finally:
        os.close(fd)


def is_litter_of_state(parts: Parts, name: str, now: int, orphan_age: float) -> bool:
    """Whether a file in `state` is the record of a message that has left the queue."""
    stat = parts.state.stat(name)
    if name.startswith(".") or stat is None or now / 1e9 - stat.st_ctime < orphan_age:
        return False  # hidden: moved aside, or an instance's of 0.4
    # Twice, in the order in which messages move: one that moves on meanwhile is seen the second time.
    places = (parts.pending, parts.deferred, parts.incoming, parts.outgoing) * 2
    return not any(place.has(name) for place in places)
