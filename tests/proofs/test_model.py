"""Random operations on a queue, against a plain model in memory, with crashes in between and in the middle.

hypothesis chooses what several instances do to one queue, and shrinks what fails to the shortest story that still does.
A crash in between leaves an instance's claims behind; one in the middle of an operation is a copy of the process that
ends before the N-th of the calls with which it changes a file or a name. At such a call another instance may recover,
too. Forked children live on, programs that know only the protocol claim and die, and links lie where messages and parts
should be. After each step the directories are compared with the model: every message is in exactly one place, whole,
with its attempts counted.

`PIPER_EXAMPLES=10000 make test ARGS=tests/proofs/test_model.py` tries that many stories.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import itertools
import logging
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

import summary
from checkout import ALL
from dirq_tools import FAILURE, Clock, crash, snapshot
from piperkit.dirq import DirectoryQueue, Sync, fs, instances, layout, records
from piperkit.dirq.fs import Directory
from piperkit.errors import NotClaimed, QueueError
from piperkit.operating import HOLDING
from piperkit.queue import Claim

#: Instances that share the queue.
INSTANCES = 3
#: Names that producers give: few, so that they are used again; None: one of ours.
NAMES = (None, None, "a", "a.meta", "gr\udcfcn", "n" * 255)
#: Operations that settle a claim, or change it, and how many of `CALLS` each makes.
OPERATIONS = dict(
    [
        ("update", 3),
        ("commit", 1),
        ("commit changed", 5),
        ("cancel", 1),
        ("banish", 4),
        ("retry", 4),
        ("retry later", 4),
    ]
    + [("requeue", 2), ("dispatch", 1), ("dispatch changed", 9), ("duplicate", 3)]
)
#: An operation, and before which of its calls it is cut off; the last one is never made.
POINTS = [(operation, call) for operation, most in OPERATIONS.items() for call in range(most + 1)]
LATER = 3e8  # seconds
#: The calls between which something is seen to have changed, besides renameat2(2).
CALLS = ("rename", "link", "unlink", "write", "pwrite", "utime")
#: The holder of what a program has claimed that takes no lease.
FOREIGN = -1
#: Children of a fork that live at a time.
CHILDREN = 2

#: Which of the claimed messages, and whether it is read first. What is chosen does not depend on what has happened,
#: since an instance does not always get the same messages.
CHOICE = st.tuples(st.integers(0, 7), st.booleans())

counts: Counter[str] = Counter()


Place = tuple[str, str, bytes]  # queue, part, contents


@dataclasses.dataclass
class Model:
    """A message of the queue `in`, as it should be."""

    data: bytes
    part: str = "incoming"
    attempts: int = 0
    later: bool = False  #: put off for long
    holder: int | None = None  #: who has claimed it, a child's pid as a negative number; None in `pending`: a dead one
    id: str = ""  #: what its holder knows it by
    begun: bool = False  #: its holder has read it
    copied: bytes | None = None  #: what was duplicated; the same is not duplicated again
    place: Place | None = None  #: in `outgoing`: where it is to go
    original: bytes | None = None  #: what is still in `pending` of it then


def serial(data: bytes) -> int:
    """Which message it is, whatever was made of its contents."""
    return int(data.split(b".")[0])


def changed(data: bytes) -> bytes:
    number, version, *_ = data.split(b".")
    return b"%s.%d.%s" % (number, int(version) + 1, b"x" * (int(version) * 100))


logger = logging.getLogger("model")
logger.propagate = False  # else pytest keeps every line of a run


class QueueMachine(RuleBasedStateMachine):
    root: Path  #: an empty directory for all runs of it
    numbers = itertools.count()

    @initialize()
    def begin(self) -> None:
        self.directory = self.root / str(next(self.numbers))
        self.directory.mkdir()
        self.clock = Clock()
        for name in ("next", "other", "decoy"):
            layout.ensure_queue(str(self.directory / name), 0o770)
        self.outside = self.directory / "outside"
        self.outside.write_bytes(b"0.0.")
        self.links = 0
        self.instances = [self.open() for _ in range(INSTANCES)]
        #: Recovers in the middle of what others do. All files are in the future for it: of what takes its owner two
        #: steps, the first is no litter.
        self.intruder = self.open(lambda: time.time_ns() - 60_000_000_000)
        self.children: list[int] = []
        self.serials = itertools.count(1)
        self.messages: dict[int, Model] = {}
        self.gone: Counter[Place] = Counter()  #: what is in other queues
        counts["runs"] += 1

    def teardown(self) -> None:
        if hasattr(self, "instances"):
            try:
                self.deliver_all()
            finally:
                for child in self.children:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
            for queue in (*self.instances, self.intruder):
                queue.close()
            shutil.rmtree(self.directory)

    def open(self, clock: Callable[[], int] | None = None) -> DirectoryQueue:
        return DirectoryQueue(
            self.directory / "in",
            next_queue=self.directory / "next",
            sync=Sync.OFF,
            orphan_age=0,
            crash_limit=1000,
            min_free=0,
            clock=clock or self.clock,
            logger=logger,
        )

    def held(self, instance: int) -> list[Model]:
        return [message for message in self.messages.values() if message.holder == instance]

    # -- what is done ----------------------------------------------------------------------------------------

    @rule(instance=st.integers(0, INSTANCES - 1), name=st.sampled_from(NAMES))
    def enqueue(self, instance: int, name: str | None) -> None:
        number = next(self.serials)
        data = b"%d.0." % number
        self.instances[instance].enqueue(data, name)
        self.messages[number] = Model(data)
        counts["messages"] += 1

    @rule(name=st.sampled_from([name for name in NAMES if name]))
    def enqueue_foreign(self, name: str) -> None:
        """What any other program does."""
        incoming = self.directory / "in" / "incoming" / name
        if not os.path.lexists(incoming):  # such a program would replace it
            number = next(self.serials)
            temporary = self.directory / "in" / "tmp" / name
            temporary.write_bytes(b"%d.0." % number)
            temporary.rename(incoming)
            self.messages[number] = Model(b"%d.0." % number)
            counts["messages"] += 1

    @rule(instance=st.integers(0, INSTANCES - 1), limit=st.integers(1, 4))
    def claim(self, instance: int, limit: int) -> None:
        queue = self.instances[instance]
        claims = queue.claim(limit)
        assert len(claims) <= limit
        self.note_claims(instance, claims)
        if not claims and not queue.busy():
            assert not layout.message_names(queue.path, "incoming"), "there is something to claim"

    def note_claims(self, instance: int, claims: list[Claim]) -> None:
        for claim in claims:
            path = self.directory / "in" / "pending" / claim.id
            if path.is_symlink():  # it has the name of a message that was there a moment ago
                with pytest.raises(NotClaimed):
                    self.instances[instance].read(claim.id)
                continue
            message = self.messages[serial(path.read_bytes())]
            if message.part == "pending" and message.holder in (None, FOREIGN):
                self.give_back(message)
            assert message.part == "incoming" or (message.part == "deferred" and not message.later)
            assert claim.attempt == message.attempts + 1
            message.part, message.holder, message.id, message.begun = "pending", instance, claim.id, False

    @rule(instance=st.integers(0, INSTANCES - 1), limit=st.integers(1, 4), calls=st.integers(0, 6))
    def claim_while_another_recovers(self, instance: int, limit: int, calls: int) -> None:
        with before_call(calls, self.intruder.recover):
            claims = self.instances[instance].claim(limit)
        self.note_claims(instance, claims)
        self.note_recovery()

    @rule(instance=st.integers(0, INSTANCES - 1), limit=st.integers(1, 4), calls=st.integers(0, 6))
    def recover_while_another_claims(self, instance: int, limit: int, calls: int) -> None:
        other = (instance + 1) % INSTANCES
        claims: list[Claim] = []
        with before_call(calls, lambda: claims.extend(self.instances[other].claim(limit))):
            self.instances[instance].recover()
        self.note_claims(other, claims)
        self.recover(instance)

    @rule(instance=st.integers(0, INSTANCES - 1), choice=CHOICE, operation=st.sampled_from(list(OPERATIONS)))
    def work(self, instance: int, choice: tuple[int, bool], operation: str) -> None:
        """Do something with a claimed message."""
        message = self.one_held(instance, *choice)
        if message is not None:
            do, place, left = self.plan(self.instances[instance], message, operation)
            do()
            self.put(message, place, left)

    @rule(instance=st.integers(0, INSTANCES - 1), choice=CHOICE, point=st.sampled_from(POINTS))
    def work_while_another_recovers(self, instance: int, choice: tuple[int, bool], point: tuple[str, int]) -> None:
        operation, calls = point
        message = self.one_held(instance, *choice)
        if message is not None:
            do, place, left = self.plan(self.instances[instance], message, operation)
            with before_call(calls, self.intruder.recover):
                do()
            self.put(message, place, left)
            self.note_recovery()

    @rule(instance=st.integers(0, INSTANCES - 1), choice=CHOICE, point=st.sampled_from(POINTS))
    def die_at_work(self, instance: int, choice: tuple[int, bool], point: tuple[str, int]) -> None:
        """Die in the middle of it: then it is done or not, and nothing in between."""
        operation, calls = point
        message = self.one_held(instance, *choice)
        if message is None:
            return
        do, place, left = self.plan(self.instances[instance], message, operation)
        undone = dataclasses.replace(message, part="incoming", holder=None, begun=False)
        still_claimed = left is not None and left.part == "pending"
        if left is not None and still_claimed:
            left = dataclasses.replace(undone, data=left.data, copied=left.copied)
        del self.messages[serial(message.data)]
        self.die_in(instance, do, calls)
        # Where a living instance had claimed a message of that name, and has not claimed since, it waits for that.
        waiting = dataclasses.replace(undone, part="pending")
        ends = [(None, undone), (place, left), (None, waiting)]
        if left is not None and still_claimed:
            ends.append((place, dataclasses.replace(left, part="pending")))
        if place is not None:
            moving = dataclasses.replace(waiting, part="outgoing", data=place[2], place=place)
            ends += [(None, moving), (None, dataclasses.replace(moving, original=message.data))]
        for elsewhere, here in ends:
            self.put(message, elsewhere, here)
            if self.books() == self.expected():
                break
            self.take_back(message, elsewhere)
        else:
            raise AssertionError(f"cut off in {operation}: {self.books()}")
        now = self.messages.get(serial(message.data))
        if now is not None and now.part in ("pending", "outgoing"):
            path = self.find(now)
            assert path is not None
            assert self.is_listed(path), f"cut off in {operation}, and not recovered"
            now.begun = message.begun
            if now.part == "pending":  # it may have failed, and not be put off yet
                now.attempts = self.attempts(now)
                assert message.attempts <= now.attempts <= message.attempts + operation.startswith("retry")
        elif now is not None and now.part != "errors":
            now.attempts = self.attempts(now)
            more = now.attempts - message.attempts
            assert (message.begun and operation != "requeue") <= more <= 1 + operation.startswith("retry")

    def one_held(self, instance: int, number: int, read: bool) -> Model | None:
        """A message that this instance has claimed, perhaps read by now; None where there is none to claim."""
        if not self.held(instance):
            self.enqueue(instance, None)
            self.claim(instance, 2)
        held = self.held(instance)
        if not held:
            return None
        message = held[number % len(held)]
        if read:
            assert self.instances[instance].read(message.id) == message.data
            message.begun = True
        return message

    def plan(
        self, queue: DirectoryQueue, message: Model, operation: str
    ) -> tuple[Callable[[], None], Place | None, Model | None]:
        """How an operation is done, where it brings the message outside of the queue, and what is left of it inside."""
        id, data, new = message.id, message.data, changed(message.data)
        other = str(self.directory / "other")
        free = dataclasses.replace(message, holder=None, begun=False)
        failed = dataclasses.replace(free, part="deferred", attempts=message.attempts + 1)
        match operation:
            case "commit":
                return lambda: queue.commit(id), ("next", "incoming", data), None
            case "commit changed":
                return lambda: queue.commit(id, new), ("next", "incoming", new), None
            case "cancel":
                return lambda: queue.cancel(id), None, None
            case "banish":
                return lambda: queue.banish(id, FAILURE), None, dataclasses.replace(free, part="errors")
            case "retry":
                return lambda: queue.retry(id, 0, FAILURE), None, failed
            case "retry later":
                return lambda: queue.retry(id, LATER, FAILURE), None, dataclasses.replace(failed, later=True)
            case "requeue":
                return lambda: queue.requeue(id), None, dataclasses.replace(free, part="incoming")
            case "dispatch":
                return lambda: queue.dispatch(id, other), ("other", "incoming", data), None
            case "dispatch changed":
                return lambda: queue.dispatch(id, other, new), ("other", "incoming", new), None
            case "duplicate" if message.copied != data:
                left = dataclasses.replace(message, copied=data)
                return lambda: queue.duplicate(id, other), ("other", "incoming", data), left
            case _:
                return lambda: queue.update(id, new), None, dataclasses.replace(message, data=new)

    def put(self, message: Model, place: Place | None, left: Model | None) -> None:
        """A message has become something else."""
        if place is not None:
            self.gone[place] += 1
        self.messages.pop(serial(message.data), None)
        if left is not None:
            self.messages[serial(message.data)] = left

    def take_back(self, message: Model, place: Place | None) -> None:
        """It has not."""
        if place is not None:
            self.gone[place] -= 1
        self.messages.pop(serial(message.data), None)

    # -- deaths ----------------------------------------------------------------------------------------------

    @rule(instance=st.integers(0, INSTANCES - 1))
    def die(self, instance: int) -> None:
        """An instance dies between two operations; nobody recovers yet."""
        crash(self.instances[instance])
        for message in self.held(instance):
            message.holder = None
        self.instances[instance] = self.open()
        counts["crashes"] += 1

    def die_in(self, instance: int, do: Callable[[], Any], calls: int) -> None:
        """An instance dies in the middle of an operation, and another one recovers."""
        pid = libc.fork()  # a copy of the instance itself, which Python's own fork would have let go of its claims
        if not pid:
            try:
                with before_call(calls, lambda: os._exit(0)):
                    do()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        self.die(instance)
        for message in self.messages.values():
            if message.holder is None and (path := self.find(message)) and path.parent.name == "pending":
                message.part = "pending"  # it was being claimed
        self.recover(instance)
        counts["cut off"] += 1

    @rule(instance=st.integers(0, INSTANCES - 1))
    def recover(self, instance: int) -> None:
        queue = self.instances[instance]
        queue.recover()
        assert not queue.recover()
        left = [path for message in self.note_recovery() if (path := self.find(message))]
        for path in (*left, *(path for path in (self.directory / "in" / "pending").iterdir() if path.is_symlink())):
            assert self.is_listed(path), f"{path} is not recovered"
        if self.clock.offset >= 0:  # else what is in `tmp` seems to come from the future
            for path in (self.directory / "in" / "tmp").iterdir():
                # One that only wanted its name might be a producer's.
                assert path.stat().st_mode & 0o7777 != fs.UNFINISHED, f"{path} is left"

    def note_recovery(self) -> list[Model]:
        """Somebody has recovered: note what was; returns what was not."""
        left = []
        for message in list(self.messages.values()):
            if message.part in ("pending", "outgoing") and message.holder in (None, FOREIGN):
                path = self.find(message)
                if path is None:
                    self.put(message, message.place, None)
                elif path.parent.name == "incoming":
                    self.give_back(message)
                else:
                    left.append(message)
        return left

    def give_back(self, message: Model) -> None:
        """A message was recovered; it may be accused of a death."""
        attempts = self.attempts(message)
        assert message.attempts + message.begun <= attempts <= message.attempts + 1
        message.part, message.holder, message.begun, message.attempts = "incoming", None, False, attempts

    def is_listed(self, path: Path) -> bool:
        """Whether a living instance lists the name of a file: it had one of that name, and has not claimed since."""
        living, _ = instances.read(Directory(str(self.directory / "in" / "instances")), "", {})
        return any(path.name in listed.claimed for listed in living.values() if listed is not None)

    @rule(instance=st.integers(0, INSTANCES - 1), calls=st.integers(0, 8), recovering=st.booleans())
    def die_claiming_or_recovering(self, instance: int, calls: int, recovering: bool) -> None:
        queue = self.instances[instance]
        self.die_in(instance, queue.recover if recovering else lambda: queue.claim(3), calls)

    @rule(instance=st.integers(0, INSTANCES - 1))
    def restart(self, instance: int) -> None:
        self.instances[instance].close()
        for message in self.held(instance):
            message.part, message.holder, message.begun = "incoming", None, False
        self.instances[instance] = self.open()

    @rule(instance=st.integers(0, INSTANCES - 1), limit=st.integers(0, 2))
    def fork(self, instance: int, limit: int) -> None:
        """A forked child lives on. It holds nothing of ours, and what it claims is its own."""
        if len(self.children) == CHILDREN:
            return
        said, say = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                assert not any(queue.claimed() for queue in self.instances)
                queue = self.instances[instance]
                claimed = []
                for claim in queue.claim(limit):
                    with contextlib.suppress(NotClaimed):  # a link
                        claimed.append(queue.read(claim.id))
                os.write(say, b"".join(data + b"\n" for data in claimed) + b"\n")
                signal.pause()
            finally:
                os._exit(1)
        os.close(say)
        self.children.append(pid)
        with open(said, "rb") as lines:
            answer = lines.readline()
            while answer.rstrip():
                message = self.messages[serial(answer)]
                assert message.part == "incoming" or (message.part == "deferred" and not message.later)
                message.part, message.holder, message.begun = "pending", -pid, True
                answer = lines.readline()
        assert answer, "the child holds something, or died"
        counts["forks"] += 1

    @rule()
    def end_child(self) -> None:
        if self.children:
            pid = self.children.pop(0)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            for message in self.held(-pid):
                message.holder = None
            counts["crashes"] += 1

    # -- what others do --------------------------------------------------------------------------------------

    @rule(number=st.integers(0, 7))
    def claim_foreign(self, number: int) -> None:
        """A program that knows no more than the protocol claims a message; it may die, or be slow."""
        waiting = [message for message in self.messages.values() if message.part == "incoming"]
        path = self.find(waiting[number % len(waiting)]) if waiting else None
        if path is not None and not os.path.lexists(path.parent.parent / "pending" / path.name):
            path.rename(path.parent.parent / "pending" / path.name)
            message = waiting[number % len(waiting)]
            message.part, message.holder = "pending", FOREIGN
            counts["foreign claims"] += 1

    @rule(number=st.integers(0, 7))
    def finish_foreign(self, number: int) -> None:
        """Such a program is done with a message, if that was not taken back meanwhile."""
        held = self.held(FOREIGN)
        path = self.find(held[number % len(held)]) if held else None
        if path is not None:
            path.unlink()
            self.put(held[number % len(held)], None, None)

    @rule(name=st.sampled_from([name for name in NAMES if name]))
    def put_link(self, name: str) -> None:
        """A link where a message could be is left alone."""
        path = self.directory / "in" / "incoming" / name
        if not os.path.lexists(path):
            path.symlink_to(self.outside)
            self.links += 1

    @rule()
    def claim_link(self) -> None:
        """A program takes it for a message, and dies."""
        incoming = self.directory / "in" / "incoming"
        for path in sorted(incoming.iterdir()):
            if path.is_symlink() and not os.path.lexists(incoming.parent / "pending" / path.name):
                path.rename(incoming.parent / "pending" / path.name)
                break

    @rule(
        instance=st.integers(0, INSTANCES - 1),
        part=st.sampled_from(layout.PARTS),
        doing=st.sampled_from(["enqueue", "claim", "recover"]),
    )
    def work_while_a_part_is_a_link(self, instance: int, part: str, doing: str) -> None:
        """A part is a link to that of another queue for a while: nothing may go there, or come from there."""
        queue, decoy = self.instances[instance], self.directory / "decoy"
        here, aside = self.directory / "in" / part, self.directory / "aside"
        before = snapshot(decoy)
        here.rename(aside)
        here.symlink_to(decoy / part)
        number = next(self.serials)
        data = b"%d.0." % number
        enqueued: str | None = None
        claims: list[Claim] = []
        with contextlib.suppress(QueueError, OSError):
            queue._store.parts.refresh()  # as once a second
            match doing:
                case "enqueue":
                    enqueued = queue.enqueue(data)
                case "claim":
                    claims = queue.claim(2)
                case "recover":
                    queue.recover()
        here.unlink()
        aside.rename(here)
        assert snapshot(decoy) == before
        if enqueued:
            self.messages[number] = Model(data)
        self.note_claims(instance, claims)
        self.note_recovery()

    @rule(seconds=st.sampled_from([-86400.0, -1.0, 1.0, 40 * 3600.0]))
    def set_clock(self, seconds: float) -> None:
        self.clock.forward(seconds)

    # -- the books -------------------------------------------------------------------------------------------

    def find(self, message: Model) -> Path | None:
        """Where it is in the queue, before its end."""
        for part in ("incoming", "deferred", "pending", "outgoing"):
            for name in layout.message_names(str(self.directory / "in"), part):
                path = self.directory / "in" / part / name
                if path.read_bytes() == message.data:
                    return path
        return None

    def attempts(self, message: Model) -> int:
        """What is on the disk of a message's attempts."""
        path = self.find(message)
        if path is None:
            return message.attempts
        state = Directory(str(self.directory / "in" / "state"))
        return records.read(state, path.name, path.stat().st_mtime_ns).attempts

    def expected(self) -> Counter[Place]:
        """What the model says is where."""
        messages = self.messages.values()
        originals = Counter(("in", "pending", each.original) for each in messages if each.original is not None)
        return +self.gone + originals + Counter(("in", self.part(each), each.data) for each in messages)

    def part(self, message: Model) -> str:
        """Where it is; a message that is due may be back in `incoming`, which is as good."""
        return "incoming" if message.part == "deferred" and not message.later else message.part

    def books(self) -> Counter[Place]:
        """What is where."""
        found: Counter[Place] = Counter()
        for queue in ("in", "next", "other"):
            for part in HOLDING:
                for name in layout.message_names(str(self.directory / queue), part):
                    data = (self.directory / queue / part / name).read_bytes()
                    message = self.messages.get(serial(data)) if part == "deferred" else None
                    found[queue, self.part(message) if message and not message.later else part, data] += 1
        return found

    @invariant()
    def books_are_right(self) -> None:
        if hasattr(self, "instances"):
            found = self.books()
            expected = self.expected()
            assert found == expected, f"{found - expected} instead of {expected - found}"
            links = [path for path in (self.directory / "in").glob("*/*") if path.is_symlink()]
            assert len(links) == self.links, f"{self.links} links were there, but {links} are left"
            counts["steps"] += 1

    def deliver_all(self) -> None:
        """In the end everybody dies, and one instance delivers all that is left."""
        while self.children:
            self.end_child()
        for instance in range(INSTANCES):
            self.die(instance)
        crash(self.intruder)
        self.clock.forward(2 * LATER)
        queue = self.instances[0] = self.open()
        self.recover(0)
        seen: Counter[int] = Counter()
        while claims := queue.claim(10):
            for claim in claims:
                seen[serial(queue.read(claim.id))] += 1
                queue.commit(claim.id)
        left = [number for number, message in self.messages.items() if message.part != "errors"]
        assert seen == Counter(left), f"delivered {seen}, but {left} were there"


