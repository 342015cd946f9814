"""What every engine has to do, by the interface in `piperkit.queue` alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from dirq_tools import FAILURE, OPERATIONS
from kinds import Engine
from piperkit.errors import InvalidId, MessageTooLarge, NotClaimed, TargetUnavailable
from piperkit.queue import Queue

Until = Callable[..., None]


def ids(queue: Queue, limit: int = 100) -> list[str]:
    return [claim.id for claim in queue.claim(limit)]


def one(queue: Queue) -> str:
    (claim,) = queue.claim()
    return claim.id


def contents(engine: Engine, name: str) -> dict[str, bytes]:
    """What another consumer of a queue gets; it gives everything back."""
    queue = engine.open(name)
    found = {claim.id: queue.read(claim.id) for claim in queue.claim(100)}
    queue.close()
    return found


def counted(queue: Queue) -> dict[str, int]:
    return {part: count for part, count in queue.counts().items() if count}


# -- enqueue and claim ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (b"bytes\x00\xff\r\n", b"bytes\x00\xff\r\n"),
        ("text: žluť\r\n", "text: žluť\r\n".encode()),
        ({"a": [1, "ž"]}, '{"a":[1,"ž"]}'.encode()),
        ([1, 2], b"[1,2]"),
        (b"", b""),
        ("", b""),
    ],
    ids=["bytes", "text", "dict", "list", "no bytes", "no text"],
)
def test_what_is_enqueued_is_what_is_read(engine: Engine, given: Any, stored: bytes) -> None:
    queue = engine.open()
    id = queue.enqueue(given)
    (claim,) = queue.claim()
    assert (claim.id, claim.attempt, claim.size) == (id, 1, len(stored))
    assert queue.read(id) == stored


def test_what_cannot_be_contents_is_refused(engine: Engine) -> None:
    queue = engine.open()
    with pytest.raises(TypeError):
        queue.enqueue(12)  # type: ignore[arg-type]
    assert counted(queue) == {}


def test_enqueued_message_has_the_name_that_it_is_given(engine: Engine) -> None:
    queue = engine.open()
    assert queue.enqueue("a", "my.name") == "my.name"
    assert contents(engine, "in") == {"my.name": b"a"}


def test_taken_name_is_not_given_again(engine: Engine) -> None:
    queue = engine.open()
    first, second = queue.enqueue("first", "name"), queue.enqueue("second", "name")
    assert first == "name" != second
    assert contents(engine, "in") == {first: b"first", second: b"second"}


def test_message_over_the_limit_is_not_enqueued(engine: Engine) -> None:
    queue = engine.open(message_max=10)
    with pytest.raises(MessageTooLarge):
        queue.enqueue(b"x" * 11)
    assert counted(queue) == {}
    queue.enqueue(b"x" * 10)
    assert counted(queue) == {"incoming": 1}


def test_empty_queue_has_nothing_to_claim(engine: Engine) -> None:
    queue = engine.open()
    assert queue.claim() == []
    assert queue.claim(10) == []
    assert queue.next_look() is None
    assert not queue.busy()


def test_oldest_messages_are_claimed_first_and_no_more_than_asked_for(engine: Engine) -> None:
    queue = engine.open()
    enqueued = [queue.enqueue(f"{i}") for i in range(10)]
    assert ids(queue, 1) == enqueued[:1]
    assert ids(queue, 4) == enqueued[1:5]
    assert ids(queue, 0) == []
    assert queue.busy()
    assert queue.next_look() is not None
    assert ids(queue, 100) == enqueued[5:]
    assert queue.claimed() == enqueued


def test_names_of_ours_come_by_age_and_foreign_ones_by_name(engine: Engine) -> None:
    queue = engine.open()
    for name in ("zebra", "1", "apple", "9999999999.nearly.ours"):
        engine.put_foreign("in", name, name.encode())
    ours = [queue.enqueue("a"), queue.enqueue("b")]
    found = ids(queue)
    assert [id for id in found if id in ours] == ours
    assert [id for id in found if id not in ours] == ["1", "9999999999.nearly.ours", "apple", "zebra"]


def test_message_that_comes_later_is_claimed_later(engine: Engine) -> None:
    queue, producer = engine.open(), engine.open()
    first = producer.enqueue("1")
    assert ids(queue) == [first]
    second = producer.enqueue("2")
    assert ids(queue) == [second]


def test_message_is_claimed_by_one_instance_only(engine: Engine) -> None:
    one, other = engine.open(), engine.open()
    enqueued = {one.enqueue(f"{i}") for i in range(10)}
    mine, theirs = set(ids(one, 5)), set(ids(other))
    assert mine | theirs == enqueued
    assert not mine & theirs
    assert ids(one) == ids(other) == []


def test_reading_does_not_use_a_message_up(engine: Engine) -> None:
    queue = engine.open()
    queue.enqueue("again")
    id = one(queue)
    assert queue.read(id) == queue.read(id) == b"again"


# -- settling ------------------------------------------------------------------------------------------------


def test_update_replaces_the_contents_and_keeps_everything_else(engine: Engine) -> None:
    queue = engine.open()
    queue.enqueue("old")
    (before,) = queue.claim()
    queue.update(before.id, "new and longer")
    assert queue.claimed() == [before.id]
    assert queue.read(before.id) == b"new and longer"
    queue.update(before.id, b"")
    assert queue.read(before.id) == b""
    queue.requeue(before.id)
    (after,) = queue.claim()
    assert (after.id, after.arrived, after.attempt, after.size) == (before.id, before.arrived, 1, 0)


def test_update_over_the_limit_changes_nothing(engine: Engine) -> None:
    queue = engine.open(message_max=10)
    id = queue.enqueue("old")
    queue.claim()
    with pytest.raises(MessageTooLarge):
        queue.update(id, "x" * 11)
    assert queue.read(id) == b"old"


def test_commit_deletes_a_message_where_there_is_no_next_queue(engine: Engine) -> None:
    queue = engine.open()
    queue.enqueue("a")
    queue.commit(one(queue))
    assert (counted(queue), queue.claimed()) == ({}, [])
    queue.enqueue("b")
    queue.commit(one(queue), "contents that nobody gets")
    assert (counted(queue), queue.claimed()) == ({}, [])


def test_commit_moves_a_message_to_the_next_queue_under_its_name(engine: Engine) -> None:
    engine.open("next")
    queue = engine.open("in", "next")
    id = queue.enqueue("a")
    queue.commit(one(queue))
    assert (counted(queue), queue.claimed()) == ({}, [])
    assert contents(engine, "next") == {id: b"a"}


def test_commit_with_contents_moves_the_new_ones(engine: Engine) -> None:
    engine.open("next")
    queue = engine.open("in", "next")
    id = queue.enqueue("a")
    arrived = queue.claim()[0].arrived
    queue.commit(id, {"new": 1})
    assert (counted(queue), queue.claimed()) == ({}, [])
    assert contents(engine, "next") == {id: b'{"new":1}'}
    assert engine.open("next").claim()[0].arrived == arrived


def test_message_keeps_its_name_through_a_chain_of_queues(engine: Engine) -> None:
    engine.open("third")
    first, second = engine.open("first", "second"), engine.open("second", "third")
    first.enqueue("a", "my name")
    first.commit(one(first))
    second.commit(one(second))
    assert contents(engine, "third") == {"my name": b"a"}


def test_cancel_deletes_a_message_even_where_there_is_a_next_queue(engine: Engine) -> None:
    engine.open("next")
    queue = engine.open("in", "next")
    queue.enqueue("a")
    queue.cancel(one(queue))
    assert (counted(queue), queue.claimed()) == ({}, [])
    assert contents(engine, "next") == {}


def test_banished_message_is_kept_with_its_reason(engine: Engine) -> None:
    queue = engine.open()
    id = queue.enqueue("a")
    queue.banish(one(queue), FAILURE)
    assert (counted(queue), queue.claimed()) == ({"errors": 1}, [])
    assert engine.reason("in", id) == FAILURE.reason
    assert ids(queue) == []


def test_requeued_message_comes_again_and_counts_no_attempt(engine: Engine) -> None:
    queue = engine.open()
    id = queue.enqueue("a")
    for _ in range(3):
        (claim,) = queue.claim()
        assert (claim.id, claim.attempt) == (id, 1)
        assert queue.read(id) == b"a"
        queue.requeue(id)
        assert (counted(queue), queue.claimed()) == ({"incoming": 1}, [])


def test_put_off_message_is_not_claimed_before_its_time(engine: Engine) -> None:
    queue, other = engine.open(), engine.open()
    queue.enqueue("a")
    queue.retry(one(queue), 3600, FAILURE)
    assert (counted(queue), queue.claimed()) == ({"deferred": 1}, [])
    assert ids(queue) == ids(other) == []
    seconds = queue.next_look()
    assert seconds is not None
    assert 3000 < seconds <= 3600


def test_put_off_message_comes_again_and_counts_the_attempt(engine: Engine, until: Until) -> None:
    queue = engine.open()
    id = queue.enqueue("a")
    claims = queue.claim()
    for attempt in range(1, 4):
        assert (claims[-1].id, claims[-1].attempt) == (id, attempt)
        queue.retry(id, 0.01, FAILURE)
        until(lambda: not claims.extend(queue.claim()) and queue.claimed(), "the next attempt")
    assert queue.read(id) == b"a"


def test_put_off_message_holds_up_no_other(engine: Engine) -> None:
    queue = engine.open()
    queue.enqueue("a")
    queue.retry(one(queue), 3600, FAILURE)
    later = queue.enqueue("b")
    assert ids(queue) == [later]


@pytest.mark.parametrize("changed", [None, "new"])
def test_dispatched_message_moves_to_that_queue(engine: Engine, changed: str | None) -> None:
    engine.open("next")
    engine.open("other")
    queue = engine.open("in", "next")
    id = queue.enqueue("a")
    queue.dispatch(one(queue), engine.address("other"), changed)
    assert (counted(queue), queue.claimed()) == ({}, [])
    assert contents(engine, "next") == {}
    assert contents(engine, "other") == {id: (changed or "a").encode()}


def test_duplicated_message_is_copied_and_stays_claimed(engine: Engine) -> None:
    engine.open("other")
    queue = engine.open()
    id = queue.enqueue("a")
    queue.claim()
    queue.duplicate(id, engine.address("other"))
    assert contents(engine, "other") == {id: b"a"}
    assert queue.claimed() == [id]
    queue.update(id, "b")
    assert queue.read(id) == b"b"
    assert contents(engine, "other") == {id: b"a"}
    queue.commit(id)


def test_duplicate_copies_the_message_as_it_is_now(engine: Engine) -> None:
    engine.open("other")
    queue = engine.open()
    id = queue.enqueue("a")
    queue.claim()
    queue.update(id, "b")
    queue.duplicate(id, engine.address("other"))
    assert contents(engine, "other") == {id: b"b"}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_message_that_is_not_ours_is_not_touched(engine: Engine, operation: str) -> None:
    engine.open("next")
    queue, other = engine.open("in", "next"), engine.open("in", "next")
    claimed, free = queue.enqueue("claimed by another"), queue.enqueue("claimed by nobody")
    assert ids(other, 1) == [claimed]
    for id in (claimed, free, "no such message"):
        with pytest.raises(NotClaimed):
            OPERATIONS[operation](queue, id, engine.address("next"))
    assert counted(queue) == {"incoming": 1, "pending": 1}
    assert other.read(claimed) == b"claimed by another"
    assert contents(engine, "next") == {}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("id", ["", ".", "..", ".hidden", "../errors/x", "a/b", "/etc/passwd", "nul\0", "x" * 256])
def test_id_that_can_be_no_message_is_refused(engine: Engine, operation: str, id: str) -> None:
    engine.open("next")
    queue = engine.open("in", "next")
    queue.enqueue("a")
    queue.claim()
    with pytest.raises(InvalidId):
        OPERATIONS[operation](queue, id, engine.address("next"))
    assert counted(queue) == {"pending": 1}


@pytest.mark.parametrize("operation", ["commit", "cancel", "banish", "retry", "requeue", "dispatch"])
def test_settled_message_is_not_ours_any_more(engine: Engine, operation: str) -> None:
    engine.open("next")
    queue = engine.open("in", "next")
    id = queue.enqueue("a")
    queue.claim()
    OPERATIONS[operation](queue, id, engine.address("next"))
    assert queue.claimed() == []
    for again in OPERATIONS.values():
        with pytest.raises(NotClaimed):
            again(queue, id, engine.address("next"))


@pytest.mark.parametrize("operation", ["dispatch", "dispatch with contents", "duplicate"])
def test_target_that_is_not_there_leaves_the_message_claimed(engine: Engine, operation: str) -> None:
    queue = engine.open()
    id = queue.enqueue("a")
    queue.claim()
    with pytest.raises(TargetUnavailable):
        OPERATIONS[operation](queue, id, engine.address("nowhere"))
    assert queue.read(id) == b"a"
    assert counted(queue) == {"pending": 1}
    queue.commit(id)
    assert counted(queue) == {}


# -- the queue as a whole --------------------------------------------------------------------------------------


def test_counts_say_where_the_messages_are(engine: Engine) -> None:
    queue = engine.open()
    for i in range(10):
        queue.enqueue(f"{i}")
    claimed = ids(queue, 6)
    queue.banish(claimed[0], FAILURE)
    queue.retry(claimed[1], 3600, FAILURE)
    queue.retry(claimed[2], 3600, FAILURE)
    assert counted(queue) == {"incoming": 4, "pending": 3, "deferred": 2, "errors": 1}


def test_room_is_what_the_next_queue_can_take(engine: Engine) -> None:
    following = engine.open("next")
    queue = engine.open("in", "next")
    assert queue.room(2) == 2
    following.enqueue("a")
    assert queue.room(2) == 1
    following.enqueue("b")
    following.enqueue("c")
    assert queue.room(2) == 0
    following.claim(2)
    assert queue.room(2) == 1
    assert following.room(5) == 5  # it has no next queue, so there is no limit to its room


def test_claims_of_a_dead_instance_are_given_back(engine: Engine) -> None:
    dead, queue = engine.open(), engine.open()
    enqueued = [queue.enqueue(f"{i}") for i in range(3)]
    dead.claim(3)
    engine.crash(dead)
    found = queue.recover()
    assert sorted(found.returned) == enqueued
    assert found
    assert [(claim.id, claim.attempt) for claim in queue.claim(3)] == [(id, 1) for id in enqueued]
    assert not queue.recover()


def test_attempt_that_killed_its_instance_is_counted(engine: Engine) -> None:
    dead, queue = engine.open(), engine.open()
    first, second = queue.enqueue("1"), queue.enqueue("2")
    dead.claim(2)
    dead.read(first)
    engine.crash(dead)
    queue.recover()
    assert {claim.id: claim.attempt for claim in queue.claim(2)} == {first: 2, second: 1}


def test_message_that_kills_its_instances_is_banished(engine: Engine) -> None:
    queue = engine.open(crash_limit=2)
    id = queue.enqueue("deadly")
    for deaths in (1, 2):
        victim = engine.open()
        victim.read(one(victim))
        engine.crash(victim)
        found = queue.recover()
        assert (found.returned, found.banished) == (((id,), ()) if deaths < 2 else ((), (id,)))
    assert counted(queue) == {"errors": 1}
    assert "died" in engine.reason("in", id)


def test_claims_of_a_living_instance_are_left_to_it(engine: Engine) -> None:
    living, queue = engine.open(), engine.open()
    id = queue.enqueue("a")
    living.read(one(living))
    assert not queue.recover()
    assert living.read(id) == b"a"
    living.commit(id)
    assert not living.recover()


def test_closed_instance_has_given_its_claims_back(engine: Engine) -> None:
    queue, other = engine.open(), engine.open()
    enqueued = [queue.enqueue(f"{i}") for i in range(3)]
    queue.read(queue.claim(3)[0].id)
    queue.close()
    queue.close()
    assert not other.recover()
    assert [(claim.id, claim.attempt) for claim in other.claim(3)] == [(id, 1) for id in enqueued]


def test_batch_of_operations_does_what_they_do_alone(engine: Engine) -> None:
    engine.open("next")
    queue = engine.open("in", "next")
    with queue.batch():
        enqueued = [queue.enqueue(f"{i}") for i in range(3)]
    with queue.batch():
        claimed = ids(queue)
        queue.commit(claimed[0])
        queue.commit(claimed[1], "new")
        queue.banish(claimed[2], FAILURE)
    assert claimed == enqueued
    assert contents(engine, "next") == {enqueued[0]: b"0", enqueued[1]: b"new"}
    assert counted(queue) == {"errors": 1}


def test_batch_takes_numbers_and_contents_of_whatever_type(engine: Engine) -> None:
    class Bytes(bytes):
        pass

    class Seconds(float):
        pass

    queue = engine.open("in")
    with queue.batch():
        queue.enqueue_many(["0", b"1", Bytes(b"2"), bytearray(b"3")])
    claimed = ids(queue)
    assert [queue.read(id) for id in claimed] == [b"0", b"1", b"2", b"3"]
    with queue.batch():
        for id, new in zip(claimed, ("a", b"b", Bytes(b"c"), bytearray(b"d")), strict=True):
            queue.update(id, new)
    assert [queue.read(id) for id in claimed] == [b"a", b"b", b"c", b"d"]
    with queue.batch():
        for id, delay in zip(claimed, (60, 60.5, Seconds(60), 10**400), strict=True):
            queue.retry(id, delay, FAILURE)
    assert counted(queue) == {"deferred": 4}


def test_old_dead_letters_can_be_deleted(engine: Engine) -> None:
    queue = engine.open()
    queue.enqueue("a")
    queue.banish(one(queue), FAILURE)
    assert queue.expire_errors(3600) == 0
    assert counted(queue) == {"errors": 1}
    assert queue.expire_errors(-1) == 1
    assert counted(queue) == {}


def test_arrival_wakes_whoever_waits_for_it(engine: Engine, until: Until) -> None:
    import select

    queue = engine.open()
    watch = queue.watch()
    try:
        ready = lambda: bool(select.select([watch.fileno()], [], [], 0)[0])  # noqa: E731  # shorter than a function
        assert not ready()
        queue.enqueue("a")
        until(ready, "the watch to be readable")
        watch.drain()
        assert not ready()
    finally:
        watch.close()


def test_contents_of_many_kinds_pass_a_chain_unchanged(engine: Engine) -> None:
    engine.open("next")
    queue = engine.open("in", "next")
    samples = [b"", b"\0", b"\r\n", b"\n\r", os.urandom(100_000), json.dumps({"a": "ž"}).encode(), b"\xff\xfe"]
    enqueued = {queue.enqueue(sample): sample for sample in samples}
    for id in ids(queue):
        queue.commit(id)
    assert contents(engine, "next") == enqueued
