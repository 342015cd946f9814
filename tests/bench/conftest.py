"""Results to show and to judge, made by hand."""

from __future__ import annotations

import pytest

from benchmarks.results import Bound, Goal, Results, Series


@pytest.fixture
def results() -> Results:
    """Ours is half as fast as the floor and twice as fast as the original; a second series has no other beside it."""
    series = [
        Series("delete", "tmpfs", "piperkit", "messages/s", [200.0, 220.0, 100.0], [20.0, 20.0, 30.0]),
        Series("delete", "tmpfs", "original", "messages/s", [100.0, 100.0, 50.0], [50.0, 50.0, 60.0]),
        Series("delete", "tmpfs", "C floor", "messages/s", [400.0, 400.0, 200.0], [10.0, 10.0, 10.0]),
        Series("start", "tmpfs", "piperkit", "s", [0.2, 0.25, 0.9]),
    ]
    ours = "delete/tmpfs/piperkit"
    goals = [
        Goal("of the original", ours, Bound(1.3), "delete/tmpfs/original"),
        Goal("of the floor", ours, Bound(0.65), "delete/tmpfs/C floor"),
        Goal("start", "start/tmpfs/piperkit", Bound(0.3, at_most=True)),
        Goal("of nobody", ours, Bound(1), "delete/disk/nobody"),
    ]
    calls = {"piperkit/delete": {"openat": 2.0, "flock": 1.004}, "C floor/delete": {"openat": 1.0}}
    return Results({"processor": "one"}, {"rounds": 3, "messages": 20000}, series, goals, calls)
