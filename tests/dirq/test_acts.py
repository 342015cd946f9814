"""What an operator does with messages, beside whoever works on them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dirq_tools import Clock, MakeQueue, books
from piperkit.dirq import DirectoryQueue, fs
from piperkit.dirq.acts import Operator
from piperkit.dirq.view import QueueView
from piperkit.errors import TargetUnavailable
from piperkit.message import Failure
from piperkit.operating import Entry

BROKEN = Failure("the host is down", "OSError")


def banish(queue: DirectoryQueue, *names: str) -> list[Entry]:
    for name in names:
        queue.enqueue(os.fsencode(name), name)
    for claim in queue.claim(len(names)):
        queue.banish(claim.id, BROKEN)
    view = QueueView(queue.path)
    return [view.entry("errors", name) for name in names]


def test_requeued_dead_letter_begins_anew_and_says_who_did_it(queue: DirectoryQueue) -> None:
    (entry,) = banish(queue, "a")
    Operator(queue.path, "jane").requeue(entry)
    assert books(queue.path) == {"incoming": [b"a"]}
    assert [name for name in os.listdir(f"{queue.path}/errors") if not name.startswith(".unreadable")] == []
    (claim,) = queue.claim()
    assert (claim.id, claim.attempt, claim.arrived) == ("a", 1, pytest.approx(entry.arrived))
    queue.banish("a", Failure("down again"))
    history = QueueView(queue.path).history(QueueView(queue.path).entry("errors", "a"))
    assert [each["reason"] for each in history] == ["the host is down", "requeued by jane"]


def test_dead_letter_gets_another_name_where_its_own_is_taken(make_queue: MakeQueue) -> None:
    queue = make_queue()
    first, second, third = (banish(queue, name)[0] for name in ("a", "b", "c"))
    for name in ("a", "b", "c"):
        queue.enqueue(f"later {name}", name)
    queue.claim(2)
    queue.retry("b", 3600, BROKEN)
    for entry in (first, second, third):
        Operator(queue.path, "jane").requeue(entry)
    assert books(queue.path) == {
        "incoming": [b"a", b"b", b"c", b"later c"],
        "pending": [b"later a"],
        "deferred": [b"later b"],
    }
    assert {claim.attempt for claim in make_queue().claim(9)} == {1}


def test_moved_message_is_new_in_the_other_queue(make_queue: MakeQueue, elsewhere: Path) -> None:
    queue, other = make_queue(), make_queue("other")
    entry, stays = banish(queue, "a", "b")
    Operator(queue.path, "jane").move(entry, other.path)
    (claim,) = other.claim()
    assert (claim.id, claim.attempt, claim.arrived) == ("a", 1, pytest.approx(entry.arrived))
    far = make_queue(elsewhere / "far")
    for target in (far.path, str(elsewhere / "none")):
        with pytest.raises(TargetUnavailable):
            Operator(queue.path, "jane").move(stays, target)
    assert QueueView(queue.path).entry("errors", "b").reason == BROKEN.reason
    assert sorted(os.listdir(f"{queue.path}/errors")) == ["b", "b.meta"]


def test_message_that_was_put_off_is_tried_now(queue: DirectoryQueue) -> None:
    queue.enqueue("a", "a")
    queue.retry(queue.claim()[0].id, 3600, BROKEN)
    Operator(queue.path, "jane").requeue(QueueView(queue.path).entry("deferred", "a"))
    (claim,) = queue.claim()
    assert (claim.id, claim.attempt) == ("a", 2)


@pytest.mark.parametrize("part", ["incoming", "deferred"])
def test_message_that_is_held_back_waits_until_it_is_released_and_says_who_did_it(
    queue: DirectoryQueue, part: str
) -> None:
    queue.enqueue("a", "a")
    if part == "deferred":
        queue.retry(queue.claim()[0].id, 0, BROKEN)
    operator, view = Operator(queue.path, "jane"), QueueView(queue.path)
    operator.hold(view.entry(part, "a"), "wait")
    assert queue.claim() == []
    assert books(queue.path) == {"hold": [b"a"]}
    assert view.entry("hold", "a").reason == "held by jane: wait"
    operator.requeue(view.entry("hold", "a"))
    (claim,) = queue.claim()
    assert (claim.id, claim.attempt) == ("a", 2 if part == "deferred" else 1)
    queue.banish("a", Failure("no"))
    history = [each["reason"] for each in view.history(view.entry("errors", "a"))]
    assert history == [*([BROKEN.reason] if part == "deferred" else []), "held by jane: wait", "released by jane"]


def test_message_of_the_name_of_one_that_is_held_back_keeps_its_own_history(make_queue: MakeQueue) -> None:
    queue = make_queue()
    operator, view = Operator(queue.path, "jane"), QueueView(queue.path)
    queue.enqueue("first", "a")
    operator.hold(view.entry("incoming", "a"), "wait")
    queue.enqueue("second", "a")
    (claim,) = queue.claim()
    queue.retry(claim.id, 3600, BROKEN)
    assert books(queue.path) == {"hold": [b"first"], "deferred": [b"second"]}
    assert (view.entry("hold", "a").attempts, view.entries("deferred")[0].attempts) == (0, 1)
    operator.hold(view.entries("deferred")[0], "")
    operator.requeue(view.entry("hold", "a"))
    assert view.entry("incoming", "a").attempts == 0
    assert [entry.attempts for entry in view.entries("hold")] == [1]


def test_what_is_known_of_a_message_that_is_held_back_is_no_litter(make_queue: MakeQueue, clock: Clock) -> None:
    queue = make_queue(orphan_age=0)
    queue.enqueue("a", "a")
    queue.retry(queue.claim()[0].id, 3600, BROKEN)
    Operator(queue.path, "jane").hold(QueueView(queue.path).entry("deferred", "a"), "")
    clock.forward(100)
    assert queue.recover().litter == 0
    assert QueueView(queue.path).entry("hold", "a").attempts == 1


@pytest.mark.parametrize("part", ["incoming", "deferred", "hold"])
def test_banished_message_is_a_dead_letter_with_its_history(queue: DirectoryQueue, part: str) -> None:
    queue.enqueue("a", "a")
    operator, view = Operator(queue.path, "jane"), QueueView(queue.path)
    if part == "deferred":
        queue.retry(queue.claim()[0].id, 3600, BROKEN)
    elif part == "hold":
        operator.hold(view.entry("incoming", "a"), "")
    operator.banish(view.entry(part, "a"), "of no use")
    entry = view.entry("errors", "a")
    assert (entry.reason, entry.attempts) == ("banished by jane: of no use", int(part == "deferred"))
    past = {"incoming": [], "deferred": [BROKEN.reason], "hold": ["held by jane"]}[part]
    assert [each["reason"] for each in view.history(entry)] == past
    assert os.listdir(f"{queue.path}/state") == []


@pytest.mark.parametrize("part", ["hold", "errors"])
def test_replaced_message_has_other_contents_and_all_else_as_before(queue: DirectoryQueue, part: str) -> None:
    operator, view = Operator(queue.path, "jane"), QueueView(queue.path)
    if part == "errors":
        banish(queue, "a")
    else:
        queue.enqueue("a", "a")
        operator.hold(view.entry("incoming", "a"), "wait")
    entry = view.entry(part, "a")
    operator.replace(entry, b"another")
    now = view.entry(part, "a")
    assert view.read(now) == b"another"
    assert os.listdir(f"{queue.path}/tmp") == []
    assert (now.arrived, now.reason, now.attempts) == (entry.arrived, entry.reason, entry.attempts)
    operator.requeue(now)
    assert queue.read(queue.claim()[0].id) == b"another"
    with pytest.raises(FileNotFoundError):
        operator.replace(now, b"too late")
    assert books(queue.path) == {"pending": [b"another"]}


def test_message_that_gets_anothers_name_while_it_is_replaced_is_not_written_over(queue: DirectoryQueue) -> None:
    """Another operator comes between the look at the message and the exchange of its file."""
    (entry,) = banish(queue, "a")
    operator = Operator(queue.path, "jane")
    take = operator._take

    def slow(entry: Entry) -> object:
        held = take(entry)
        banish(queue, "b")
        Operator(queue.path, "joe").requeue(entry)
        for suffix in ("", ".meta"):
            os.rename(f"{queue.path}/errors/b{suffix}", f"{queue.path}/errors/a{suffix}")
        return held

    operator._take = slow  # type: ignore[method-assign, assignment]
    with pytest.raises(FileNotFoundError):
        operator.replace(entry, b"x")
    assert books(queue.path) == {"incoming": [b"a"], "errors": [b"b"]}
    assert os.listdir(f"{queue.path}/tmp") == []


def test_neither_message_is_lost_where_what_was_exchanged_moves_on_before_it_is_exchanged_back(
    queue: DirectoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    (entry,) = banish(queue, "a")
    banish(queue, "b")
    operator = Operator(queue.path, "jane")
    exchange = fs.Directory.exchange
    errors = Path(queue.path, "errors")

    def slow(self: fs.Directory, name: str, target: fs.Directory, other: str) -> None:
        """Others come before the exchange, and before it is undone."""
        if Path(queue.path, "tmp", name).read_bytes() == b"x":
            os.rename(errors / "a", Path(queue.path, "incoming", "a"))
            os.rename(errors / "b", errors / "a")
        else:
            os.rename(errors / "a", Path(queue.path, "incoming", "other"))
        exchange(self, name, target, other)

    monkeypatch.setattr(fs.Directory, "exchange", slow)
    with pytest.raises(FileNotFoundError):
        operator.replace(entry, b"x")
    left = books(queue.path)
    assert left["incoming"] == [b"a", b"x"]
    assert b"b" in left["errors"]
    assert os.listdir(f"{queue.path}/tmp") == []


def test_queue_is_paused_by_its_owner_until_that_is_over(queue: DirectoryQueue) -> None:
    operator, view = Operator(queue.path, "jane"), QueueView(queue.path)
    assert view.paused() is None
    operator.pause(None, "the database is moved")
    paused = queue.paused()
    assert paused is not None
    assert (paused.by, paused.until, paused.reason) == ("jane", None, "the database is moved")
    operator.pause(time.time() - 1, "")
    assert queue.paused() is None
    operator.pause(time.time() + 100, "")
    assert operator.resume() is True
    assert operator.resume() is False
    assert not os.path.exists(f"{queue.path}/paused")


@pytest.mark.parametrize("contents", [b"", b"{", b"[]", b'{"by": 3, "until": "soon", "reason": 7}', b"\0" * 99])
def test_any_file_of_that_name_pauses_a_queue(queue: DirectoryQueue, contents: bytes) -> None:
    Path(queue.path, "paused").write_bytes(contents)
    assert queue.paused() is not None
    assert str(queue.paused())


def test_instances_that_live_are_seen_with_what_they_have_claimed(make_queue: MakeQueue) -> None:
    queue, other = make_queue(), make_queue()
    queue.enqueue_many(["a", "b", "c"])
    queue.claim(2)
    other.claim(1)
    found = QueueView(queue.path).instances()
    assert found is not None
    assert [(each.pid, each.claims) for each in found] == [(os.getpid(), 2), (os.getpid(), 1)]
    assert all(abs(each.since - time.time()) < 60 for each in found)
    queue.close()
    other.close()
    assert QueueView(queue.path).instances() == []


@pytest.mark.parametrize("part", ["incoming", "deferred", "errors"])
def test_removed_message_is_gone_with_what_is_known_of_it(queue: DirectoryQueue, part: str) -> None:
    queue.enqueue("a", "a")
    if part == "deferred":
        queue.retry(queue.claim()[0].id, 3600, BROKEN)
    elif part == "errors":
        queue.banish(queue.claim()[0].id, BROKEN)
    Operator(queue.path, "jane").remove(QueueView(queue.path).entry(part, "a"))
    assert books(queue.path) == {}
    assert os.listdir(f"{queue.path}/errors") == os.listdir(f"{queue.path}/state") == []


@pytest.mark.parametrize("act", ["requeue", "remove"])
def test_another_message_of_that_name_is_left_alone(queue: DirectoryQueue, act: str) -> None:
    (entry,) = banish(queue, "a")
    os.rename(entry.path, f"{entry.path}.old")
    banish(queue, "a")
    before = books(queue.path)
    with pytest.raises(FileNotFoundError):
        getattr(Operator(queue.path, "jane"), act)(entry)
    assert books(queue.path) == before
    assert QueueView(queue.path).entry("errors", "a").reason == BROKEN.reason


@pytest.mark.parametrize("act", ["requeue", "remove"])
def test_message_that_is_in_work_or_gone_is_left_alone(queue: DirectoryQueue, act: str) -> None:
    queue.enqueue("a", "a")
    entry = QueueView(queue.path).entry("incoming", "a")
    queue.claim()
    for there in (entry, QueueView(queue.path).entry("pending", "a")):
        if (act, there.part) != ("requeue", "incoming"):
            with pytest.raises(FileNotFoundError):
                getattr(Operator(queue.path, "jane"), act)(there)
    queue.commit("a")


@pytest.mark.parametrize("name", ["a.meta", "a" * 255, "\udcff", "a" * 251])
def test_dead_letter_with_an_odd_name_loses_its_sidecar_too(queue: DirectoryQueue, name: str) -> None:
    (entry,) = banish(queue, name)
    other, _ = banish(queue, "a", "b")
    operator = Operator(queue.path, "jane")
    operator.requeue(entry)
    assert QueueView(queue.path).entry("errors", "a").reason == BROKEN.reason
    operator.remove(QueueView(queue.path).entry("errors", "b"))
    operator.requeue(other)
    assert os.listdir(f"{queue.path}/errors") == []
    assert books(queue.path)["incoming"] == sorted([b"a", os.fsencode(name)])
