"""Looking at queues costs a bounded share of a processor, however much is in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from piperkit import overview
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.view import QueueView
from piperkit.operating import HOLDING
from piperkit.overview import REUSE, Overview


class Slow(QueueView):
    """A queue that takes a second to list, by a clock of its own."""

    now = 1000.0
    looks = 0

    def depths(self) -> dict[str, tuple[int, float | None]]:
        Slow.now += 1
        Slow.looks += 1
        return super().depths()


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterable[Overview]:
    Slow.now, Slow.looks = 1000.0, 0
    with DirectoryQueue(tmp_path / "queue") as queue:
        queue.enqueue("a")
    monkeypatch.setattr(overview.time, "monotonic", lambda: Slow.now)
    return [Overview([Slow(tmp_path / "queue")])]


def test_what_took_long_to_list_is_used_for_a_while(slow: list[Overview]) -> None:
    (looked,) = slow
    for _ in range(10):
        (state,) = looked.look()
        assert state.waits == 1
    assert Slow.looks == 1
    Slow.now += REUSE + 1
    looked.look()
    assert Slow.looks == 2


def test_a_queue_that_cannot_be_looked_at_says_so_and_the_others_are_shown(tmp_path: Path) -> None:
    for name in ("a", "b"):
        DirectoryQueue(tmp_path / name).close()
    views = [QueueView(tmp_path / name) for name in ("a", "b")]
    (tmp_path / "a" / "incoming").rmdir()
    first, second = Overview(views).look()
    assert "cannot be counted" in first.wrong
    assert (first.parts, second.wrong) == ({}, "")
    assert set(HOLDING) <= second.parts.keys()
