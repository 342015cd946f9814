"""Directories that are moved away, and made anew, while a queue is in use."""

from __future__ import annotations

from pathlib import Path

import pytest

from dirq_tools import FAILURE, MakeQueue, claim_one, everything, files


def make_anew(directory: Path) -> Path:
    """Move a directory away, and make an empty one in its place."""
    old = directory.rename(directory.with_name(f"{directory.name}.old"))
    directory.mkdir()
    return old


def test_queue_that_is_made_anew_is_the_one_that_is_used(make_queue: MakeQueue, tmp_path: Path) -> None:
    queue = make_queue("queue")
    queue.enqueue_many(["one", "two", "three"])
    queue.commit(claim_one(queue))
    old = Path(queue.path).rename(tmp_path / "old")
    left = everything(old)
    make_queue("queue")
    queue.enqueue("four", "4")
    (five,) = queue.enqueue_many(["five"])
    assert files(queue, "incoming") == {"4": b"four", five: b"five"}
    assert files(old, "tmp") == {}
    while claims := queue.claim():
        queue.commit(claims[0].id)
    assert everything(queue) == {}
    assert everything(old) == left


@pytest.mark.parametrize("part", ["tmp", "outgoing"])
def test_changed_messages_are_delivered_although_a_directory_is_made_anew(make_queue: MakeQueue, part: str) -> None:
    queue, target = make_queue("queue"), make_queue("target")
    for name in "abc":
        queue.enqueue("old", name)
        queue.claim()
        queue.read(name)
    queue.dispatch("a", target.path, "new")
    old = make_anew(Path(queue.path, part))
    queue.dispatch("b", target.path, "new")
    queue.dispatch("c", target.path, "new")
    assert files(target, "incoming") == dict.fromkeys("abc", b"new")
    assert everything(queue) == {}
    assert not list(old.iterdir())


def test_what_failed_while_a_directory_was_missing_succeeds_when_it_is_there_again(make_queue: MakeQueue) -> None:
    queue = make_queue("queue")
    queue.enqueue("contents", "name")
    queue.claim()
    queue.read("name")
    tmp = Path(queue.path, "tmp")
    tmp.rmdir()
    with pytest.raises(FileNotFoundError, match=str(tmp)):
        queue.update("name", "new")
    with pytest.raises(FileNotFoundError, match=str(tmp)):
        queue.enqueue_many(["more"])
    tmp.mkdir()
    queue.retry("name", 0, FAILURE)
    queue.enqueue_many(["more"])
    assert len(queue.claim(2)) == 2
