"""Every scenario runs, with few messages and the peers that need no installation."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks import peers
from benchmarks.places import fill, make_queue
from benchmarks.results import Results, from_json
from benchmarks.scenarios import aside
from needs import need
from piperkit.dirq import DirectoryQueue
from piperkit.naming import is_ours


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    """The C program, where there is a compiler, and the earlier release, where there is a history."""
    peers.build_floor()
    peers.unpack_earlier()


def run(directory: Path, *arguments: str) -> Results:
    """One round in a directory that stands for the disk."""
    written = directory / "results.json"
    few = ["--rounds=1", "--messages=40", "--backlog=200", "--instances=1,2", "--places=disk", f"--disk={directory}"]
    assert bench.main([*arguments, *few, f"--json={written}", "--alone"]) == 0
    return from_json(json.loads(written.read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("name", bench.SCENARIOS)
def test_scenario_measures_ours(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "calls":
        need("strace", shutil.which("strace") is not None, "strace(1)")
    monkeypatch.setattr("benchmarks.scenarios.large.SIZE", 1 << 20)
    monkeypatch.setattr("benchmarks.scenarios.latency.SETTLED", 0.1)
    monkeypatch.setattr("benchmarks.scenarios.database.WAITING", 400)
    monkeypatch.setattr("benchmarks.scenarios.calls.MANY", 440)
    monkeypatch.setattr("benchmarks.scenarios.sizes.TOTAL", 1 << 22)
    found = run(tmp_path, name)
    assert found.series or found.calls
    for series in found.series:
        assert len(series.values) == 1, series.key
        assert math.isfinite(series.values[0]), series.key
    alone = {goal.what for goal in found.goals if goal.against is None}
    missing = {goal.what for goal in found.goals if found.verdict(goal) == "not measured"}
    assert not alone & missing
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", "results.svg"]  # nothing is left


def test_an_unknown_scenario_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["drains"])
    assert "no such scenario: drains" in capsys.readouterr().err


def test_messages_are_named_as_ours_and_as_large_as_asked_for(tmp_path: Path) -> None:
    fill(tmp_path / "in", 3, size=100)
    fill(tmp_path / "in", 2, size=100, first=3)
    files = sorted((tmp_path / "in/incoming").iterdir())
    assert len(files) == 5
    assert all(is_ours(path.name) and path.stat().st_size == 100 and json.loads(path.read_bytes()) for path in files)


@pytest.mark.slow
@pytest.mark.parametrize("peer", [peers.OURS, peers.FLOOR], ids=lambda peer: peer.name)
def test_a_peer_does_what_it_is_told_and_reports_it(peer: peers.Peer, tmp_path: Path) -> None:
    need("cc", peer.available, "a C compiler")
    fill(tmp_path / "in", 5)
    make_queue(tmp_path / "out")
    oldest = sorted(path.name for path in (tmp_path / "in/incoming").iterdir())[:2]
    moved = peers.run(peer, "drain", tmp_path / "in", "--count", 2, "--out", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out/incoming").iterdir()) == oldest
    deleted = peers.run(peer, "drain", tmp_path / "in", "--count", 3)
    put = peers.run(peer, "enqueue", tmp_path / "in", "--count", 4, "--size", 10, "--sync", "batch")
    sizes = [path.stat().st_size for path in (tmp_path / "in/incoming").iterdir()]
    assert sizes == [10] * 4
    assert [each.messages for each in (moved, deleted, put)] == [2, 3, 4]
    assert all(each.seconds > 0 for each in (moved, deleted, put))


@pytest.mark.slow
@pytest.mark.parametrize("peer", [peers.LIBRARY, peers.EARLIER], ids=lambda peer: peer.name)
def test_the_library_of_each_version_drains_what_it_has_enqueued(peer: peers.Peer, tmp_path: Path) -> None:
    need("history", peer.available, "a clone with the whole history: git fetch --unshallow")
    put = peers.run(peer, "enqueue", tmp_path / "in", "--count", 40, "--size", 10)
    assert [path.stat().st_size for path in (tmp_path / "in/incoming").iterdir()] == [10] * 40
    drained = peers.run(peer, "drain", tmp_path / "in", "--count", 35)
    assert (put.messages, drained.messages) == (40, 35)
    assert [len(list((tmp_path / "in" / part).iterdir())) for part in ("incoming", "pending")] == [5, 0]


def test_a_peer_with_a_runtime_of_its_own_runs_that_one(tmp_path: Path) -> None:
    (tmp_path / "piperkit").mkdir()
    (tmp_path / "piperkit/__init__.py").write_text("raise RuntimeError('the other one')")
    peer = dataclasses.replace(peers.LIBRARY, runtime=tmp_path)
    with pytest.raises(RuntimeError, match="the other one"):
        peers.run(peer, "enqueue", tmp_path / "in")


def test_an_earlier_release_is_left_out_where_the_history_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(peers.ROOT / "releases.toml", tmp_path)
    monkeypatch.setattr(peers, "ROOT", tmp_path)
    monkeypatch.setattr(peers, "BUILT", tmp_path / ".bench")
    peers.unpack_earlier()
    assert capsys.readouterr().err.startswith("piperkit 0.4.0 is left out: ")
    assert not (tmp_path / ".bench").exists()


def test_messages_set_aside_are_what_a_queue_takes_them_for(tmp_path: Path) -> None:
    for kind, part, look in (("put off", "deferred", aside.DELAY), ("dead letters", "errors", None)):
        with DirectoryQueue(aside.make(tmp_path / part, kind, 3)) as queue:
            assert (queue.count(part), queue.claim(3)) == (3, [])
            assert queue.next_look() == (look and pytest.approx(look, abs=600))
