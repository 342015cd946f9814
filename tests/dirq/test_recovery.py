"""Claims of dead instances, of living ones, of foreign programs; and what is left lying about."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dirq_tools import FAILURE, Clock, MakeQueue, Process, claim_one, crash, everything, files, foreign_claim, run_all
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.litter import LITTER_AGE

Start = Callable[..., Process]

HOLD = """
queue = DirectoryQueue(path, min_free=0, orphan_age=0)
ids = [claim.id for claim in queue.claim(100)]
if arguments:
    queue.read(ids[0])
say(ids)
wait()
queue.close()
"""


# -- leases --------------------------------------------------------------------------------------------------


def test_claims_of_a_killed_process_are_given_back_and_its_message_in_work_is_counted(
    queue: DirectoryQueue, start: Start
) -> None:
    for name in ("a", "b"):
        queue.enqueue(name, name)
    process = start(HOLD, queue.path, "read")
    assert process.hear() == ["a", "b"]
    assert not queue.recover()
    process.kill()
    assert set(queue.recover().returned) == {"a", "b"}
    assert {claim.id: claim.attempt for claim in queue.claim(10)} == {"a": 2, "b": 1}


def test_claims_of_a_stopped_process_are_left_to_it_however_long_it_takes(
    make_queue: MakeQueue, clock: Clock, start: Start
) -> None:
    queue = make_queue(orphan_age=0)
    queue.enqueue("slow", "slow")
    process = start(HOLD, queue.path, "read")
    assert process.hear() == ["slow"]
    process.signal(signal.SIGSTOP)
    clock.forward(100 * 3600)
    assert not queue.recover()
    assert not queue.claim()
    process.signal(signal.SIGCONT)
    process.tell()
    process.end()
    assert everything(queue) == {"incoming": {"slow": b"slow"}}


@pytest.mark.slow
def test_many_instances_recover_side_by_side_and_each_claim_is_given_back_once(
    queue: DirectoryQueue, start: Start
) -> None:
    for number in range(300):
        queue.enqueue(f"{number}", f"m{number:03}")
    victim = start(HOLD.replace("claim(100)", "claim(300)"), queue.path, "read")
    assert len(victim.hear()) == 300
    victim.kill()
    code = """
queue = DirectoryQueue(path, min_free=0, orphan_age=0)
say("ready")
wait()
returned = []
while found := queue.recover():
    returned += found.returned
say(returned)
queue.close()
"""
    returned = [name for names in run_all([start(code, queue.path) for _ in range(4)]) for name in names]
    assert sorted(returned) == [f"m{number:03}" for number in range(300)]
    claims = queue.claim(300)
    assert [claim.attempt for claim in claims] == [2] + [1] * 299


def test_more_orphans_than_files_may_be_open_are_given_back_all_the_same(queue: DirectoryQueue, start: Start) -> None:
    for number in range(100):
        queue.enqueue(f"{number}", f"m{number:03}")
    victim = start(HOLD, queue.path)
    assert len(victim.hear()) == 100
    victim.kill()
    code = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
queue = DirectoryQueue(path, min_free=0, orphan_age=0)
returned = []
while found := queue.recover():
    returned += found.returned
say(returned)
queue.close()
"""
    assert start(code, queue.path).end() == [f"m{number:03}" for number in range(100)]
    assert queue.counts()["incoming"] == 100


def test_recovery_is_said_with_attempt_and_death(queue: DirectoryQueue, caplog: pytest.LogCaptureFixture) -> None:
    queue.enqueue("x", "x")
    queue.read(claim_one(queue))
    crash(queue)
    DirectoryQueue(queue.path, orphan_age=0).recover()
    assert "x: given back after its daemon died (attempt 1, death 1)" in caplog.text


# -- claims without a lock -----------------------------------------------------------------------------------


def test_child_that_is_started_during_a_recovery_does_not_hold_off_the_next_one(make_queue: MakeQueue) -> None:
    children: list[int] = []

    def forking_clock() -> int:
        if not children:
            children.append(os.fork())  # which a program does before its exec, with all that is open
            if not children[0]:
                signal.pause()
        return time.time_ns()

    first, second = make_queue(clock=forking_clock), make_queue(orphan_age=0)
    second.enqueue("a", "a")
    foreign_claim(second, "a")
    try:
        first.recover()
        assert children, "the clock was not asked"
        assert second.recover().returned == ("a",)
    finally:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)


