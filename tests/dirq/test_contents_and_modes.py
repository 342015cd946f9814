"""Contents are kept byte for byte, old ones stay whole until new ones are, and files have the queue's mode."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dirq_tools import FAILURE, MakeQueue, Process, claim_one, crash, everything, files
from needs import need
from piperkit.dirq import DirectoryQueue, Sync, is_queue
from piperkit.dirq.fs import Directory
from piperkit.dirq.layout import PARTS, SHARED
from piperkit.errors import MessageTooLarge, NoRoom, NotClaimed, QueueMissing

SAMPLES = [
    b"",
    b"\r\n",
    b"one\r\ntwo\rthree\n",
    b"\0" * 4096,
    b"caf\xe9",
    b"\xef\xbb\xbfwith a byte order mark",
    bytes(range(256)) * 4096,
    os.urandom(3_000_001),
]


def mode(path: str | os.PathLike[str]) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def assert_modes(queue: Path, shared: int) -> None:
    """Producers may use `tmp` and `incoming` as `shared` has it; all else is the owner's."""
    found = {path.name: oct(mode(path)) for path in (queue, *queue.iterdir())}
    expected = {part: oct(shared if part in SHARED else 0o700) for part in PARTS}
    assert found == {queue.name: oct(0o755), **expected}


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0)
    os.umask(before)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("contents", SAMPLES, ids=len)
def test_bytes_stay_the_same_on_every_way(make_queue: MakeQueue, tmp_path: Path, contents: bytes) -> None:
    source = tmp_path / "source"
    source.write_bytes(contents)
    following, other = make_queue("next"), make_queue("other")
    queue = make_queue(next_queue=following.path)
    queue.enqueue(contents, "1")
    queue.enqueue_file(source, "2")
    queue.enqueue("old", "3")
    queue.enqueue("old", "4")
    for claim in queue.claim(4):
        if claim.id in "34":
            queue.update(claim.id, contents)
        assert queue.read(claim.id) == contents
    queue.duplicate("1", other.path)
    queue.commit("1")
    queue.dispatch("2", other.path)
    queue.commit("3", contents)
    queue.banish("4", FAILURE)
    assert files(following, "incoming") == {"1": contents, "3": contents}
    assert files(other, "incoming") == {"1": contents, "2": contents}
    assert files(queue, "errors")["4"] == contents


def test_files_are_never_executable(make_queue: MakeQueue, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh")
    script.chmod(0o755)
    queue = make_queue(perms=0o777)
    for name in ("enqueued", "changed", "banished"):
        queue.enqueue("x", name)
    queue.enqueue_file(script, "copied")
    queue.claim(4)
    queue.update("changed", "new")
    queue.retry("changed", 100, FAILURE)
    queue.banish("banished", FAILURE)
    found = [path for path in Path(queue.path).rglob("*") if path.is_file()]
    assert {"enqueued", "changed", "banished", "banished.meta", "copied"} <= {path.name for path in found}
    assert {path.name for path in found if mode(path) & 0o111} == set()


@pytest.mark.parametrize("mask", [0, 0o022, 0o077, 0o777], ids=oct)
@pytest.mark.parametrize(
    ("perms", "shared"),
    [
        (0o770, 0o3770),  # where a group may write: files get that group, and nobody can remove those of others
        (0o775, 0o3775),
        (0o702, 0o3702),
        (0o750, 0o750),
        (0o700, 0o700),
    ],
    ids=oct,
)
def test_modes_are_exactly_as_set_whatever_the_umask(
    make_queue: MakeQueue, umask: Callable[[int], int], mask: int, perms: int, shared: int
) -> None:
    need("root", mask != 0o777 or os.geteuid() == 0, "root, to open directories that are made without any mode")
    umask(mask)
    queue = make_queue("new/parents/in", perms=perms)
    id = queue.enqueue("x")
    assert mode(Path(queue.path, "incoming", id)) == perms & 0o666
    assert_modes(Path(queue.path), shared)
    assert mode(Path(queue.path).parent) == 0o755


def test_directories_that_are_there_keep_their_mode(make_queue: MakeQueue, tmp_path: Path) -> None:
    incoming = tmp_path / "in" / "incoming"
    incoming.mkdir(parents=True)
    incoming.chmod(0o3777)
    queue = make_queue(perms=0o750)
    assert mode(incoming) == 0o3777
    assert mode(Path(queue.path, "tmp")) == 0o750


def test_queue_and_its_messages_belong_to_the_owner_that_is_set(make_queue: MakeQueue) -> None:
    need("root", os.geteuid() == 0, "root, to give files away")
    queue = make_queue("new/in", owner=(1234, 2345))
    queue.enqueue("x", "a")
    queue.enqueue("x", "b")
    queue.claim(2)
    queue.update("a", "new")
    queue.banish("b", FAILURE)
    paths = [Path(queue.path).parent, Path(queue.path), *Path(queue.path).rglob("[!.]*")]
    assert {(path.name, path.stat().st_uid, path.stat().st_gid) for path in paths} == {
        (path.name, 1234, 2345) for path in paths
    }


def test_foreign_owner_and_mode_are_kept_when_contents_change(make_queue: MakeQueue) -> None:
    need("root", os.geteuid() == 0, "root, to give files away")
    other = make_queue("other")
    queue = make_queue(owner=(1, 1))
    foreign = Path(queue.path, "incoming", "foreign")
    foreign.write_text("x")
    os.chown(foreign, 1234, 2345)
    foreign.chmod(0o640)
    queue.claim()
    queue.update("foreign", "new")
    queue.dispatch("foreign", other.path, "newer")
    found = Path(other.path, "incoming", "foreign").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 2345, 0o640)


