"""Which message is next: the window on `incoming`, and how instances share it out."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import pytest

from piperkit.dirq import incoming
from piperkit.dirq.incoming import Incoming, Oldest
from piperkit.dirq.names import sort_key

LOGGER = logging.getLogger("test")


def ours(number: int) -> str:
    return f"{1_790_000_000 + number}.000000000.1.host"


def touch(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).touch()


def drain(window: Incoming) -> list[str]:
    """Everything in the window, and removed from the directory as if it had been claimed."""
    found = []
    while (name := window.pop()) is not None:
        Path(window.directory.at(name)).unlink(missing_ok=True)
        found.append(name)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_oldest_are_those_that_sorting_everything_would_give(seed: int) -> None:
    chance = random.Random(seed)
    names = [ours(number) for number in range(chance.randrange(60))]
    names += [chance.choice(["0", "9", "a", "z", "~", "é", "18", "1790000000.x"]) + str(number) for number in range(20)]
    chance.shuffle(names)
    size = chance.randrange(1, 40)
    oldest = Oldest(size)
    for name in names:
        if name <= oldest.limit:
            oldest.add(name)
    assert oldest.names() == sorted(names, key=sort_key)[:size]


def test_window_is_bounded_and_goes_on_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "WINDOW", 10)
    names = [ours(number) for number in range(35)]
    touch(tmp_path, *reversed(names))
    window = Incoming(str(tmp_path), LOGGER, lambda: (0, 1))
    found = []
    for size in (10, 10, 10, 5, 0):
        window.scan()
        part = drain(window)
        assert len(part) == size
        found += part
    assert found == names


def test_older_message_is_found_although_the_window_is_not_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, ours(2), ours(3))
    window = Incoming(str(tmp_path), LOGGER, lambda: (0, 1))
    window.scan()
    touch(tmp_path, ours(1))
    window.refresh()
    assert window, "a window that is not old is kept"
    monkeypatch.setattr(window, "_stale", 0.0)
    window.refresh()
    assert not window
    window.scan()
    assert drain(window) == [ours(1), ours(2), ours(3)]


def test_instances_take_different_parts_each_the_oldest_first_and_together_everything(tmp_path: Path) -> None:
    names = [ours(number) for number in range(400)]
    touch(tmp_path, *names)
    windows = [Incoming(str(tmp_path), LOGGER, lambda which=which: (which, 4)) for which in range(4)]
    for window in windows:
        window.scan()
    parts = [drain(window) for window in windows]
    assert sorted(name for part in parts for name in part) == names
    for part in parts:
        assert part == sorted(part)
        assert 60 < len(part) < 140


def test_instance_without_work_helps_the_others_and_never_all_at_one_place(tmp_path: Path) -> None:
    names = [ours(number) for number in range(800)]
    touch(tmp_path, *names)
    busy = Incoming(str(tmp_path), LOGGER, lambda: (0, 4))
    busy.scan()
    helpers = [Incoming(str(tmp_path), LOGGER, lambda which=which: (which, 4)) for which in (1, 2, 3)]
    for window in helpers:
        window.scan()
        drain(window)
    helping = []
    for window in helpers:
        window.scan()
        helping.append(set(iter(window.pop, None)))
    assert all(helping)
    assert not helping[0] & helping[1]
    assert not helping[1] & helping[2]
    assert not helping[0] & helping[2]


def test_what_an_instance_leaves_lying_is_taken_by_the_others_in_the_end(tmp_path: Path) -> None:
    """One of two never comes, while there is always something new for the other."""
    names = [ours(number) for number in range(50)]
    touch(tmp_path, *names)
    window = Incoming(str(tmp_path), LOGGER, lambda: (0, 2))
    found: list[str] = []
    for number in range(4):
        touch(tmp_path, *(ours(1000 + 100 * number + each) for each in range(50)))
        window.scan()
        found += drain(window)
    assert set(names) <= set(found)


def test_misses_in_a_row_have_the_directory_listed_anew(tmp_path: Path) -> None:
    touch(tmp_path, *(ours(number) for number in range(20)))
    window = Incoming(str(tmp_path), LOGGER, lambda: (0, 1))
    window.scan()
    for _ in range(4):
        assert window
        window.pop()
        window.missed()
    assert not window