def test_claim_of_a_foreign_program_is_left_to_it_until_it_is_old(
    make_queue: MakeQueue, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_queue(orphan_age=10)
    queue.enqueue("x", "x")
    foreign_claim(queue, "x")
    found = queue.recover()
    assert not found
    assert found.again is not None
    assert 0 < found.again <= 10
    clock.forward(11)
    assert queue.recover().returned == ("x",)
    assert "x: given back, since nobody holds its claim any more" in caplog.text
    assert queue.claim()[0].attempt == 1


def test_foreign_consumer_works_beside_ours_on_one_queue(make_queue: MakeQueue) -> None:
    queue = make_queue(orphan_age=3600)
    for name in ("a", "b", "c"):
        queue.enqueue(name, name)
    foreign_claim(queue, "b")
    assert [claim.id for claim in queue.claim(10)] == ["a", "c"]
    queue.recover()
    assert set(files(queue, "pending")) == {"a", "b", "c"}
    os.rename(f"{queue.path}/pending/b", f"{queue.path}/errors/b")
    queue.recover()
    assert queue.counts()["errors"] == 1


def test_clock_that_is_set_back_does_not_keep_an_orphan_for_ever(make_queue: MakeQueue, clock: Clock) -> None:
    queue = make_queue(orphan_age=0)
    queue.enqueue("x", "x")
    foreign_claim(queue, "x")
    clock.forward(-3600)
    assert queue.recover().returned == ("x",)


# -- messages that kill --------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3])
def test_message_that_kills_is_banished_after_so_many_deaths(make_queue: MakeQueue, limit: int) -> None:
    make_queue().enqueue("poison", "poison")
    for death in range(1, limit + 1):
        queue = make_queue(orphan_age=0, crash_limit=limit)
        assert queue.read(claim_one(queue)) == b"poison"
        crash(queue)
        found = make_queue(orphan_age=0, crash_limit=limit).recover()
        assert bool(found.banished) == (death == limit)
    assert everything(make_queue())["errors"].keys() == {"poison", "poison.meta"}


def test_messages_that_were_only_claimed_at_the_death_are_not_suspected(make_queue: MakeQueue) -> None:
    make_queue().enqueue("bystander", "bystander")
    for _ in range(5):
        queue = make_queue(orphan_age=0, crash_limit=1)
        assert claim_one(queue) == "bystander"
        crash(queue)
        make_queue(orphan_age=0, crash_limit=1).recover()
    assert everything(make_queue()) == {"incoming": {"bystander": b"bystander"}}


def test_what_an_instance_died_of_is_counted_though_another_one_had_a_message_of_its_name(
    make_queue: MakeQueue,
) -> None:
    other, queue = make_queue(), make_queue()
    other.enqueue("first", "a")
    other.commit(claim_one(other))  # and claims nothing for a while, so its list still has the name
    for name in ("a", "b"):
        queue.enqueue(name, name)
    assert [claim.id for claim in queue.claim(2)] == ["a", "b"]
    queue.read("a")
    crash(queue)
    third = make_queue()
    assert third.recover().returned == ("b",)
    other.close()
    assert third.recover().returned == ("a",)
    assert {claim.id: claim.attempt for claim in third.claim(2)}["a"] == 2


# -- put off, over restarts ----------------------------------------------------------------------------------


def test_put_off_message_keeps_its_time_its_attempts_and_its_arrival_over_a_restart(
    make_queue: MakeQueue, clock: Clock
) -> None:
    queue = make_queue()
    queue.enqueue("x", "x")
    claim = queue.claim()[0]
    queue.retry("x", 100, FAILURE)
    queue.close()
    early = make_queue()
    assert not early.claim()
    due = early.next_look()
    assert due is not None
    assert 90 < due <= 100
    clock.forward(101)
    (later,) = make_queue().claim()
    assert (later.id, later.attempt, later.arrived) == ("x", 2, claim.arrived)


def test_put_off_message_of_an_instance_that_died_comes_again(make_queue: MakeQueue, clock: Clock) -> None:
    queue = make_queue()
    queue.enqueue("x", "x")
    queue.claim()
    queue.retry("x", 100, FAILURE)
    crash(queue)
    clock.forward(101)
    assert [claim.id for claim in make_queue().claim()] == ["x"]


def test_message_that_another_instance_has_put_off_once_more_is_not_taken_back_too_early(make_queue: MakeQueue) -> None:
    first, second = make_queue(), make_queue()
    first.enqueue("x", "x")
    first.claim()
    first.retry("x", 0, FAILURE)
    assert [claim.id for claim in second.claim()] == ["x"]
    second.retry("x", 1000, FAILURE)
    assert not first.claim()
    due = first.next_look()
    assert due is not None
    assert 900 < due <= 1000


def test_message_that_is_put_into_deferred_by_hand_is_due(make_queue: MakeQueue) -> None:
    queue = make_queue()
    Path(queue.path, "deferred", "x").write_text("x")
    assert [claim.id for claim in queue.claim()] == ["x"]


# -- litter --------------------------------------------------------------------------------------------------


def test_file_of_a_foreign_writer_is_litter_when_nobody_has_touched_it_for_36_hours(
    make_queue: MakeQueue, clock: Clock
) -> None:
    assert LITTER_AGE == 36 * 3600
    queue = make_queue(orphan_age=0)
    path = Path(queue.path, "tmp", "half")
    path.write_text("half a mess")
    clock.forward(LITTER_AGE - 60)
    assert queue.recover().litter == 0
    assert path.exists()
    clock.forward(120)
    assert queue.recover().litter == 1
    assert not path.exists()


def test_file_that_its_writer_goes_on_with_is_no_litter(make_queue: MakeQueue, clock: Clock) -> None:
    queue = make_queue(orphan_age=0)
    path = Path(queue.path, "tmp", "slow")
    path.write_text("some")
    clock.forward(LITTER_AGE + 60)
    moment = clock() / 1e9
    os.utime(path, (moment, moment))
    assert queue.recover().litter == 0
    assert path.exists()


def test_writer_of_ours_that_is_still_busy_is_never_disturbed(
    make_queue: MakeQueue, clock: Clock, start: Start
) -> None:
    queue = make_queue(orphan_age=0)
    process = start(
        """
queue = DirectoryQueue(path, min_free=0)
def slowly(fd):
    os.write(fd, b"first, ")
    say("busy")
    wait()
    os.write(fd, b"and last")
say(queue._store.writer.publish(slowly, "slow"))
""",
        queue.path,
    )
    assert process.hear() == "busy"
    clock.forward(100 * LITTER_AGE)
    assert queue.recover().litter == 0
    process.tell()
    assert process.end() == "slow"
    assert files(queue, "incoming") == {"slow": b"first, and last"}


def test_what_a_killed_writer_of_ours_leaves_is_removed_soon(make_queue: MakeQueue, clock: Clock, start: Start) -> None:
    queue = make_queue(orphan_age=10)
    process = start(
        """
queue = DirectoryQueue(path, min_free=0)
def half(fd):
    os.write(fd, b"half")
    say("busy")
    wait()
queue._store.writer.publish(half, None)
""",
        queue.path,
    )
    assert process.hear() == "busy"
    process.kill()
    assert queue.recover().litter == 0  # for now it could be a foreign writer's
    clock.forward(11)
    assert queue.recover().litter == 1
    assert not os.listdir(Path(queue.path, "tmp"))


def test_record_of_a_message_that_a_foreign_program_took_away_is_removed(make_queue: MakeQueue, clock: Clock) -> None:
    queue = make_queue(orphan_age=10)
    queue.enqueue("x", "x")
    queue.claim()
    queue.retry("x", 0, FAILURE)
    assert list(files(queue, "state")) == ["x"]
    os.unlink(Path(queue.path, "deferred", "x"))
    clock.forward(11)
    assert queue.recover().litter == 1
    assert not files(queue, "state")


# -- many instances ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("foreign", [0, 5], ids=["ours", "some foreign"])
def test_many_instances_share_a_queue_without_running_for_the_same_message(
    make_queue: MakeQueue, start: Start, foreign: int
) -> None:
    """Each message is had by one of them, and few attempts to claim one come too late."""
    queue = make_queue()
    with queue.batch():
        for number in range(2000):
            queue.enqueue(f"{number}", f"m{number:05}" if foreign and not number % foreign else None)
    code = """
from piperkit.dirq import fs
queue = DirectoryQueue(path, min_free=0, sync=Sync.OFF)
missed, got = 0, []

def counted(*arguments):
    global missed
    try:
        return rename(*arguments)
    except FileNotFoundError:
        missed += 1
        raise

rename, fs.rename_exclusive = fs.rename_exclusive, counted
say("ready")
wait()
while True:
    claims = queue.claim(32)
    if not claims and not queue.busy():
        break
    for claim in claims:
        got.append(int(queue.read(claim.id)))
        queue.commit(claim.id)
say([missed, got])
queue.close()
"""
    found = list(run_all([start(code, queue.path) for _ in range(8)]))
    assert sorted(number for _, got in found for number in got) == list(range(2000))
    # Running for the same messages, they would come too late for each of them seven times.
    assert sum(missed for missed, _ in found) < 2000 / 2
    assert not sum(queue.counts().values())
