"""Only a regular file that we may read is a message; anything else in `incoming` is left alone and reported once."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dirq_tools import Process, claim_one
from needs import need
from piperkit.dirq import DirectoryQueue


def make_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path must be short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


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


def reports(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


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
    put(kind, "2")
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


def test_file_that_we_may_not_read_is_left_alone_and_reported_once(
    open_directory: Path, start: Callable[..., Process]
) -> None:
    path = open_directory / "in"
    queue = DirectoryQueue(path, perms=0o777, min_free=0)
    for name in ("a secret", "b"):
        queue.enqueue("x", name)
    (path / "incoming" / "a secret").chmod(0)
    code = """
import logging
logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
queue = DirectoryQueue(path, min_free=0)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
say([claim.id for _ in range(3) for claim in queue.claim(5)])
queue.close()
"""
    process = start(code, path)
    out, _ = process._process.communicate()
    report, claimed = out.splitlines()
    assert str(path / "incoming" / "a secret") in report
    assert "may not read" in report
    assert claimed == '["b"]'
    assert sorted(os.listdir(path / "incoming")) == ["a secret", "b"]
