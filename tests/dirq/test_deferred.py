"""Messages that were put off: they come when they are due, in bounded steps, whatever the clock says."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from dirq_tools import FAILURE, Clock, MakeQueue, claim_one
from piperkit.dirq import DirectoryQueue, Sync, deferred
from piperkit.dirq.fs import Directory
from piperkit.dirq.view import QueueView

YEAR = 365 * 86400.0


def put_off(queue: DirectoryQueue, count: int, due: float, step: float = 0.0) -> list[str]:
    """Messages in `deferred` as `retry` leaves them, the first of them due at that moment; their names."""
    names = [f"m{number:05}" for number in range(count)]
    record = {"attempts": 1, "crashes": 0, "death": None, "target": None, "history": [{"time": "t", "reason": "r"}]}
    for number, name in enumerate(names):
        message, state = (Path(queue.path, part, name) for part in ("deferred", "state"))
        message.write_text("x")
        state.write_text(json.dumps({"arrived": message.stat().st_mtime_ns} | record))
        os.utime(state, (min(due, time.time()) - 1, due + number * step))
    return names


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were looked at."""
    found: list[str] = []
    stat = Directory.stat

    def counted(directory: Directory, name: str) -> os.stat_result | None:
        found.append(name)
        return stat(directory, name)

    monkeypatch.setattr(Directory, "stat", counted)
    return found


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that are reached by a few hundred messages."""
    monkeypatch.setattr(deferred, "_PART", 20)
    monkeypatch.setattr(deferred, "_KEPT", 50)


# -- many at once --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_small")
def test_many_that_are_due_at_once_come_in_bounded_steps_and_new_ones_get_their_share_at_once(
    make_queue: MakeQueue, clock: Clock, looks: list[str]
) -> None:
    queue = make_queue(sync=Sync.OFF)
    names = put_off(queue, 500, clock() / 1e9 - 10)
    new = {queue.enqueue("new") for _ in range(50)}
    found: list[str] = []
    while claims := queue.claim(10):
        assert len(looks) < 150
        looks.clear()
        found += (claim.id for claim in claims)
        if len(found) <= 100:
            assert len(new.intersection(found)) == len(found) // 2
        for claim in claims:
            assert claim.attempt == 1 + (claim.id not in new)
            queue.commit(claim.id)
    assert sorted(found) == sorted([*names, *new])
    assert queue.next_look() is None


def test_one_at_a_time_due_and_new_ones_alternate(make_queue: MakeQueue, clock: Clock) -> None:
    queue = make_queue()
    put_off(queue, 5, clock() / 1e9 - 10)
    for _ in range(5):
        queue.enqueue("new")
    attempts = [queue.claim()[0].attempt for _ in range(10)]
    assert attempts in ([1, 2] * 5, [2, 1] * 5)


@pytest.mark.usefixtures("_small")
def test_many_that_wait_cost_bounded_memory_and_steps_and_come_when_they_are_due(
    make_queue: MakeQueue, clock: Clock, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    queue = make_queue(sync=Sync.OFF)
    monkeypatch.setattr(queue._deferred, "_monotonic", lambda: now + clock.offset / 1e9)
    names = put_off(queue, 400, clock() / 1e9 + 1000, 1.0)
    for _ in range(30):  # however often it looks
        assert not queue.claim()
        assert len(looks) <= 50
        assert len(queue._deferred._due) <= 101
        assert len(queue._deferred._known) <= 101
        looks.clear()
    due = queue.next_look()
    assert due is not None
    assert 900 < due <= 1000
    queue.enqueue("new")
    queue.commit(claim_one(queue))
    assert len(looks) < 40, "a message costs the same whatever waits"
    found: list[str] = []
    for _ in range(1500):
        clock.forward(1)
        while (claims := queue.claim(5)) or queue.next_look() == 0:
            for claim in claims:
                found.append(claim.id)
                queue.commit(claim.id)
    assert found == names, "each when it is due"


@pytest.mark.slow
def test_twenty_thousand_that_wait_are_not_all_remembered_nor_looked_at_in_one_step(
    elsewhere: Path, make_queue: MakeQueue, clock: Clock, looks: list[str]
) -> None:
    queue = make_queue(elsewhere / "in")
    put_off(queue, 21_000, clock() / 1e9 + 1000)
    most = 0
    for _ in range(30):
        assert not queue.claim()
        most, _ = max(most, len(looks)), looks.clear()
    assert 500 < most < 2500
    assert len(queue._deferred._due) <= 20_001
    queue.enqueue("new")
    assert queue.read(claim_one(queue)) == b"new"
    assert len(looks) < 20


# -- the clock -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("looked_at", [False, True], ids=["", "looked at meanwhile"])
def test_message_put_off_while_the_clock_was_ahead_waits_no_longer_than_its_delay_after_a_restart(
    make_queue: MakeQueue, clock: Clock, looked_at: bool
) -> None:
    queue = make_queue()
    queue.enqueue("x", "x")
    clock.forward(YEAR)
    queue.retry(claim_one(queue), 100, FAILURE)
    clock.forward(-YEAR)
    if looked_at:  # which may change its record's access time
        view = QueueView(queue.path)
        assert view.history(view.find("x"))
    queue.close()
    queue = make_queue()
    assert not queue.claim()
    due = queue.next_look()
    assert due is not None
    assert 0 < due <= 100
    queue.close()
    clock.forward(101)
    (claim,) = make_queue().claim()
    assert claim.attempt == 2


def test_clock_that_is_set_back_while_a_message_waits_does_not_stretch_its_wait(
    make_queue: MakeQueue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue()
    passed = [0.0]
    monkeypatch.setattr(queue._deferred, "_monotonic", lambda: passed[-1])
    queue.enqueue("x", "x")
    queue.retry(claim_one(queue), 100, FAILURE)
    clock.forward(-YEAR)
    for seconds in (0.0, 50.0, 99.0):
        passed.append(seconds)
        assert not queue.claim()
    passed.append(101.0)
    assert claim_one(queue) == "x"


@pytest.mark.parametrize("delay", [float("inf"), 1e18, 1e9])
def test_longest_delay_is_one_that_every_file_system_has_a_time_for(make_queue: MakeQueue, delay: float) -> None:
    queue = make_queue()
    queue.enqueue("x", "x")
    queue.retry(claim_one(queue), delay, FAILURE)
    due = queue.next_look()
    assert due is not None
    assert YEAR < due < 11 * YEAR
