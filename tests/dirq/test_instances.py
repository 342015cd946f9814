"""The lease of an instance: its record lists what it claims, outlives it, says what it died of, and then goes."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from dirq_tools import MakeQueue, Process, claim_one, crash, everything, files, foreign_claim
from piperkit.dirq import DirectoryQueue, fs, instances, recovery
from piperkit.dirq.instances import Listed

Start = Callable[..., Process]


def records(queue: DirectoryQueue) -> list[str]:
    return [name for name in os.listdir(Path(queue.path, "instances")) if name != instances.RECOVERY]


def listed(queue: DirectoryQueue) -> Listed | None:
    """What the record of the only living instance says."""
    ((_, found),) = instances.read(queue._store.parts.instances, "", {})[0].items()
    return found


def attempts(queue: DirectoryQueue) -> dict[str, int]:
    return {claim.id: claim.attempt for claim in queue.claim(1000)}


@pytest.fixture
def queue(make_queue: MakeQueue) -> DirectoryQueue:
    """A queue with the messages a to e, that finds orphans at once."""
    queue = make_queue(orphan_age=0)
    for name in "abcde":
        queue.enqueue(name, name)
    return queue


# -- the list ------------------------------------------------------------------------------------------------


def test_claims_are_listed_before_they_are_made_and_those_that_were_missed_struck_out(
    queue: DirectoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, seen = fs.rename_exclusive, []

    def watched(old: str, new: str, *descriptors: int) -> None:
        found = listed(queue)
        assert found is not None
        seen.append(found.claimed)
        if old == "b":
            foreign_claim(queue, "b")  # which is faster
        rename(old, new, *descriptors)

    monkeypatch.setattr(fs, "rename_exclusive", watched)
    assert [claim.id for claim in queue.claim(3)] == ["a", "c", "d"]
    assert seen[:3] == [("a", "b", "c")] * 3
    assert listed(queue) == Listed(False, (), ("a", "c", "d"))
    for name in "acd":
        queue.cancel(name)
    assert [claim.id for claim in queue.claim(3)] == ["e"]
    queue.cancel("e")
    assert not queue.claim()
    assert listed(queue) == Listed(False, (), ())


def spoil(kind: str, path: Path) -> None:
    """Make a record one that cannot be believed."""
    whole = path.read_bytes()
    with path.open("r+b") as file:
        if kind == "cut off":
            file.truncate(len(whole) - 3)
        elif kind == "one byte":
            file.seek(len(whole) // 2)
            file.write(b"\xff")
        elif kind == "huge":
            file.truncate(10 << 40)
        else:
            file.write(b"[" * 1000)


@pytest.mark.parametrize("kind", ["cut off", "one byte", "huge", "noise"])
def test_list_that_is_torn_is_not_believed(make_queue: MakeQueue, queue: DirectoryQueue, kind: str) -> None:
    other = make_queue(orphan_age=0)
    other.claim(3)
    (record,) = records(other)
    spoil(kind, Path(other.path, "instances", record))
    found = queue.recover()
    assert not found, "it may be written in this moment, and list anything"
    assert found.again is not None
    assert found.again < 1
    crash(other)
    patient = make_queue(orphan_age=3600)
    assert not patient.recover().returned, "of the claims of a dead one nothing is known, as of a foreign program's"
    assert records(queue) == []
    assert set(queue.recover().returned) == set("abc")
    assert set(attempts(queue).values()) == {1}


def test_claims_whose_list_is_gone_are_taken_for_those_of_a_foreign_program(
    make_queue: MakeQueue, queue: DirectoryQueue
) -> None:
    other = make_queue()
    other.claim(3)
    Path(other.path, "instances", records(other)[0]).unlink()
    assert not make_queue(orphan_age=3600).recover()
    assert set(queue.recover().returned) == set("abc")


def test_instance_that_ends_leaves_no_record(make_queue: MakeQueue) -> None:
    queue = make_queue()
    queue.enqueue("a")
    queue.claim()
    assert len(records(queue)) == 1
    queue.close()
    assert os.listdir(Path(queue.path, "instances")) == []


def test_record_of_a_dead_instance_goes_as_soon_as_its_claims_are_settled_and_accuses_no_later_message(
    make_queue: MakeQueue, queue: DirectoryQueue
) -> None:
    dead = make_queue()
    dead.read(claim_one(dead))
    crash(dead)
    assert queue.recover().returned == ("a",)
    assert records(queue) == []
    queue.cancel(claim_one(queue))
    queue.enqueue("another", "a")
    foreign_claim(queue, "a")
    assert queue.recover().returned == ("a",)
    assert attempts(queue)["a"] == 1


def test_record_stays_until_all_that_it_lists_is_settled(
    make_queue: MakeQueue, queue: DirectoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "ORPHANS_MAX", 2)
    dead = make_queue()
    dead.claim(5)
    dead.read("a")
    crash(dead)
    for count in (2, 2, 1):
        assert len(records(queue)) == 1
        found = queue.recover()
        assert len(found.returned) == count
        assert found.again == (None if count == 1 else 0)
    assert records(queue) == []
    assert attempts(queue) == {"a": 2, "b": 1, "c": 1, "d": 1, "e": 1}


# -- what it died of -----------------------------------------------------------------------------------------


def finish_a_batch(queue: DirectoryQueue, name: str) -> None:
    with queue.batch():
        queue.read(name)
        queue.commit(name)


STEPS: dict[str, Callable[[DirectoryQueue, str], object]] = {
    "read": DirectoryQueue.read,
    "cancel": DirectoryQueue.cancel,
    "batch": finish_a_batch,
    "claim": lambda queue, _: queue.claim(),
}


@pytest.mark.parametrize(
    ("steps", "accused"),
    [
        ("", ""),  # nothing was begun
        ("read a", "a"),
        ("read a, read a", "a"),
        ("read a, cancel a, read b", "b"),  # the first that is left
        ("read c", "c"),  # out of turn
        ("read c, read d", "cd"),
        ("read a, read c", "ac"),
        ("read a, read c, cancel a", "bc"),  # b was about to begin, for all that is known
        ("read a, read c, cancel c", "a"),
        ("read c, cancel c", ""),
        ("batch a", ""),  # at the end of a batch nothing is in work
        ("batch a, read b", "b"),
        ("batch c, read a", "a"),
        ("read a, claim e", "a"),  # claiming more does not end the work on what is claimed
        ("read c, claim e", "c"),
        ("read a, cancel a, claim e", ""),
    ],
)
def test_death_is_laid_to_the_charge_of_what_was_in_work(
    make_queue: MakeQueue, queue: DirectoryQueue, steps: str, accused: str
) -> None:
    dead = make_queue()
    dead.claim(4)
    for step in steps.split(", ") if steps else ():
        work, name = step.split()
        STEPS[work](dead, name)
    left = dead.claimed()
    crash(dead)
    assert sorted(queue.recover().returned) == left
    assert {name for name, attempt in attempts(queue).items() if attempt == 2} == set(accused)


def test_deaths_of_instances_with_the_same_pid_are_counted_each(make_queue: MakeQueue) -> None:
    """In a container all have the pid 1."""
    make_queue().enqueue("poison", "poison")
    for _ in range(3):
        victim = make_queue(orphan_age=0)
        victim.read(claim_one(victim))
        crash(victim)
        assert (found := make_queue(orphan_age=0, crash_limit=3).recover())
    assert found.banished == ("poison",)


# -- the lock of recovery ------------------------------------------------------------------------------------


def test_who_waits_long_for_the_lock_of_recovery_names_its_holder_once(
    queue: DirectoryQueue, start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign_claim(queue, "a")
    code = """
