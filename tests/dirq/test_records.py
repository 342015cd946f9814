"""What is known of messages and instances beside the messages: records that are found when they matter."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest

from dirq_tools import FAILURE, MakeQueue, claim_one, crash, files
from piperkit.dirq import DirectoryQueue, fs, instances
from piperkit.dirq.records import RecordNames


def settle(directory: Path) -> None:
    """Make a directory look as if nothing had changed in it for a while."""
    past = time.time() - 60
    os.utime(directory, (past, past))


def test_record_that_is_added_in_the_same_tick_of_the_clock_is_found(tmp_path: Path) -> None:
    soon = time.time_ns() + 10**10
    names = RecordNames(str(tmp_path))
    for name in "xy":
        os.utime(tmp_path, ns=(soon, soon))
        names.look()
        assert not names.may_have(name)
        (tmp_path / name).touch()
    os.utime(tmp_path, ns=(soon, soon))
    names.look()
    assert names.may_have("x")
    assert names.may_have("y")


def test_record_that_is_added_in_the_same_second_is_found_where_time_stamps_are_whole_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = 1_790_000_000 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: second + 900_000_000)
    os.utime(tmp_path, ns=(second, second))
    names = RecordNames(str(tmp_path))
    names.look()
    assert not names.may_have("x")
    (tmp_path / "x").touch()
    os.utime(tmp_path, ns=(second, second))
    names.look()
    assert names.may_have("x")


def test_many_records_that_change_all_the_time_are_not_listed_for_each_batch(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / str(number)).touch()
    names = RecordNames(str(tmp_path))
    names.look()
    assert not names.may_have("x")
    (tmp_path / "x").touch()
    names.look()
    assert names.may_have("x")
    assert names.may_have("y"), "it was not listed again, so it cannot be told"


def test_records_are_known_for_a_whole_batch_until_the_directory_changes(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    settle(tmp_path)
    names = RecordNames(str(tmp_path))
    names.look()
    assert names.may_have("there")
    assert not names.may_have("x")
    (tmp_path / "x").touch()
    names.look()
    assert names.may_have("x")


@pytest.mark.parametrize("kind", ["nfs4", "cifs"])
def test_records_on_another_machine_are_always_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(fs, "file_system", lambda path: kind)
    settle(tmp_path)
    names = RecordNames(str(tmp_path))
    names.look()
    assert names.may_have("x")


def test_attempt_is_known_to_an_instance_that_knew_of_no_records(make_queue: MakeQueue) -> None:
    """The other one fails a message after this one has listed `incoming` and `state`."""
    queue, other = make_queue(), make_queue()
    for name in "abcd":
        queue.enqueue(name, name)
    settle(Path(queue.path, "state"))
    queue.requeue(claim_one(queue))
    other.retry(claim_one(other), 0, FAILURE)
    found: dict[str, int] = {}
    while claims := [*queue.claim(4), *other.claim(4)]:
        found |= {claim.id: claim.attempt for claim in claims}
    assert sorted(found.values()) == [1, 1, 1, 2]


def test_instance_writes_down_as_many_messages_as_it_works_on(make_queue: MakeQueue) -> None:
    queue = make_queue(orphan_age=0)
    names = [f"{number:03}" + "x" * 200 for number in range(60)]
    for name in names:
        queue.enqueue("a", name)
    queue.claim(60)
    for name in names:
        queue.read(name)
    (record,) = Path(queue.path, "state").iterdir()
    fd = os.open(record, os.O_RDONLY)
    assert instances.names_in_work(fd) == set(names)
    os.close(fd)
    crash(queue)
    after = make_queue(orphan_age=0)
    assert len(after.recover().returned) == 60
    assert {claim.attempt for claim in after.claim(60)} == {2}


def test_instance_without_room_for_its_record_works_all_the_same(
    small_disk: Path, make_queue: MakeQueue, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_queue(small_disk / "queue")
    queue.enqueue("a")
    with open(small_disk / "ballast", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    id = claim_one(queue)
    assert queue.read(id) == b"a"
    queue.cancel(id)
    assert "what is in work cannot be written down" in caplog.text
    assert files(queue, "state") == {}


def test_instance_that_ends_leaves_no_record(make_queue: MakeQueue) -> None:
    queue = make_queue()
    queue.enqueue("a")
    queue.claim()
    assert [name for name in os.listdir(Path(queue.path, "state")) if instances.is_instance(name)]
    queue.close()
    assert os.listdir(Path(queue.path, "state")) == []


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
