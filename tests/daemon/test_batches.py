"""Components that take several messages at once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence

from piperkit import BatchComponent, Message, Outcome, PiperDaemon, Reject
from piperkit.testing import Piper

Start = Callable[..., "subprocess.Popen[str]"]
Until = Callable[..., None]


class Sink(BatchComponent):
    """Writes its messages somewhere, in bulk."""

    def __init__(self, write: Callable[[Sequence[Message]], None]) -> None:
        super().__init__()
        self.write = write

    def process_batch(self, messages: Sequence[Message]) -> Sequence[Outcome] | None:
        self.write(messages)
        return None


def run(piper: Piper, write: Callable[[Sequence[Message]], None], *options: str) -> int:
    return piper.run(lambda argv: PiperDaemon(name="sink", argv=argv, components=[Sink(write)]), *options)


def test_messages_come_in_batches_and_the_last_one_at_the_end(piper: Piper) -> None:
    piper.put(*(f"{number}" for number in range(25)))
    sizes: list[int] = []
    assert run(piper, lambda messages: sizes.append(len(messages)), "--batch-size=10") == 0
    assert sizes == [10, 10, 5]
    assert len(piper.out) == 25


def test_nothing_is_committed_before_the_write_has_succeeded(piper: Piper) -> None:
    piper.put(*(f"{number}" for number in range(7)))
    committed: list[int] = []
    run(piper, lambda messages: committed.append(len(piper.out)), "--batch-size=5")
    assert committed == [0, 5]


def test_message_that_fails_a_batch_does_not_take_the_others_with_it(piper: Piper) -> None:
    piper.put("a", "bad", "b")
    written: list[str] = []

    def write(messages: Sequence[Message]) -> None:
        if any(message.text == "bad" for message in messages):
            raise Reject("it is bad")
        written.extend(message.text for message in messages)

    assert run(piper, write) == 0
    assert written == ["a", "b"]
    assert piper.out == [b"a", b"b"]
    assert piper.errors == [(b"bad", "it is bad")]


def test_message_that_failed_alone_is_put_off(piper: Piper) -> None:
    piper.put("only")

    def write(messages: Sequence[Message]) -> None:
        raise OSError("the database is away")

    assert run(piper, write) == 0
    assert piper.contents("in", "deferred") == [b"only"]


def test_message_that_was_tried_before_comes_alone(piper: Piper) -> None:
    piper.put(*"abc")
    batches: list[list[str]] = []

    def write(messages: Sequence[Message]) -> None:
        batches.append([message.text for message in messages])
        if messages[0].attempt == 1:
            raise OSError("not yet")

    for _ in range(2):
        assert run(piper, write, "--retry-min=0", "--retry-max=0") == 0
    assert batches == [["a", "b", "c"], ["a"], ["b"], ["c"], ["a"], ["b"], ["c"]]
    assert piper.out == [b"a", b"b", b"c"]


def test_batch_that_takes_all_the_room_does_not_wait_for_more(piper: Piper, start: Start, until: Until) -> None:
    """Neither for more messages, nor for the room that it takes itself."""
    piper.put(*(f"{number}" for number in range(10)))
    start("collect", "--batch-size=10", "--batch-wait=100000", "--queue-out-limit=3")
    taken: list[bytes] = []
    while len(taken) < 9:
        until(lambda: len(piper.out) == 3, "a batch of what there was room for")
        for claim in piper.queue_out.claim(10):
            taken.append(piper.queue_out.read(claim.id))
            piper.queue_out.commit(claim.id)
    assert taken == [f"{number}".encode() for number in range(9)]
