"""Only a regular file that we may read is a message; anything else in `incoming` is left alone and reported once."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dirq_tools import Process, claim_one, make_socket, reports
from needs import need
from piperkit.dirq import DirectoryQueue
from piperkit.errors import NotClaimed


def make_device(path: Path) -> None:
    need("root", os.geteuid() == 0, "root, to make a device node")
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero, which has no end
    except PermissionError:
        need("mknod", False, "permission to make a device node")


def make_directory_with_a_file(path: Path) -> None:
    path.mkdir()
    (path / "file").write_text("not a message")


THINGS: dict[str, Callable[[Path], object]] = {
    "directory": make_directory_with_a_file,
    "FIFO": os.mkfifo,
    "socket": make_socket,
    "device": make_device,
    "link to a file": lambda path: path.symlink_to("/etc/passwd"),
    "link to a message": lambda path: path.symlink_to("message"),
    "link to a directory": lambda path: path.symlink_to("/etc"),
    "link to nothing": lambda path: path.symlink_to("/nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.fixture
def put(queue: DirectoryQueue) -> Callable[[str, str], Path]:
    def make(kind: str, name: str) -> Path:
        path = Path(queue.path, "incoming", name)
        THINGS[kind](path)
        return path

    return make


@pytest.mark.parametrize("kind", THINGS)
def test_what_is_no_regular_file_is_left_alone_and_reported_once(
    queue: DirectoryQueue, put: Callable[[str, str], Path], caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    id = queue.enqueue("a message", "message")
    path = put(kind, "a thing")  # sorts before it
    before = os.lstat(path)
    assert claim_one(queue) == id
    for _ in range(3):
        assert queue.claim() == []
    after = os.lstat(path)
    assert (after.st_mode, after.st_ino, after.st_ctime_ns) == (before.st_mode, before.st_ino, before.st_ctime_ns)
    (report,) = reports(caplog)
    assert str(path) in report
    assert queue.counts()["incoming"] == 0
    assert os.listdir(Path(queue.path, "pending")) == ["message"]


@pytest.mark.parametrize("kind", THINGS)
def test_message_that_becomes_something_else_after_the_look_is_left_alone(
    queue: DirectoryQueue, put: Callable[[str, str], Path], caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    for name in ("1", "2", "3"):
        queue.enqueue("a message", name)
    assert claim_one(queue) == "1"  # and now it knows of the others
    Path(queue.path, "incoming", "2").unlink()
    thing = put(kind, "2")
    before = os.lstat(thing)
    assert claim_one(queue) == "2"  # what it is shows when it is read
    with pytest.raises(NotClaimed, match="left alone"):
        queue.read("2")
    assert (os.lstat(thing).st_mode, os.lstat(thing).st_ino) == (before.st_mode, before.st_ino)
    assert claim_one(queue) == "3"
    assert queue.claim() == []
    assert len(reports(caplog)) == 1


def test_hidden_file_is_left_alone_and_reported_once(queue: DirectoryQueue, caplog: pytest.LogCaptureFixture) -> None:
    hidden = Path(queue.path, "incoming", ".hidden")
    hidden.write_text("not yet")
    for _ in range(3):
        assert queue.claim() == []
    assert hidden.read_text() == "not yet"
    assert len(reports(caplog)) == 1
    assert queue.counts()["incoming"] == 0


def test_link_in_pending_is_never_followed(queue: DirectoryQueue, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for part in ("pending", "outgoing", "deferred", "state", "tmp", "errors"):
        Path(queue.path, part, "link").symlink_to(precious)
        Path(queue.path, part, ".link.meta").symlink_to(precious)
    assert not queue.recover()
    assert sum(queue.counts().values()) == 0
    queue.enqueue("a", "link")
    assert claim_one(queue) is not None if not Path(queue.path, "pending", "link").is_symlink() else not queue.claim()
    assert precious.read_text() == "precious"


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can get to, which `tmp_path` is not."""
    directory = Path(tempfile.mkdtemp(prefix="piper-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def test_file_that_we_may_not_read_is_left_alone_until_it_is_corrected_and_reported_once(
    open_directory: Path, start: Callable[..., Process]
) -> None:
    need("root", os.geteuid() == 0, "root, to be another user")
    path = open_directory / "in"
    queue = DirectoryQueue(path, perms=0o777, owner=(65534, 65534), min_free=0)
    for name in ("a secret", "b"):
        queue.enqueue("x", name)
    secret = path / "incoming" / "a secret"
    os.chown(secret, 0, 0)
    secret.chmod(0)
    code = """
import logging
logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
queue = DirectoryQueue(path, min_free=0)
def work():
    for claim in queue.claim(5):
        try:
            queue.read(claim.id)
            yield claim.id
        except errors.NotClaimed:
            pass
say([id for _ in range(3) for id in work()])
wait()
say(list(work()))
queue.close()
"""
    process = start(code, path)
    assert str(secret) in (report := process.line())
    assert "may not read" in report
    assert process.hear() == ["b"]
    assert sorted(os.listdir(path / "incoming")) == ["a secret"]
    secret.chmod(0o644)
    process.tell()
    assert process.end() == ["a secret"]
    assert sorted(os.listdir(path / "incoming")) == ["a secret", "b"]
