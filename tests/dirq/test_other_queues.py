"""Moves to another queue: whole or not at all, across file systems too; a missing target strands nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dirq_tools import FAILURE, MakeQueue, Process, claim_one, crash, descriptors, everything, files
from piperkit.dirq import DirectoryQueue
from piperkit.errors import TargetUnavailable

LARGE = os.urandom(1 << 20)
MOVES: dict[str, Callable[[DirectoryQueue, str, str], object]] = {
    "commit": lambda queue, id, target: queue.commit(id),
    "commit with contents": lambda queue, id, target: queue.commit(id, LARGE),
    "dispatch": lambda queue, id, target: queue.dispatch(id, target),
    "dispatch with contents": lambda queue, id, target: queue.dispatch(id, target, LARGE),
    "duplicate": lambda queue, id, target: queue.duplicate(id, target),
}


@pytest.fixture
def far(elsewhere: Path, make_queue: MakeQueue) -> DirectoryQueue:
    """A queue on another file system."""
    return make_queue(elsewhere / "far")


@pytest.mark.parametrize("move", MOVES)
def test_move_across_file_systems_keeps_contents_name_and_arrival(
    make_queue: MakeQueue, far: DirectoryQueue, move: str
) -> None:
    queue = make_queue(next_queue=far.path)
    source = Path(queue.path, "incoming", "name")
    source.write_bytes(LARGE)
    os.utime(source, ns=(1_600_000_000_123_456_789, 1_700_000_000_123_456_789))
    source.chmod(0o640)
    queue.claim()
    MOVES[move](queue, "name", far.path)
    found = Path(far.path, "incoming", "name").stat()
    assert (found.st_mtime_ns, found.st_mode & 0o7777) == (1_700_000_000_123_456_789, 0o640)
    assert files(far, "incoming") == {"name": LARGE}
    assert files(far, "tmp") == {}
    assert everything(queue) == ({"pending": {"name": LARGE}} if move == "duplicate" else {})
    (claim,) = far.claim()
    assert (claim.id, claim.attempt) == ("name", 1)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.slow
def test_consumer_of_the_target_never_sees_a_part_of_a_message(
    make_queue: MakeQueue, far: DirectoryQueue, start: Callable[..., Process], move: str
) -> None:
    queue = make_queue(next_queue=far.path)
    for i in range(20):
        queue.enqueue(LARGE, f"{i}")
    code = """
incoming = os.path.join(path, "incoming")
say("ready")
seen, partial = set(), 0
while len(seen) < 20:
    for name in os.listdir(incoming):
        seen.add(name)
        partial += os.stat(os.path.join(incoming, name)).st_size != 1 << 20