def test_what_stands_in_the_way_of_a_queue_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "in"):
        with pytest.raises(QueueMissing, match=r"file"):
            DirectoryQueue(path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "pending").symlink_to("/nowhere")
    with pytest.raises(QueueMissing, match="pending is in the way"):
        DirectoryQueue(tmp_path / "in")


def test_queue_is_not_made_where_that_is_not_wanted(tmp_path: Path) -> None:
    with pytest.raises(QueueMissing, match="is not a queue"):
        DirectoryQueue(tmp_path / "in", create=False)
    assert not (tmp_path / "in").exists()
    DirectoryQueue(tmp_path / "in").close()
    assert is_queue(tmp_path / "in")
    DirectoryQueue(tmp_path / "in", create=False).close()


def test_queue_is_made_by_many_at_once(tmp_path: Path, start: Callable[..., Process]) -> None:
    code = """
say("ready")
wait()
queue = DirectoryQueue(path, min_free=0, perms=0o750)
queue.enqueue("x")
"""
    processes = [start(code, tmp_path / "new" / "parents" / "in") for _ in range(4)]
    for process in processes:
        process.hear()
    for process in processes:
        process.tell()
    for process in processes:
        process.end()
    assert len(files(tmp_path / "new" / "parents" / "in", "incoming")) == 4
    assert_modes(tmp_path / "new" / "parents" / "in", 0o750)


