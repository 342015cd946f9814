"""What the real version 0.4.0 leaves in a queue when it is killed there is taken over, and nothing while it lives."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from checkout import ROOT
from dirq_tools import Clock, MakeQueue, Process, everything, files
from needs import need
from piperkit.dirq.litter import LITTER_AGE
from piperkit.errors import QueueInUse

#: Runs a program on the queue "in", whose next queue is "next", with version 0.4.0.
StartOld = Callable[[str], Process]

QUEUE = """
queue = DirectoryQueue(path, next_queue=arguments[0], min_free=0, orphan_age=0)
"""
WORK = f"""{QUEUE}
queue.recover()
claims = {{claim.id: claim.attempt for claim in queue.claim(10)}}
for id in ("worked", "worked too"):
    queue.read(id)
say(claims)
wait()
"""
#: As a process leaves them that is killed in the middle of it, after `WORK` was killed.
LEAVE = f"""{QUEUE}
queue.recover()
claims = {{claim.id: claim.attempt for claim in queue.claim(10)}}
queue.retry("put off", 1000, Failure("not now"))
queue.cancel("worked too")
for id, target in (("changed", None), ("dispatched", arguments[1])):
    queue._begin_move(queue._leases[id], target or arguments[0], id.encode() + b", changed", target)
queue.read("worked")
def half(fd):
    os.write(fd, b"half")
    say(claims)
    wait()
queue._store.publish(half, None)
"""


@pytest.fixture(scope="session")
def old_runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime of version 0.4.0."""
    listed = tomllib.loads((ROOT / "releases.toml").read_text(encoding="utf-8"))["release"]
    (commit,) = (each["commit"] for each in listed if each["version"] == "0.4.0")
    git = ["git", "-C", str(ROOT)]
    known = subprocess.run([*git, "cat-file", "-e", commit], capture_output=True, check=False)
    need("history", known.returncode == 0, "a clone with the whole history: git fetch --unshallow")
    directory = tmp_path_factory.mktemp("0.4.0")
    archive = subprocess.run([*git, "archive", commit, "runtime"], stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "-x", "-C", str(directory)], input=archive.stdout, check=True)
    return directory / "runtime"


@pytest.fixture
def start_old(tmp_path: Path, old_runtime: Path, start: Callable[..., Process]) -> StartOld:
    def run(code: str) -> Process:
        return start(code, tmp_path / "in", str(tmp_path / "next"), str(tmp_path / "other"), runtime=old_runtime)

    return run


def test_all_that_a_killed_instance_left_is_recovered(
    tmp_path: Path, make_queue: MakeQueue, clock: Clock, start_old: StartOld
) -> None:
    names = ("changed", "claimed", "dispatched", "put off", "worked", "worked too")
    make = f"""
for address in (path, *arguments):
    queue = DirectoryQueue(address, min_free=0)
for name in {names}:
    DirectoryQueue(path, min_free=0).enqueue(name, name)
"""
    start_old(make).end()
    first = start_old(WORK)
    assert first.hear() == dict.fromkeys(names, 1)
    first.kill()
    second = start_old(LEAVE)
    assert second.hear() == dict.fromkeys(names, 1) | {"worked": 2, "worked too": 2}
    second.kill()
    assert everything(tmp_path / "in") == {
        "pending": {"claimed": b"claimed", "worked": b"worked"},
        "deferred": {"put off": b"put off"},
        "outgoing": {"changed": b"changed, changed", "dispatched": b"dispatched, changed"},
    }

    queue = make_queue(next_queue=tmp_path / "next", orphan_age=10, crash_limit=3)
    assert not queue.claim(10)
    found = queue.recover()
    assert not found, "as those of a foreign program, which no record lists either"
    assert found.again is not None
    assert 0 < found.again <= 10
    clock.forward(11)
    found = queue.recover()
    assert (set(found.returned), set(found.finished)) == ({"claimed", "worked"}, {"changed", "dispatched"})
    assert files(tmp_path / "next", "incoming") == {"changed": b"changed, changed"}
    assert files(tmp_path / "other", "incoming") == {"dispatched": b"dispatched, changed"}
    assert {claim.id: claim.attempt for claim in queue.claim(10)} == {"claimed": 1, "worked": 3}
    assert [record.name for record in Path(queue.path, "state").iterdir() if record.name.startswith(".")] == []
    queue.cancel("claimed")

    # One more death is the third.
    queue.read("worked")
    queue._instance.let_go()
    queue = make_queue(next_queue=tmp_path / "next", orphan_age=0, crash_limit=3)
    assert queue.recover().banished == ("worked",)

    # Due when it was, and no sooner.
    assert not queue.claim()
    due = queue.next_look()
    assert due is not None
    assert 900 < due < 1000
    clock.forward(1000)
    (claim,) = make_queue().claim()
    assert (claim.id, claim.attempt) == ("put off", 2)

    # What was half written is litter, but only when nobody can be writing it any more.
    assert len(list(Path(queue.path, "tmp").iterdir())) == 1
    clock.forward(LITTER_AGE)
    assert queue.recover().litter == 1


def test_instance_that_is_alive_is_named_and_left_alone(
    make_queue: MakeQueue, start_old: StartOld, clock: Clock
) -> None:
    begun_before = make_queue(orphan_age=0)
    make_queue("next")
    assert not begun_before.claim()
    assert not begun_before.recover()
    names = {"worked", "worked too", "free"}
    for name in names:
        begun_before.enqueue(name, name)
    old = start_old(WORK)
    assert old.hear().keys() == names
    clock.forward(3600)
    queue = make_queue(orphan_age=0)
    for refused in (begun_before.recover, queue.recover, queue.claim, queue.watch):
        with pytest.raises(QueueInUse, match=rf"\b{old.pid}\b"):
            refused()
    assert everything(queue)["pending"].keys() == names
    old.kill()
    assert set(queue.recover().returned) == names
    assert {claim.id: claim.attempt for claim in queue.claim(10)} == {"worked": 2, "worked too": 2, "free": 1}
