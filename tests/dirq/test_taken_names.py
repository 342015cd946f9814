"""Nothing is ever overwritten: what happens where a name is taken, in each place that a message can move to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dirq_tools import FAILURE, Clock, MakeQueue, claim_one, crash, everything, files
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.view import QueueView


def put(queue: DirectoryQueue, name: str, contents: str) -> None:
    """What a foreign producer does, which may replace a message in `incoming` but nothing else."""
    temporary = Path(queue.path, "tmp", name)
    temporary.write_text(contents)
    temporary.rename(Path(queue.path, "incoming", name))


def test_name_that_is_used_again_waits_while_the_first_is_in_work(queue: DirectoryQueue) -> None:
    put(queue, "name", "first")
    assert claim_one(queue) == "name"
    put(queue, "name", "second")
    later = queue.enqueue("another")
    assert [claim.id for claim in queue.claim(5)] == [later]
    assert everything(queue) == {"incoming": {"name": b"second"}, "pending": {"name": b"first", later: b"another"}}
    assert queue.next_look() is not None  # so nobody has to announce that the first is finished
    assert queue.read("name") == b"first"
    queue.commit("name")
    assert claim_one(queue) == "name"
    assert queue.read("name") == b"second"


def test_name_that_another_instance_works_on_waits_too(make_queue: MakeQueue) -> None:
    one, other = make_queue(), make_queue()
    put(one, "name", "first")
    one.claim()
    put(one, "name", "second")
    assert other.claim() == []
    assert one.read("name") == b"first"
    one.cancel("name")
    assert claim_one(other) == "name"
    assert other.read("name") == b"second"


def test_enqueue_file_onto_a_taken_name_gets_another_one(queue: DirectoryQueue, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"second")
    queue.enqueue("first", "name")
    second = queue.enqueue_file(tmp_path / "source", "name")
    assert files(queue, "incoming") == {"name": b"first", second: b"second"}
    assert (tmp_path / "source").read_bytes() == b"second"


@pytest.mark.parametrize("contents", [None, "second, changed"])
def test_commit_onto_a_taken_name_gets_another_one_and_says_so(
    make_queue: MakeQueue, caplog: pytest.LogCaptureFixture, contents: str | None
) -> None:
    following = make_queue("next")
    queue = make_queue(next_queue=following.path)
    following.enqueue("first", "name")
    put(queue, "name", "second")
    queue.commit(claim_one(queue), contents)
    found = files(following, "incoming")
    assert found.pop("name") == b"first"
    ((second, data),) = found.items()
    assert data == (contents or "second").encode()
    assert second in caplog.text
    assert everything(queue) == {}


def test_dispatch_onto_a_taken_name_gets_another_one(make_queue: MakeQueue) -> None:
    other, queue = make_queue("other"), make_queue()
    other.enqueue("first", "name")
    put(queue, "name", "second")
    queue.dispatch(claim_one(queue), other.path)
    assert sorted(files(other, "incoming").values()) == [b"first", b"second"]


def test_duplicate_onto_a_taken_name_gets_another_one(make_queue: MakeQueue) -> None:
    other, queue = make_queue("other"), make_queue()
    other.enqueue("first", "name")
    put(queue, "name", "second")
    queue.duplicate(claim_one(queue), other.path)
    assert sorted(files(other, "incoming").values()) == [b"first", b"second"]
    assert files(queue, "pending") == {"name": b"second"}


def test_equal_contents_of_two_messages_are_two_messages(make_queue: MakeQueue) -> None:
    following = make_queue("next")
    queue = make_queue(next_queue=following.path)
    for _ in range(2):
        put(queue, "name", "the same")
        queue.commit(claim_one(queue))
    assert list(files(following, "incoming").values()) == [b"the same"] * 2


def test_banish_onto_a_taken_name_keeps_both_with_their_reasons(queue: DirectoryQueue) -> None:
    for contents in ("first", "second", "third"):
        put(queue, "name", contents)
        queue.banish(claim_one(queue), type(FAILURE)(f"{contents} is broken"))
    view = QueueView(queue.path)
    found = {view.read(entry).decode(): view.report(entry) for entry in view.entries("errors")}
    assert {contents: report and report["reason"] for contents, report in found.items()} == {
        contents: f"{contents} is broken" for contents in ("first", "second", "third")
    }
    assert {report and report["name"] for report in found.values()} == {"name"}
    assert queue.counts()["errors"] == 3


def test_retry_onto_a_taken_name_keeps_both_and_their_attempts(make_queue: MakeQueue, clock: Clock) -> None:
    queue = make_queue()
    put(queue, "name", "first")
    first = claim_one(queue)
    queue.retry(first, 1000, FAILURE)
    put(queue, "name", "second")
    second = claim_one(queue)
    queue.retry(second, 2000, FAILURE)
    assert sorted(files(queue, "deferred").values()) == [b"first", b"second"]
    clock.forward(1500)
    after = make_queue()
    (claim,) = after.claim(5)
    assert (after.read(claim.id), claim.attempt) == (b"first", 2)
    clock.forward(1000)
    last = make_queue()
    (claim,) = last.claim(5)
    assert (last.read(claim.id), claim.attempt) == (b"second", 2)


def test_due_message_whose_name_is_taken_by_now_keeps_its_attempts(make_queue: MakeQueue, clock: Clock) -> None:
    queue = make_queue()
    put(queue, "name", "first")
    queue.retry(claim_one(queue), 1000, FAILURE)
    put(queue, "name", "second")
    clock.forward(2000)
    after = make_queue()
    for contents, attempt in ((b"first", 2), (b"second", 1)):  # which waits until the first is settled
        (claim,) = after.claim(5)
        assert (after.read(claim.id), claim.attempt) == (contents, attempt)
        assert after.busy() == (attempt == 2)
        after.commit(claim.id)


def test_returned_message_whose_name_is_taken_by_now_keeps_its_attempts(make_queue: MakeQueue) -> None:
    queue = make_queue(orphan_age=0)
    put(queue, "name", "first")
    queue.retry(claim_one(queue), 0, FAILURE)
    (claim,) = queue.claim()
    put(queue, "name", "second")
    queue.requeue(claim.id)
    assert {queue.read(claim.id): claim.attempt for claim in queue.claim(5)} == {b"first": 2, b"second": 1}


def test_orphan_whose_name_is_taken_by_now_keeps_its_death(make_queue: MakeQueue) -> None:
    dead, queue = make_queue(), make_queue(orphan_age=0)
    put(queue, "name", "first")
    dead.read(claim_one(dead))
    put(queue, "name", "second")
    crash(dead)
    queue.recover()
    assert {queue.read(claim.id): claim.attempt for claim in queue.claim(5)} == {b"first": 2, b"second": 1}


def test_death_of_a_later_message_is_not_put_down_to_one_of_the_same_name_that_waits(
    make_queue: MakeQueue, clock: Clock
) -> None:
    queue = make_queue(orphan_age=0)
    put(queue, "name", "first")
    queue.retry(claim_one(queue), 1000, FAILURE)
    put(queue, "name", "second")
    dead = make_queue()
    dead.read(claim_one(dead))
    crash(dead)
    queue.recover()
    (claim,) = queue.claim(5)
    assert (queue.read(claim.id), claim.attempt) == (b"second", 2)
    assert queue.next_look() is not None
    clock.forward(2000)
    (claim,) = make_queue().claim(5)
    assert (Path(queue.path, "pending", claim.id).read_bytes(), claim.attempt) == (b"first", 2)


def test_later_message_of_the_name_does_not_lead_a_dispatched_one_astray(make_queue: MakeQueue) -> None:
    other, following = make_queue("other"), make_queue("next")
    queue = make_queue(next_queue=following.path, orphan_age=0)
    put(queue, "name", "first")
    held = queue._held[claim_one(queue)]
    queue._begin_move(held, other.path, b"first, changed", other.path)
    crash(queue)
    put(queue, "name", "second")
    later = make_queue(next_queue=following.path)
    for claim in later.claim(5):
        later.retry(claim.id, 1000, FAILURE)
    assert not later.claim()  # from now on it lists the name no longer
    queue.recover()
    assert files(other, "incoming").popitem()[1] == b"first, changed"
    assert files(following, "incoming") == {}


def test_same_file_in_both_places_has_arrived_already(make_queue: MakeQueue) -> None:
    """As after a crash between link(2) and unlink(2), or a power cut on btrfs."""
    following = make_queue("next")
    queue = make_queue(next_queue=following.path)
    id = queue.enqueue("a")
    queue.claim()
    os.link(Path(queue.path, "pending", id), Path(following.path, "incoming", id))
    queue.commit(id)
    assert everything(following) == {"incoming": {id: b"a"}}
    assert everything(queue) == {}