# -- whole or not at all ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["fsync", "write", "rename", "fchmod", "utime"])
def test_update_that_fails_leaves_the_old_contents_whole(
    queue: DirectoryQueue, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    queue.enqueue("old contents", "name")
    queue.claim()

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(OSError, match="Input/output error"):
            queue.update("name", "new contents")
    assert everything(queue) == {"pending": {"name": b"old contents"}}
    assert files(queue, "tmp") == {}
    assert queue.read("name") == b"old contents"
    queue.update("name", "new contents")
    assert queue.read("name") == b"new contents"


@pytest.mark.parametrize("step", ["fsync", "write", "fchmod"])
def test_enqueue_that_fails_publishes_nothing(
    queue: DirectoryQueue, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(OSError, match="Input/output error"):
            queue.enqueue("contents")
    assert everything(queue) == {}
    assert files(queue, "tmp") == {}


def test_group_whose_directory_cannot_be_synced_is_not_published(
    queue: DirectoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(directory: Directory) -> None:
        raise OSError(5, "Input/output error", directory.path)

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "sync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            queue.enqueue_many(["one", "two"])
    assert everything(queue) == {}
    queue.enqueue_many(["one", "two"])
    assert len(files(queue, "incoming")) == 2


def test_reader_of_the_file_never_sees_a_part_of_an_update(
    tmp_path: Path, make_queue: MakeQueue, start: Callable[..., Process]
) -> None:
    queue = make_queue(sync=Sync.OFF)
    old, new = b"a" * 300_000, b"b" * 200_000
    queue.enqueue(old, "name")
    queue.claim()
    code = """
say("ready")
sizes = set()
while not os.path.exists(os.path.join(path, "stop")):
    with open(os.path.join(path, "pending", "name"), "rb") as file:
        data = file.read()
    sizes.add((len(data), len(set(data))))
say(sorted(sizes))
"""
    reader = start(code, queue.path)
    assert reader.hear() == "ready"
    for _ in range(100):
        queue.update("name", new)
        queue.update("name", old)
    Path(queue.path, "stop").touch()
    assert {tuple(found) for found in reader.end()} <= {(len(old), 1), (len(new), 1)}


def test_update_survives_the_death_of_its_process(queue: DirectoryQueue, make_queue: MakeQueue) -> None:
    dead = make_queue()
    dead.enqueue("old", "name")
    dead.claim()
    dead.update("name", "new")
    crash(dead)
    queue.recover()
    assert everything(queue) == {"incoming": {"name": b"new"}}


def test_message_that_is_too_large_is_not_read(make_queue: MakeQueue) -> None:
    producer, queue = make_queue(), make_queue(message_max=10)
    producer.enqueue(b"x" * 11, "large")
    assert claim_one(queue) == "large"
    with pytest.raises(MessageTooLarge):
        queue.read("large")
    queue.banish("large", FAILURE)
    assert files(queue, "errors")["large"] == b"x" * 11


def test_file_that_is_too_large_is_not_enqueued(make_queue: MakeQueue, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x" * 11)
    queue = make_queue(message_max=10)
    with pytest.raises(MessageTooLarge):
        queue.enqueue_file(tmp_path / "source")
    assert everything(queue) == {}
    unlimited = make_queue(message_max=0)
    unlimited.enqueue_file(tmp_path / "source")


def test_room_that_has_to_stay_free_is_left_free(make_queue: MakeQueue) -> None:
    writer, queue = make_queue(), make_queue(min_free=1 << 60)
    with pytest.raises(NoRoom, match="queue_min_free"):
        queue.enqueue("x")
    writer.enqueue("old", "name")
    queue.claim()
    with pytest.raises(NoRoom):
        queue.update("name", "longer")
    assert queue.read("name") == b"old"
    queue.update("name", "new")  # what takes no more room than before still works
    queue.update("name", "")
    queue.commit("name")
    assert everything(queue) == {}


@pytest.mark.parametrize("operation", ["update", "commit", "cancel", "banish", "requeue", "retry", "dispatch"])
def test_claimed_file_that_another_program_removes_is_said_and_let_go(make_queue: MakeQueue, operation: str) -> None:
    following = make_queue("next")
    queue = make_queue(next_queue=following.path)
    queue.enqueue("x", "name")
    queue.claim()
    Path(queue.path, "pending", "name").unlink()
    call = {
        "update": lambda: queue.update("name", "new"),
        "commit": lambda: queue.commit("name", "new"),
        "cancel": lambda: queue.cancel("name"),
        "banish": lambda: queue.banish("name", FAILURE),
        "requeue": lambda: queue.requeue("name"),
        "retry": lambda: queue.retry("name", 1, FAILURE),
        "dispatch": lambda: queue.dispatch("name", following.path),
    }[operation]
    with pytest.raises(NotClaimed, match="removed by another program"):
        call()
    assert queue.claimed() == []
    assert everything(queue) == everything(following) == {}
    assert os.listdir(Path(queue.path, "errors")) == []
    assert files(queue, "tmp") == {}
