"""Each call does a bounded part of what there is to do, and the next call goes on from there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dirq_tools import FAILURE, Clock, MakeQueue, claim_one, crash, files
from piperkit.dirq import DirectoryQueue, Sync, directory_queue, litter
from piperkit.dirq.deadletters import hidden_sidecar
from piperkit.dirq.fs import Directory
from piperkit.dirq.litter import LITTER_AGE


def touch(queue: DirectoryQueue, part: str, count: int) -> None:
    for number in range(count):
        Path(queue.path, part, f"m{number:03}").touch()


def test_orphans_of_a_large_batch_are_given_back_in_parts_each_synced_once(
    elsewhere: Path, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, queue = make_queue(elsewhere / "in", sync=Sync.OFF), make_queue(elsewhere / "in")
    ids = [dead.enqueue("x") for _ in range(2000)]
    assert len(dead.claim(2000)) == 2000
    dead.read(ids[0])
    dead.read(ids[1999])
    crash(dead)
    synced: list[str] = []
    sync = Directory.sync
    monkeypatch.setattr(Directory, "sync", lambda directory: (synced.append(directory.path), sync(directory)))
    returned: list[str] = []
    for part in range(4):
        found = queue.recover()
        assert len(found.returned) == 500
        assert found.again == (0 if part < 3 else None)
        assert len(synced) == len(set(synced)) <= 3
        synced.clear()
        returned += found.returned
    assert not queue.recover()
    assert sorted(returned) == ids
    assert {claim.id for claim in queue.claim(2000) if claim.attempt > 1} == {ids[0], ids[1999]}


@pytest.mark.parametrize("part", ["tmp", "state", "errors"])
def test_litter_is_looked_for_in_parts(
    queue: DirectoryQueue, clock: Clock, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setattr(litter, "LOOKED_AT", 10)
    touch(queue, part, 35)
    for number in range(35):
        Path(queue.path, "errors", hidden_sidecar(f"x{number}")).write_text(f'{{"id": "x{number}"}}')
    clock.forward(LITTER_AGE + 1)
    removed = [queue.recover().litter for _ in range(15)]
    assert max(removed) <= 20
    assert sum(removed) == 35 + (0 if part == "errors" else 35)
    assert len(files(queue, "errors")) == (35 if part == "errors" else 0)


def test_what_is_no_litter_does_not_hide_what_is(
    queue: DirectoryQueue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litter, "LOOKED_AT", 10)
    touch(queue, "state", 50)
    touch(queue, "incoming", 49)
    assert sum(queue.recover().litter for _ in range(6)) == 1
    assert "m049" not in files(queue, "state")


def test_old_dead_letters_are_deleted_in_parts(queue: DirectoryQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_queue, "LOOKED_AT", 10)
    with queue.batch():
        for number in range(35):
            queue.enqueue("x", f"{number}")
            queue.banish(claim_one(queue), FAILURE)
    assert sum(queue.expire_errors(3600) for _ in range(10)) == 0
    deleted = [queue.expire_errors(-1) for _ in range(15)]
    assert max(deleted) <= 10
    assert sum(deleted) == 35
    assert os.listdir(Path(queue.path, "errors")) == []


def test_counting_ends_where_more_do_not_matter(
    queue: DirectoryQueue, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = 0
    lexists = os.path.lexists

    def counted(path: str) -> bool:
        nonlocal seen
        seen += 1
        return lexists(path)

    monkeypatch.setattr(os.path, "lexists", counted)
    for part in ("incoming", "errors"):
        for number in range(100):
            Path(queue.path, part, f"{number}.meta").touch()
        assert [queue.count(part, most) for most in (None, 0, 1, 40, 100, 1000)] == [100, 0, 1, 40, 100, 100]
    seen = 0
    assert queue.count("errors", 5) == 5
    assert seen < 20
    assert make_queue(next_queue=queue.path).room(40) == 0
    assert make_queue(next_queue=queue.path).room(140) == 40
