"""Which claims are orphans: those whose instances have died.

`pending` is listed first, and the records of the instances are read then: so a claim that is seen was announced in a
record that is read (see `instances`). A claim is an orphan if no living instance lists it and

- a dead one does; or
- no record lists it, for `orphan_age` seconds by the time of its last rename or as watched by us: a foreign program
  takes no lease, and may be at it. So were the claims of 0.4 (see `earlier`).

Nothing here changes anything.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Collection, Mapping

from piperkit import naming
from piperkit.dirq import instances
from piperkit.dirq.instances import Listed
from piperkit.dirq.layout import Parts


@dataclasses.dataclass(slots=True)
class Claims:
    """The claims in a queue that are not ours, by what is known of their owners."""

    orphans: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)  #: and the death it is accused of
    outgoing: list[str] = dataclasses.field(default_factory=list)  #: on their way, their instances dead
    #: The records of dead instances; what was begun in turn is by its name among what was begun.
    dead: dict[str, Listed | None] = dataclasses.field(default_factory=dict)
    foreign: bool = False  #: some of them are listed by nobody
    again: float | None = None  #: seconds until there may be more


class Ages:
    """How long claims that no record lists are there: by their last rename, and as watched by us."""

    def __init__(self, orphan_age: float, clock: Callable[[], int]) -> None:
        self._orphan_age = orphan_age
        self._clock = clock
        self._seen: dict[tuple[str, int], float] = {}
        self._seen_now: dict[tuple[str, int], float] = {}
        self.faults: dict[str, int] = {}  #: how often a record could not be read

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
        self.faults.clear()
        self._seen, self._seen_now = self._seen_now, {}


def find(parts: Parts, ours: Collection[str], our_record: str, ages: Ages, earlier: Mapping[str, str]) -> Claims:
    """Who the claims belong to.

    earlier: what instances of 0.4 were working on when they died, and their records.
    """
    # A link that was claimed for a message would be in the way of all of its name.
    outgoing, pending = parts.outgoing.names(), parts.pending.names(every=True)
    living, dead = instances.read(parts.instances, our_record, ages.faults)
    found = Claims(dead=dead)
    if any(listed is None for listed in living.values()):
        found.again = 0.1  # it is being written just now
        return found
    alive = {name for listed in living.values() if listed is not None for name in listed.claimed} | set(ours)
    accused, listed_by_dead = dict(earlier), set[str]()
    claimed, orphaned = set(pending), set(pending) - alive
    for record, listed in dead.items():
        if listed is not None:
            listed_by_dead.update(listed.claimed)
            begun = (*_first(listed, claimed, orphaned), *listed.begun)
            dead[record] = dataclasses.replace(listed, working=False, begun=begun)
            accused |= dict.fromkeys(begun, record)
    on_its_way = set(outgoing)
    waits: list[float] = []
    for part, candidates in ((parts.outgoing, outgoing), (parts.pending, pending)):
        for name in sorted(candidates, key=naming.sort_key):
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


def _first(listed: Listed, claimed: set[str], orphaned: set[str]) -> list[str]:
    """What a dead instance was working on in turn: the first that it lists of those that are claimed.

    Where a living instance lists that one too, nobody knows whose it is, and the first other is accused, too:
    a message that kills its daemons must not come through for ever.
    """
    names = [name for name in listed.claimed if name in claimed] if listed.working else []
    return list(dict.fromkeys([*names[:1], *[name for name in names if name in orphaned][:1]]))