from piperkit.dirq import instances
from piperkit.dirq.fs import Directory
lock = instances.lock_recovery(Directory(path + "/instances"))
say("locked")
wait()
"""
    process = start(code, queue.path)
    process.hear()
    process.signal(signal.SIGSTOP)
    assert not queue.recover()
    assert not queue.recover()
    assert caplog.records == [], "it has not taken long"
    monkeypatch.setattr(recovery, "HELD_LONG", 0.0)
    for _ in range(3):
        found = queue.recover()
        assert (bool(found), found.again) == (False, recovery.FAULT_WAIT)
    (record,) = caplog.records
    assert record.levelno >= logging.WARNING
    assert str(process.pid) in record.getMessage()
    process.kill()
    assert queue.recover().returned == ("a",)


@pytest.fixture
def full(small_disk: Path) -> Path:
    """A file that fills a disk, and is to be removed."""
    return small_disk / "ballast"


def fill(ballast: Path) -> None:
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_who_cannot_write_its_list_holds_recovery_off_until_it_can(
    full: Path, make_queue: MakeQueue, caplog: pytest.LogCaptureFixture
) -> None:
    path = full.parent / "in"
    queue, other = make_queue(path), make_queue(path, orphan_age=0)
    for name in "abc":
        queue.enqueue(name * 1000, name)
    fill(full)
    assert [claim.id for claim in queue.claim(2)] == ["a", "b"]
    assert queue.read("a") == b"a" * 1000
    assert "cannot be written down" in caplog.text
    assert not other.recover(), "it would take them for a foreign program's"
    queue.cancel("a")
    full.unlink()
    assert claim_one(queue) == "c"
    assert not other.recover()
    assert listed(queue) == Listed(False, (), ("b", "c"))
    crash(queue)
    assert set(other.recover().returned) == {"b", "c"}


def test_death_of_who_cannot_write_its_list_leaves_its_claims_to_recovery(full: Path, make_queue: MakeQueue) -> None:
    path = full.parent / "in"
    queue, other = make_queue(path), make_queue(path, orphan_age=0)
    queue.enqueue("a", "a")
    fill(full)
    queue.claim()
    assert not other.recover()
    crash(queue)
    assert other.recover().returned == ("a",)


# -- forks ---------------------------------------------------------------------------------------------------

FORK = """
import multiprocessing, signal
queue = DirectoryQueue(path, min_free=0, orphan_age=0)
ids = [claim.id for claim in queue.claim(2)]
queue.read(ids[0])

