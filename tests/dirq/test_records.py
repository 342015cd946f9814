"""What is known of messages beside the messages; and messages that are put together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dirq_tools import FAILURE, MakeQueue, claim_one
from piperkit.dirq import DirectoryQueue


def test_attempt_is_known_to_an_instance_that_knew_of_no_records(make_queue: MakeQueue) -> None:
    """The other one fails a message after this one has listed `incoming` and `state`."""
    queue, other = make_queue(), make_queue()
    for name in "abcd":
        queue.enqueue(name, name)
    queue.requeue(claim_one(queue))
    other.retry(claim_one(other), 0, FAILURE)
    found: dict[str, int] = {}
    while claims := [*queue.claim(4), *other.claim(4)]:
        found |= {claim.id: claim.attempt for claim in claims}
    assert sorted(found.values()) == [1, 1, 1, 2]


def test_messages_put_together_are_there_in_order_or_not_at_all(queue: DirectoryQueue) -> None:
    ids = queue.enqueue_many(f"{number}" for number in range(450))
    assert [claim.id for claim in queue.claim(500)] == ids
    assert [queue.read(id) for id in ids] == [f"{number}".encode() for number in range(450)]


def test_group_with_a_message_that_does_not_fit_is_not_put(small_disk: Path, make_queue: MakeQueue) -> None:
    queue = make_queue(small_disk / "queue")
    with pytest.raises(Exception, match="no room"):
        queue.enqueue_many([b"small", b"x" * 1_000_000])
    assert not sum(queue.counts().values())
    assert os.listdir(Path(queue.path, "tmp")) == []