say(partial)
"""
    watcher = start(code, far.path)
    assert watcher.hear() == "ready"
    for claim in queue.claim(20):
        MOVES[move](queue, claim.id, far.path)
    assert watcher.end() == 0


@pytest.mark.parametrize("step", ["fsync", "write", "utime", "fchmod"])
@pytest.mark.parametrize("move", ["commit", "duplicate"])
@pytest.mark.slow
def test_move_across_file_systems_that_fails_leaves_nothing_there(
    make_queue: MakeQueue, far: DirectoryQueue, monkeypatch: pytest.MonkeyPatch, move: str, step: str
) -> None:
    queue = make_queue(next_queue=far.path)
    queue.enqueue(LARGE, "name")
    queue.claim()
    open_before = descriptors()

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(TargetUnavailable, match="Input/output error"):
            MOVES[move](queue, "name", far.path)
    assert descriptors() == open_before
    assert (everything(far), files(far, "tmp")) == ({}, {})
    assert everything(queue) == {"pending": {"name": LARGE}}
    MOVES[move](queue, "name", far.path)
    assert files(far, "incoming") == {"name": LARGE}


def test_copy_that_arrived_before_its_original_was_removed_is_not_made_twice(
    make_queue: MakeQueue, far: DirectoryQueue
) -> None:
    dead = make_queue()
    dead.enqueue(LARGE, "name")
    dead.claim()
    dead.duplicate("name", far.path)  # so far a move has come that is cut off here
    crash(dead)
    queue = make_queue(next_queue=far.path, orphan_age=0)
    queue.recover()
    queue.commit(claim_one(queue))
    assert files(far, "incoming") == {"name": LARGE}
    assert everything(queue) == {}


def test_other_message_of_equal_contents_is_not_taken_for_the_same(make_queue: MakeQueue, far: DirectoryQueue) -> None:
    queue = make_queue(next_queue=far.path)
    for arrival in (1_700_000_000, 1_700_000_001):
        path = Path(queue.path, "incoming", "name")
        path.write_bytes(b"equal")
        os.utime(path, (arrival, arrival))
        queue.commit(claim_one(queue))
    assert list(files(far, "incoming").values()) == [b"equal"] * 2


@pytest.mark.parametrize("missing", ["queue", "incoming"])
@pytest.mark.parametrize("move", MOVES)
def test_missing_target_leaves_the_message_claimed_until_it_is_there(
    make_queue: MakeQueue, tmp_path: Path, move: str, missing: str
) -> None:
    target = make_queue("next").path
    queue = make_queue(next_queue=target)
    queue.enqueue("contents", "name")
    queue.claim()
    gone = Path(target) if missing == "queue" else Path(target, "incoming")
    gone.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(TargetUnavailable, match=target):
            MOVES[move](queue, "name", target)
        assert queue.claimed() == ["name"]
        assert everything(queue) == {"pending": {"name": b"contents"}}
        assert files(queue, "tmp") == {}
    (tmp_path / "away").rename(gone)
    assert files(target, "tmp") == {}
    MOVES[move](queue, "name", target)
    assert files(target, "incoming") == {"name": LARGE if "contents" in move else b"contents"}


@pytest.mark.parametrize("way_out", ["commit", "requeue", "close", "crash", "retry", "cancel", "banish"])
def test_message_whose_target_vanished_after_its_contents_were_final_is_never_stranded(
    make_queue: MakeQueue, far: DirectoryQueue, way_out: str
) -> None:
    queue = make_queue(next_queue=far.path, orphan_age=0)
    queue.enqueue("old", "name")
    queue.claim()
    shutil.rmtree(Path(far.path, "tmp"))  # `incoming` is there, but nothing can be copied to it
    for _ in range(2):
        with pytest.raises(TargetUnavailable):
            queue.commit("name", "new")
    assert everything(queue) == {"outgoing": {"name": b"new"}}
    assert queue.claimed() == ["name"]
    if way_out == "crash":
        crash(queue)
    elif way_out == "close":
        queue.close()
    elif way_out == "retry":
        queue.retry("name", 100, FAILURE)
    elif way_out == "requeue":
        queue.requeue("name")
    other = make_queue(next_queue=far.path, orphan_age=0)
    assert not other.recover().finished
    Path(far.path, "tmp").mkdir()
    if way_out == "commit":
        queue.commit("name", "too late for other contents")
    elif way_out == "cancel":
        queue.cancel("name")
    elif way_out == "banish":
        queue.banish("name", FAILURE)
        assert files(queue, "errors")["name"] == b"new"
    else:
        assert other.recover().finished == ("name",)
    assert files(far, "incoming") == ({} if way_out in ("cancel", "banish") else {"name": b"new"})
    assert {part: count for part, count in queue.counts().items() if count} == (
        {"errors": 1} if way_out == "banish" else {}
    )
    assert queue.claimed() == []
    assert files(queue, "state") == {}


def test_message_may_go_back_into_its_own_queue(make_queue: MakeQueue) -> None:
    queue = make_queue()
    queue.enqueue("old", "name")
    queue.dispatch(claim_one(queue), queue.path)
    assert everything(queue) == {"incoming": {"name": b"old"}}
    queue.dispatch(claim_one(queue), queue.path, "new")
    assert everything(queue) == {"incoming": {"name": b"new"}}
    queue.duplicate(claim_one(queue), queue.path)
    assert everything(queue) == {"incoming": {"name": b"new"}, "pending": {"name": b"new"}}


def test_room_of_a_next_queue_that_is_missing_cannot_be_told(make_queue: MakeQueue, tmp_path: Path) -> None:
    with pytest.raises(TargetUnavailable):
        make_queue(next_queue=tmp_path / "nowhere").room(10)


def test_next_queue_of_a_foreign_program_needs_its_four_directories_only(make_queue: MakeQueue, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    for part in ("tmp", "incoming", "pending", "errors"):
        (foreign / part).mkdir(parents=True)
    queue = make_queue(next_queue=foreign)
    for name in ("a", "b"):
        queue.enqueue("old", name)
        queue.claim()
    queue.commit("a")
    queue.commit("b", "new")
    assert everything_foreign(foreign) == {"incoming/a": b"old", "incoming/b": b"new"}


def everything_foreign(queue: Path) -> dict[str, bytes]:
    return {str(path.relative_to(queue)): path.read_bytes() for path in queue.rglob("*") if path.is_file()}


def test_changed_message_waits_for_an_instance_that_knows_its_output_queue(
    make_queue: MakeQueue, caplog: pytest.LogCaptureFixture
) -> None:
    following = make_queue("next")
    dead = make_queue(next_queue=following.path)
    dead.enqueue("old", "name")
    claim_one(dead)
    dead._store.begin_move(dead._held["name"], b"new")
    crash(dead)
    without = make_queue(orphan_age=0)
    for _ in range(3):
        assert not without.recover()
    assert everything(without) == {"outgoing": {"name": b"new"}}
    assert caplog.text.count("waits for a daemon that knows its output queue") == 1
    assert make_queue(next_queue=following.path, orphan_age=0).recover().finished == ("name",)
    assert files(following, "incoming") == {"name": b"new"}
