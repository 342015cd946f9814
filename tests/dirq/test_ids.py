"""Ids: unique per host, process and time, sorted by arrival; and no operation takes one that leads out of the queue."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dirq_tools import OPERATIONS, Clock, MakeQueue, Process, everything, files, run_all, snapshot
from piperkit.dirq import DirectoryQueue
from piperkit.errors import InvalidId
from piperkit.naming import First, Ids, check_id, is_ours, sort_key

NANO = 1_000_000_000


def test_ids_of_one_process_are_all_different_and_sort_by_their_making() -> None:
    ids = Ids()
    made = [ids.new() for _ in range(10_000)]
    assert len(set(made)) == len(made)
    assert made == sorted(made)


def test_ids_go_on_rising_where_the_clock_stands_still_or_is_set_back() -> None:
    moments = iter([1_790_000_000 * NANO] * 3 + [1_789_996_400 * NANO] * 3 + [1_790_000_001 * NANO])
    ids = Ids("host", 1, lambda: next(moments))
    made = [ids.new() for _ in range(7)]
    assert made == sorted(set(made))


def test_ids_of_other_hosts_and_processes_are_different_at_the_same_moment() -> None:
    def at(host: str, pid: int) -> str:
        return Ids(host, pid, lambda: 1_790_000_000 * NANO).new()

    made = {at(host, pid) for host, pid in itertools.product(("mail", "web"), (1, 2, 3))}
    assert len(made) == 6
    assert at("mail", 4711) == "1790000000.000000000.4711.mail"


@pytest.mark.parametrize("host", ["a/b", "../up", ".hidden", "ho st", "žluť", "h" * 300, ""])
def test_any_host_name_makes_a_valid_id_of_ours(host: str) -> None:
    id = Ids(host).new()
    assert check_id(id) == id
    assert is_ours(id)


def test_ids_of_many_processes_are_all_different(tmp_path: Path, start: Callable[..., Process]) -> None:
    code = """
queue = DirectoryQueue(path, sync=Sync.OFF, min_free=0)
say("ready")
wait()
say([queue.enqueue(str(i)) for i in range(200)])
"""
    made = [id for ids in run_all([start(code, tmp_path / "in") for _ in range(4)]) for id in ids]
    assert len(set(made)) == 800
    assert set(files(tmp_path / "in", "incoming")) == set(made)


def test_ids_that_are_equal_never_replace_a_message(make_queue: MakeQueue) -> None:
    """As where containers share a queue under one host name and one pid."""

    def still() -> int:
        return 1_790_000_000 * NANO

    one, other = (make_queue(host="box", pid=1, clock=still) for _ in range(2))
    made = [one.enqueue("1"), other.enqueue("2"), other.enqueue("3"), one.enqueue("4")]
    assert files(one, "incoming") == dict(zip(made, (b"1", b"2", b"3", b"4"), strict=True))


def test_equal_ids_of_two_writers_at_once_do_not_disturb_each_other(make_queue: MakeQueue) -> None:
    def still() -> int:
        return 1_790_000_000 * NANO

    one, other = (make_queue(host="box", pid=1, clock=still) for _ in range(2))
    _, fd = one._store.writer.new_file(lambda fd: None)  # it is still writing
    with open(fd, "rb"):
        other.enqueue("a")
        for queue in (one, other):  # both have an instance's record
            queue.enqueue("b")
            queue.read(queue.claim()[0].id)


def test_ours_sort_before_foreign_names() -> None:
    ours = [Ids("b", 1, lambda: 1 * NANO).new(), Ids("a", 1, lambda: 2 * NANO).new()]
    assert sorted(["0", "zzz", "0000000000.0", *reversed(ours)], key=sort_key) == [*ours, "0", "0000000000.0", "zzz"]


BAD = [
    "../../file",  # out of the queue
    "../errors/kept",  # into another part of it
    "..",
    ".",
    "",
    ".hidden",
    "/etc/passwd",
    "a/b",
    "kept/",
    "nul\0byte",
    "x" * 256,
    "ž" * 128,  # 256 bytes
    "\ud800",  # no bytes at all
]
ALL_OPERATIONS: dict[str, Callable[[Any, str, str], object]] = {
    **OPERATIONS,
    "enqueue": lambda queue, id, target: queue.enqueue("x", id),
    "enqueue_file": lambda queue, id, target: queue.enqueue_file(__file__, id),
}


@pytest.mark.parametrize("operation", ALL_OPERATIONS)
def test_id_that_leads_elsewhere_deletes_and_moves_nothing(
    make_queue: MakeQueue, tmp_path: Path, operation: str
) -> None:
    make_queue("next")
    queue = make_queue("spool/in", next_queue=tmp_path / "next")
    (tmp_path / "spool" / "file").write_text("precious")
    (tmp_path / "file").write_text("precious")
    (tmp_path / "spool" / "in" / "errors" / "kept").write_text("precious")
    queue.enqueue("claimed", "kept")
    queue.claim()
    before = snapshot(tmp_path)
    for id in BAD:
        with pytest.raises(InvalidId):
            ALL_OPERATIONS[operation](queue, id, str(tmp_path / "next"))
        assert snapshot(tmp_path) == before, id


@pytest.mark.parametrize("id", [b"bytes", None, 7])
def test_id_that_is_no_text_is_refused(queue: DirectoryQueue, id: object) -> None:
    with pytest.raises(InvalidId):
        queue.cancel(id)  # type: ignore[arg-type]


@pytest.mark.parametrize("id", ["-rf", "a b", "~", "a\nb", "x.meta", "x" * 255, "caf\udce9", "ž" * 127])
def test_odd_names_are_names_all_the_same(make_queue: MakeQueue, tmp_path: Path, id: str) -> None:
    make_queue("next")
    queue = make_queue(next_queue=tmp_path / "next")
    assert queue.enqueue("1", id) == id
    assert queue.claim()[0].id == id
    queue.commit(id)
    assert everything(tmp_path / "next") == {"incoming": {id: b"1"}}


def test_clock_may_be_set_back_between_messages(make_queue: MakeQueue, clock: Clock) -> None:
    queue = make_queue()
    made = [queue.enqueue("1")]
    clock.forward(-3600)
    made.append(queue.enqueue("2"))
    assert [claim.id for claim in queue.claim(2)] == made


@pytest.mark.parametrize("limit", [1, 5, 100])
def test_first_of_many_names_are_those_that_sorting_all_would_give(limit: int) -> None:
    chance = random.Random(limit)
    ours = [f"{chance.randrange(1 << 30):010d}.{chance.randrange(10**9):09d}.1.host" for _ in range(60)]
    foreign = [f"{chance.choice('019.am')}{chance.randrange(99)}.{chance.randrange(10**6)}" for _ in range(60)]
    for found in (ours, foreign, ours + foreign, []):
        names = chance.sample(found, len(found))
        first = First(limit)
        for at in range(0, len(names), 7):
            first.add(names[at : at + 7])
        assert first.names() == sorted(names, key=sort_key)[:limit]
        assert first.number == len(names)
