"""Which message is next: the window on `incoming`, and how instances share it out."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import pytest

from piperkit.dirq import incoming
from piperkit.dirq.fs import Directory
from piperkit.dirq.incoming import Incoming, Oldest
from piperkit.dirq.reading import Notices
from piperkit.naming import is_ours, sort_key

NOW = 1_795_000_000.0


def ours(number: int) -> str:
    return f"{1_790_000_000 + number}.000000000.1.host"


def touch(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).touch()


def watching(path: Path, which: int = 0, many: int = 1) -> Incoming:
    directory = Directory(str(path))
    return Incoming(lambda: directory, Notices(logging.getLogger("test")), lambda: (which, many))


def drain(window: Incoming, path: Path) -> list[str]:
    """Everything in the window, and removed from the directory as if it had been claimed."""
    found = window.pop(10**6)
    for name in found:
        (path / name).unlink(missing_ok=True)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_oldest_are_those_that_sorting_everything_would_give_and_each_eighth_is_of_others(seed: int) -> None:
    chance = random.Random(seed)
    names = [ours(number) for number in range(chance.randrange(60))]
    others = [chance.choice(["0", "9", "a", "z", "~", "é", "18", "1790000000.x"]) + str(number) for number in range(20)]
    others += [ours(10_000_000 + number) for number in range(5)]  # dated in the future
    size = chance.randrange(1, 40)
    oldest = Oldest(size, NOW)
    for name in chance.sample(names + others, len(names + others)):
        oldest.add([name])
    found = oldest.names()
    assert [name for name in found if name not in others] == names[:size]
    mixed = [name for name in found if name in others]
    room = max(1, size // 8, size - len(names))
    assert mixed == (sorted(others)[:room] if len(others) > room else sorted(others, key=sort_key))
    # The last of each eight, as long as there are both.
    both = min(len(mixed), len(names[:size]) // 7)
    assert [number for number, name in enumerate(found) if name in others][:both] == list(range(7, 8 * both, 8))


def test_window_is_bounded_and_goes_on_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "WINDOW", 10)
    names = [ours(number) for number in range(35)]
    touch(tmp_path, *reversed(names))
    window = watching(tmp_path)
    found = []
    for size in (10, 10, 10, 5, 0):
        window.scan()
        part = drain(window, tmp_path)
        assert len(part) == size
        found += part
    assert found == names


def test_older_message_is_found_although_the_window_is_not_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, ours(2), ours(3))
    window = watching(tmp_path)
    window.scan()
    touch(tmp_path, ours(1))
    window.refresh()
    assert window, "a window that is not old is kept"
    monkeypatch.setattr(window, "_stale", 0.0)
    window.refresh()
    assert not window
    window.scan()
    assert drain(window, tmp_path) == [ours(1), ours(2), ours(3)]


def test_instances_take_different_parts_each_the_oldest_first_and_together_everything(tmp_path: Path) -> None:
    names = [ours(number) for number in range(400)]
    touch(tmp_path, *names)
    windows = [watching(tmp_path, which, 4) for which in range(4)]
    for window in windows:
        window.scan()
    parts = [drain(window, tmp_path) for window in windows]
    assert sorted(name for part in parts for name in part) == names
    for part in parts:
        assert part == sorted(part)
        assert 60 < len(part) < 140


def test_instance_without_work_helps_the_others_and_never_all_at_one_place(tmp_path: Path) -> None:
    names = [ours(number) for number in range(800)]
    touch(tmp_path, *names)
    busy = watching(tmp_path, 0, 4)
    busy.scan()
    helpers = [watching(tmp_path, which, 4) for which in (1, 2, 3)]
    for window in helpers:
        window.scan()
        drain(window, tmp_path)
    helping = []
    for window in helpers:
        window.scan()
        helping.append(set(window.pop(10**6)))
    assert all(helping)
    assert not helping[0] & helping[1]
    assert not helping[1] & helping[2]
    assert not helping[0] & helping[2]


def test_what_an_instance_leaves_lying_is_taken_by_the_others_in_the_end(tmp_path: Path) -> None:
    """One of two never comes, while there is always something new for the other."""
    names = [ours(number) for number in range(50)]
    touch(tmp_path, *names)
    window = watching(tmp_path, 0, 2)
    found: list[str] = []
    for number in range(4):
        touch(tmp_path, *(ours(1000 + 100 * number + each) for each in range(50)))
        window.scan()
        found += drain(window, tmp_path)
    assert set(names) <= set(found)


def test_misses_in_a_row_have_the_directory_listed_anew(tmp_path: Path) -> None:
    touch(tmp_path, *(ours(number) for number in range(20)))
    window = watching(tmp_path)
    window.scan()
    for _ in range(4):
        assert window
        window.pop(1)
        window.missed()
    assert not window


def test_foreign_and_future_names_get_through_behind_an_endless_backlog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "WINDOW", 16)
    others = {"foreign", "0", ours(2**31), "~"}
    touch(tmp_path, *others)
    window = watching(tmp_path)
    found: list[str] = []
    for number in range(4):  # there are always more of ours than fit in
        touch(tmp_path, *(ours(100 * number + each) for each in range(32)))
        window.scan()
        found += drain(window, tmp_path)
    assert others <= set(found)
    assert len(found) == 4 * 16 + len(others), "a window is bounded"


def test_many_foreign_names_take_turns_although_the_first_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that cannot be claimed, or come again at once, keep no other from its turn."""
    monkeypatch.setattr(incoming, "WINDOW", 16)
    touch(tmp_path, *(ours(number) for number in range(32)), *(f"m{number:02}" for number in range(20)))
    window = watching(tmp_path)
    rounds = []
    for _ in range(20):
        window.scan()
        rounds.append([name for name in window.pop(100) if not is_ours(name)])
    assert {len(names) for names in rounds} == {2}
    assert [name for names in rounds for name in names] == 2 * [f"m{number:02}" for number in range(20)]
