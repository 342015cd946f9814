"""What every engine has to do for operators, by the interfaces in `piperkit.operating` alone."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from dirq_tools import FAILURE
from kinds import Engine
from piperkit.errors import QueueError, TargetUnavailable
from piperkit.message import Failure
from piperkit.operating import HOLDING, Copy, Entry, Operator, View
from piperkit.queue import Queue


def parts(view: View) -> dict[str, int]:
    return {part: number for part, number in view.counts().items() if number}


def only(view: View, part: str) -> Entry:
    (entry,) = view.each(part)
    return entry


def fill(queue: Queue) -> dict[str, str]:
    """A message in each part but `outgoing` and `hold`; their ids by part."""
    ids = {part: queue.enqueue(part) for part in ("errors", "deferred", "pending", "incoming")}
    queue.claim(3)
    queue.banish(ids["errors"], Failure("it is broken: 7"))
    queue.retry(ids["deferred"], 3600, FAILURE)
    return ids


#: Each act, by what it does to a message that is given.
ACTS: dict[str, Callable[[Operator, Entry, str], None]] = {
    "requeue": lambda operator, entry, target: operator.requeue(entry),
    "hold": lambda operator, entry, target: operator.hold(entry, "wait"),
    "banish": lambda operator, entry, target: operator.banish(entry, "away"),
    "remove": lambda operator, entry, target: operator.remove(entry),
    "move": lambda operator, entry, target: operator.move(entry, target),
}


# -- looking -------------------------------------------------------------------------------------------------


def test_view_shows_each_message_where_it_is(engine: Engine) -> None:
    ids = fill(engine.open())
    view = engine.view("in")
    assert parts(view) == dict.fromkeys(("incoming", "pending", "deferred", "errors"), 1)
    assert {entry.part: entry.id for part in HOLDING for entry in view.each(part)} == ids
    for part, id in ids.items():
        entry = view.find(id)
        assert entry == view.entry(part, id)
        assert (entry.part, entry.size, view.read(entry)) == (part, len(part), part.encode())
        assert abs(entry.arrived - time.time()) < 600
        assert view.oldest(part, 10) == ([entry], 0)
        with pytest.raises(FileNotFoundError):
            view.entry("hold", id)
        number, size, oldest = view.measure(part)
        assert (number, size, round(oldest or 0, 3)) == (1, len(part), round(entry.arrived, 3))
    with pytest.raises(QueueError):
        view.find("no.such")


def test_view_tells_why_a_message_failed(engine: Engine) -> None:
    ids = fill(engine.open())
    view = engine.view("in")
    letter, late = view.find(ids["errors"]), view.find(ids["deferred"])
    assert (letter.reason, letter.attempts, letter.due) == ("it is broken: 7", 0, None)
    report = view.report(letter)
    assert report is not None
    assert (report["reason"], report["id"]) == ("it is broken: 7", letter.id)
    assert abs(view.banished(letter) - time.time()) < 600
    assert (late.reason, late.attempts) == (FAILURE.reason, 1)
    assert late.due is not None
    assert 3000 < late.due - time.time() < 3700
    assert [each["reason"] for each in view.history(late)] == [FAILURE.reason]


def test_view_shows_the_oldest_first_and_how_many_more_there_are(engine: Engine) -> None:
    ids = engine.open().enqueue_many(f"{i}" for i in range(1500))
    view = engine.view("in")
    entries, more = view.oldest("incoming", 3)
    assert [entry.id for entry in entries] == ids[:3]
    assert more == 1497
    assert {entry.id for entry in view.each("incoming")} == set(ids)
    number, oldest = view.depths()["incoming"]
    assert number == 1500
    assert oldest is not None


def test_instances_are_seen_with_what_they_hold(engine: Engine) -> None:
    queue = engine.open()
    queue.enqueue_many("abc")
    view = engine.view("in")
    assert not view.instances()
    queue.claim(2)
    instances = view.instances()
    assert instances is not None
    (instance,) = instances
    assert (instance.claims, instance.alive) == (2, True)
    queue.close()
    assert not view.instances()


def test_history_is_kept_and_found_by_what_is_in_its_lines(engine: Engine) -> None:
    queue = engine.open()
    queue.claim()
    queue.note([b'{"t": 1.0, "id": "a", "what": "committed"}\n', b'{"t": 2.0, "id": "b", "what": "banished"}\n'])
    view = engine.view("in")
    assert [line["id"] for line in view.told()] == ["a", "b"]
    assert [line["what"] for line in view.told(b'"b"')] == ["banished"]


# -- acting --------------------------------------------------------------------------------------------------


def test_requeued_dead_letter_is_new_but_for_its_history(engine: Engine) -> None:
    queue = engine.open()
    id = fill(queue)["errors"]
    operator, view = engine.operator("in"), engine.view("in")
    with operator.batch():
        operator.requeue(view.find(id))
    entry = view.find(id)
    assert (entry.part, entry.attempts) == ("incoming", 0)
    reasons = [each["reason"] for each in view.history(entry)]
    assert reasons == ["it is broken: 7", "requeued by ann"]
    assert [line["what"] for line in view.told(id.encode())] == ["requeued"]
    assert [claim.attempt for claim in queue.claim(5) if claim.id == id] == [1]


def test_message_that_is_put_off_is_tried_now_with_its_attempts(engine: Engine) -> None:
    queue = engine.open()
    id = fill(queue)["deferred"]
    view = engine.view("in")
    engine.operator("in").requeue(view.find(id))
    assert [claim.attempt for claim in queue.claim(5) if claim.id == id] == [2]


@pytest.mark.parametrize("part", ["incoming", "deferred"])
def test_held_message_waits_until_it_is_released(engine: Engine, part: str) -> None:
    queue = engine.open()
    id = fill(queue)[part]
    operator, view = engine.operator("in"), engine.view("in")
    operator.hold(view.find(id), "the host is moved")
    assert view.find(id).part == "hold"
    assert view.find(id).reason == "held by ann: the host is moved"
    assert id not in [claim.id for claim in queue.claim(5)]
    operator.requeue(view.find(id))
    assert id in [claim.id for claim in queue.claim(5)]
    assert [each["reason"] for each in view.history(view.find(id))][-1] == "released by ann"


@pytest.mark.parametrize("part", ["incoming", "deferred"])
def test_banished_message_is_a_dead_letter_that_says_who_did_it(engine: Engine, part: str) -> None:
    id = fill(engine.open())[part]
    view = engine.view("in")
    engine.operator("in").banish(view.find(id), "no use")
    entry = view.find(id)
    assert (entry.part, entry.reason) == ("errors", "banished by ann: no use")


@pytest.mark.parametrize("part", ["incoming", "deferred", "errors"])
def test_removed_message_is_gone(engine: Engine, part: str) -> None:
    id = fill(engine.open())[part]
    view = engine.view("in")
    engine.operator("in").remove(view.find(id))
    assert part not in parts(view)


@pytest.mark.parametrize("part", ["incoming", "deferred", "errors"])
def test_moved_message_is_new_in_the_other_queue(engine: Engine, part: str) -> None:
    other = engine.open("other")
    id = fill(engine.open())[part]
    view = engine.view("in")
    arrived = view.find(id).arrived
    engine.operator("in").move(view.find(id), engine.address("other"))
    assert part not in parts(view)
    (claim,) = other.claim(5)
    assert (claim.id, claim.attempt, other.read(id)) == (id, 1, part.encode())
    assert claim.arrived == pytest.approx(arrived, abs=1e-6)


def test_message_is_not_moved_to_a_queue_that_is_not_there(engine: Engine) -> None:
    id = fill(engine.open())["incoming"]
    view = engine.view("in")
    with pytest.raises(TargetUnavailable):
        engine.operator("in").move(view.find(id), engine.address("nowhere"))
    assert view.find(id).part == "incoming"


def test_replaced_message_keeps_all_but_its_contents(engine: Engine) -> None:
    id = fill(engine.open())["errors"]
    view, operator = engine.view("in"), engine.operator("in")
    before = view.find(id)
    operator.replace(before, b"mended")
    after = view.find(id)
    assert (after.arrived, after.reason, view.read(after)) == (before.arrived, before.reason, b"mended")
    with pytest.raises(FileNotFoundError):
        operator.replace(view.find(next(view.each("incoming")).id), b"no")


@pytest.mark.parametrize("act", ACTS)
def test_message_in_work_is_left_alone(engine: Engine, act: str) -> None:
    engine.open("other")
    queue = engine.open()
    id = fill(queue)["pending"]
    view = engine.view("in")
    with pytest.raises(FileNotFoundError):
        ACTS[act](engine.operator("in"), view.find(id), engine.address("other"))
    assert queue.read(id) == b"pending"


@pytest.mark.parametrize("act", ACTS)
def test_message_that_has_moved_on_since_it_was_listed_is_left_alone(engine: Engine, act: str) -> None:
    engine.open("other")
    queue = engine.open()
    id = queue.enqueue("a")
    entry = only(engine.view("in"), "incoming")
    queue.claim()
    with pytest.raises(FileNotFoundError):
        ACTS[act](engine.operator("in"), entry, engine.address("other"))
    assert queue.claimed() == [id]


def test_copy_is_added_once_where_it_was(engine: Engine) -> None:
    queue = engine.open()
    arrived = 1790000000.25
    copies = [
        Copy("1790000000.000000001.1.host", "incoming", arrived, b"a"),
        Copy("1790000000.000000002.1.host", "hold", arrived, b"b"),
        Copy("1790000000.000000003.1.host", "errors", arrived, b"c", {"reason": "why", "attempts": 4}),
    ]
    operator, view = engine.operator("in"), engine.view("in")
    for copy in copies:
        assert operator.add(copy)
        assert not operator.add(copy)
    assert parts(view) == {"incoming": 1, "hold": 1, "errors": 1}
    assert [view.find(copy.id).arrived for copy in copies] == [arrived] * 3
    assert (view.find(copies[2].id).reason, view.find(copies[2].id).attempts) == ("why", 4)
    assert [claim.id for claim in queue.claim(5)] == [copies[0].id]


@pytest.mark.slow
def test_pause_is_seen_by_instances_and_ends_by_itself_or_by_hand(engine: Engine, until: Callable[..., None]) -> None:
    queue, operator, view = engine.open(), engine.operator("in"), engine.view("in")
    assert view.paused() is None
    assert not operator.resume()
    operator.pause(None, "maintenance")
    paused = view.paused()
    assert paused is not None
    assert (paused.by, paused.until, paused.reason) == ("ann", None, "maintenance")
    until(queue.paused, "the instance to know of the pause")
    assert operator.resume()
    until(lambda: queue.paused() is None, "the instance to know of its end")
    operator.pause(None, "drained", sources_only=True)
    paused = view.paused()
    assert paused is not None
    assert paused.sources_only
    until(lambda: (found := queue.paused()) is not None and found.sources_only, "the instance to know of that, too")
    operator.pause(time.time() - 1, "it is over")
    assert view.paused() is None