#: With the lock of the interpreter held, so that the copy has it.
libc = ctypes.PyDLL(None)


@contextlib.contextmanager
def before_call(number: int, do: Callable[[], object]) -> Iterator[None]:
    """Do something before the call of that number (from 0) that changes a file or a name."""
    left = itertools.count(number, -1)

    def preceded(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **more: Any) -> Any:
            if next(left) == 0:
                do()
            return call(*arguments, **more)

        return wrapper

    with pytest.MonkeyPatch.context() as patch:
        for module, name in (*((os, name) for name in CALLS), (fs._libc, "renameat2")):
            patch.setattr(module, name, preceded(getattr(module, name)))
        yield


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_queue_behaves_like_its_model_whatever_is_done_and_whoever_dies(tmp_path: Path) -> None:
    machine = type("Machine", (QueueMachine,), {"root": tmp_path})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(os.environ.get("PIPER_EXAMPLES", "400" if ALL else "100")),
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            print_blob=True,
        ),
    )
    summary.add(
        f"model: {counts['runs']} runs of {counts['steps']} steps, {counts['messages']} messages,"
        f" {counts['crashes']} crashes, {counts['cut off']} of them in the middle of an operation,"
        f" {counts['forks']} forks, {counts['foreign claims']} foreign claims: lost 0, torn 0, duplicates 0"
    )
    assert counts["cut off"] > counts["runs"]
