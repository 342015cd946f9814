"""A disk that fills up: nothing is published in part, nothing is lost, nothing leaks, and what frees room works."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dirq_tools import FAILURE, MakeQueue, crash, descriptors, everything, files, snapshot
from piperkit.dirq import DirectoryQueue
from piperkit.errors import NoRoom

Fill = Callable[[int], None]


@pytest.fixture
def fill(small_disk: Path) -> Fill:
    """Fill the disk up to so many bytes."""

    def run(left: int) -> None:
        with open(small_disk / "ballast", "wb", buffering=0) as file:
            found = os.statvfs(small_disk)
            wanted = found.f_bavail * found.f_frsize - left
            while wanted > 0:
                wanted -= file.write(b"x" * wanted)

    return run


@pytest.fixture
def full_queue(small_disk: Path, make_queue: MakeQueue) -> DirectoryQueue:
    following = make_queue(small_disk / "next", orphan_age=0)
    return make_queue(small_disk / "in", next_queue=following.path, orphan_age=0)


def assert_no_room(*calls: Callable[[], object], match: str = "no room in the queue") -> None:
    """They fail as often as they are made, and leave nothing open but what is opened once and used again."""
    open_before: dict[str, str] = {}
    for _ in range(5):
        for call in calls:
            with pytest.raises(NoRoom, match=match):
                call()
        open_before = open_before or descriptors()
    assert descriptors() == open_before


LEFT = 16384  # less than what is written, so that the first write(2) takes a part of it


@pytest.mark.parametrize("left", [0, LEFT])
def test_message_that_does_not_fit_is_not_published(full_queue: DirectoryQueue, fill: Fill, left: int) -> None:
    full_queue.enqueue("there before", "name")
    fill(left)
    before = snapshot(Path(full_queue.path))
    ballast = Path(full_queue.path).parent / "ballast"
    assert_no_room(lambda: full_queue.enqueue(b"x" * 50_000), lambda: full_queue.enqueue_file(ballast))
    assert snapshot(Path(full_queue.path)) == before


@pytest.mark.parametrize("left", [0, LEFT])
def test_update_that_does_not_fit_leaves_the_original_whole(full_queue: DirectoryQueue, fill: Fill, left: int) -> None:
    original = b"o" * 20_000
    full_queue.enqueue(original, "name")
    full_queue.claim()
    fill(left)
    new = b"x" * 50_000
    assert_no_room(lambda: full_queue.update("name", new), lambda: full_queue.commit("name", new))
    assert everything(full_queue) == {"pending": {"name": original}}
    assert files(full_queue, "tmp") == {}
    assert full_queue.read("name") == original
    full_queue.commit("name")
    assert files(str(full_queue.next_queue), "incoming") == {"name": original}


def test_banishment_whose_reason_does_not_fit_leaves_the_message_claimed(
    full_queue: DirectoryQueue, small_disk: Path, fill: Fill
) -> None:
    full_queue.enqueue(b"o" * 20_000, "name")
    full_queue.claim()
    fill(0)
    assert_no_room(lambda: full_queue.banish("name", FAILURE), lambda: full_queue.retry("name", 5, FAILURE))
    assert everything(full_queue) == {"pending": {"name": b"o" * 20_000}}
    assert os.listdir(Path(full_queue.path, "errors")) == os.listdir(Path(full_queue.path, "tmp")) == []
    (small_disk / "ballast").unlink()
    full_queue.banish("name", FAILURE)
    assert full_queue.counts()["errors"] == 1


def test_what_needs_no_room_works_on_a_full_disk(full_queue: DirectoryQueue, fill: Fill) -> None:
    for name in ("commit", "cancel", "requeue", "close"):
        full_queue.enqueue(name, name)
    fill(0)
    assert len(full_queue.claim(4)) == 4
    assert {full_queue.read(name) for name in full_queue.claimed()} == {b"commit", b"cancel", b"requeue", b"close"}
    full_queue.commit("commit")
    full_queue.cancel("cancel")
    full_queue.requeue("requeue")
    full_queue.close()
    assert files(full_queue, "incoming") == {"requeue": b"requeue", "close": b"close"}
    assert files(str(full_queue.next_queue), "incoming") == {"commit": b"commit"}


def test_recovery_on_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(
    full_queue: DirectoryQueue, make_queue: MakeQueue, small_disk: Path, fill: Fill
) -> None:
    dead = make_queue(full_queue.path)
    for name in ("in work", "claimed"):
        dead.enqueue(name, name)
    dead.claim(2)
    dead.read("in work")
    crash(dead)
    fill(0)
    found = full_queue.recover()
    assert found.again is not None
    assert everything(full_queue) == {"pending": {"in work": b"in work"}, "incoming": {"claimed": b"claimed"}}
    (small_disk / "ballast").unlink()
    assert full_queue.recover().returned == ("in work",)
    assert {claim.id: claim.attempt for claim in full_queue.claim(2)} == {"in work": 2, "claimed": 1}


@pytest.mark.parametrize("operation", ["commit", "commit with contents", "dispatch", "duplicate"])
def test_target_that_is_full_leaves_the_message_claimed_and_nothing_of_it_there(
    small_disk: Path, make_queue: MakeQueue, fill: Fill, operation: str
) -> None:
    target = make_queue(small_disk / "next")
    queue = make_queue(next_queue=target.path)
    contents = b"o" * 50_000
    queue.enqueue(contents, "name")
    queue.claim()
    fill(LEFT)
    call = {
        "commit": lambda: queue.commit("name"),
        "commit with contents": lambda: queue.commit("name", contents),
        "dispatch": lambda: queue.dispatch("name", target.path),
        "duplicate": lambda: queue.duplicate("name", target.path),
    }[operation]
    assert_no_room(call, match=str(target.path))
    assert everything(target) == {}
    assert files(target, "tmp") == {}
    assert queue.read("name") == contents
    (small_disk / "ballast").unlink()
    call()
    assert files(target, "incoming") == {"name": contents}