def child():
    assert queue.claimed() == []
    try:
        queue.read(ids[0])
    except errors.NotClaimed:
        pass
    queue.close()

%s
say("parent")
wait()
for id in queue.claimed():
    assert queue.read(id) == id.encode()
    queue.commit(id)
say(len(queue.claim(10)))
wait()
"""
WAYS = {
    "os.fork": """
if not (pid := os.fork()):
    child()
    say("child")
    signal.pause()
""",
    "multiprocessing": """
def work():
    child()
    say("child")
    signal.pause()
process = multiprocessing.get_context("fork").Process(target=work, daemon=True)
process.start()
""",
    "a child that ends": """
if not (pid := os.fork()):
    child()
    say("child")
    sys.exit()
os.waitpid(pid, 0)
""",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ["goes on", "dies"])
@pytest.mark.slow
def test_forked_child_holds_nothing_and_removes_nothing(
    queue: DirectoryQueue, start: Start, way: str, end: str
) -> None:
    process = start(FORK % WAYS[way], queue.path)
    said = [process.hear(), process.hear()]
    said.remove("child")
    assert said == ["parent"]
    assert not queue.recover()
    assert len(records(queue)) == 1
    if end == "goes on":
        process.tell()
        assert process.hear() == 3
        assert everything(queue).keys() == {"pending"}
    process.kill_alone()
    assert set(queue.recover().returned) == set("cde" if end == "goes on" else "ab")
    assert records(queue) == []


def test_forked_child_may_work_on_the_queue_as_an_instance_of_its_own(queue: DirectoryQueue, start: Start) -> None:
    code = """
queue = DirectoryQueue(path, min_free=0, orphan_age=0)
parents = [claim.id for claim in queue.claim(2)]
pid = os.fork()
if not pid:
    say([claim.id for claim in queue.claim(2)])
    queue.commit("c")
    queue.close()
    os._exit(0)
os.waitpid(pid, 0)
say(queue.claimed())
wait()
queue.close()
"""
    process = start(code, queue.path)
    assert process.hear() == ["c", "d"]
    assert process.hear() == ["a", "b"]
    assert not queue.recover()
    assert set(files(queue, "incoming")) == {"d", "e"}
    process.tell()
    process.end()
    assert set(files(queue, "incoming")) == set("abde")
