"""The event queue: order, time, and a clock that is set."""

from __future__ import annotations

import pytest
from pyzenkit.zendaemon import QueueEmptyException

from piperkit.daemon.events import EventQueue


class Clock:
    def __init__(self) -> None:
        self.wall = 1000.0
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> EventQueue:
    return EventQueue(lambda: clock.wall, lambda: clock.now)


def test_events_keep_their_order_and_urgent_ones_come_first(queue: EventQueue) -> None:
    queue.schedule("a", 1)
    queue.schedule("b")
    queue.schedule_next("c")
    assert [queue.next() for _ in range(3)] == [("c", None), ("a", 1), ("b", None)]
    with pytest.raises(QueueEmptyException):
        queue.next()


def test_timed_events_of_the_same_moment_are_never_compared(queue: EventQueue) -> None:
    queue.schedule_at(1000.0, "same", {"a": 1})
    queue.schedule_at(1000.0, "same", {"b": 2})
    assert [queue.next() for _ in range(2)] == [("same", {"a": 1}), ("same", {"b": 2})]


def test_timed_event_comes_when_its_time_has_come(queue: EventQueue, clock: Clock) -> None:
    queue.schedule_after(0.25, "later")
    assert queue.next() == (None, None)
    assert queue.wait() == 0.25
    assert queue.when() == 1000.25
    clock.sleep(0.25)
    assert queue.next() == ("later", None)


def test_wall_clock_that_steps_back_an_hour_stretches_no_wait(queue: EventQueue, clock: Clock) -> None:
    queue.schedule_after(5, "after")
    queue.schedule_at(clock.wall + 5, "at")
    clock.wall -= 3600
    assert queue.wait() == 5
    clock.sleep(5)
    assert [queue.next()[0] for _ in range(2)] == ["after", "at"]


def test_cancelled_event_never_comes(queue: EventQueue, clock: Clock) -> None:
    timer = queue.schedule_after(1, "never")
    queue.schedule_after(2, "later")
    queue.cancel(timer)
    assert queue.count() == 1
    assert queue.wait() == 2
    clock.sleep(2)
    assert queue.next() == ("later", None)
