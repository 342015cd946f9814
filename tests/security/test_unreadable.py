"""Files in a queue that make no sense, or that cannot be moved, stop nothing but themselves, and are said once."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dirq_tools import FAILURE, claim_one, files
from needs import need
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.deadletters import hidden_sidecar
from piperkit.dirq.view import QueueView

HUGE = 10 << 40


def make_huge(path: Path) -> None:
    path.touch()
    os.truncate(path, HUGE)


def make_socket(path: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)  # a socket's path must be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


def holds(contents: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(contents)


#: When the messages of these tests arrived, in nanoseconds since the epoch: a record is its message's by that.
ARRIVED = 1_700_000_000_000_000_000

#: What a file that should hold a JSON object may be.
NONSENSE: dict[str, Callable[[Path], object]] = {
    "nested too deep": holds(b"[" * 100_000),
    "half a surrogate pair": holds(b'{"id": "\\ud800", "arrived": %d, "history": "\\ud800"}' % ARRIVED),
    "a huge integer": holds(b'{"id": "x", "arrived": ' + b"9" * 100_000 + b"}"),
    "a huge number": holds(b'{"id": 1e999, "arrived": %d, "attempts": 1e999, "crashes": 0}' % ARRIVED),
    "many attempts": holds(b'{"id": 1, "arrived": %d, "attempts": 99999999999, "crashes": 0}' % ARRIVED),
    "other types": holds(b'{"id": ["x"], "arrived": %d, "attempts": "one", "history": 7}' % ARRIVED),
    "no object": holds(b'["id"]'),
    "null": holds(b"null"),
    "no JSON": holds(b"{'id': 'x'}"),
    "no UTF-8": holds(b"\xff\xfe\x00"),
    "nothing": holds(b""),
    "10 TiB of nothing": make_huge,
    "a directory": lambda path: path.mkdir(),
    "a FIFO": os.mkfifo,
    "a socket": make_socket,
    "a link to a file": lambda path: path.symlink_to("/etc/passwd"),
    "a link to nothing": lambda path: path.symlink_to("/nowhere/\n"),
}


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[DirectoryQueue]:
    """A queue and its next one."""
    DirectoryQueue(tmp_path / "next").close()
    with DirectoryQueue(tmp_path / "queue", next_queue=tmp_path / "next", min_free=0, orphan_age=0) as queue:
        yield queue


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    return lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("kind", NONSENSE)
def test_a_record_that_makes_no_sense_is_moved_aside_and_its_message_goes_on(
    mine: DirectoryQueue, said: Callable[[], list[str]], kind: str
) -> None:
    for part, name in (("incoming", "a"), ("deferred", "b"), ("pending", "c")):
        Path(mine.path, part, name).write_text(name)
        os.utime(Path(mine.path, part, name), ns=(ARRIVED, ARRIVED))
        NONSENSE[kind](Path(mine.path, "state", name))
    view = QueueView(mine.path)
    assert [entry.id for part in ("incoming", "deferred", "pending") for entry in view.entries(part)] == ["a", "b", "c"]
    mine.recover()
    assert {claim.id: claim.attempt for claim in mine.claim(9)} == {"a": 1, "b": 1, "c": 1}
    for name in ("a", "b", "c"):
        assert mine.read(name) == name.encode()
        mine.retry(name, 0, FAILURE)
    assert {claim.id: claim.attempt for claim in mine.claim(9)} == {"a": 2, "b": 2, "c": 2}
    aside = [line for line in said() if "unreadable, and moved aside" in line]
    assert [line.split(":")[0] for line in sorted(aside)] == [f"{mine.path}/state/{name}" for name in ("a", "b", "c")]
    assert "\n" not in "".join(aside)
    assert sorted(name for name in os.listdir(f"{mine.path}/state") if name[0] == ".") == [
        ".unreadable.a",
        ".unreadable.b",
        ".unreadable.c",
    ]


@pytest.mark.parametrize("kind", NONSENSE)
def test_a_reason_that_makes_no_sense_stops_neither_recovery_nor_a_look(
    mine: DirectoryQueue, said: Callable[[], list[str]], kind: str
) -> None:
    for name in (".x.meta", "bad.meta", hidden_sidecar("worse")):
        NONSENSE[kind](Path(mine.path, "errors", name))
    for name in ("bad", "worse"):
        Path(mine.path, "errors", name).write_text(name)
    mine.enqueue("good", "good")
    for _ in range(3):
        mine.recover()
        assert [(entry.id, entry.reason) for entry in QueueView(mine.path).entries("errors")] == [
            ("bad", None),
            ("worse", None),
        ]
    assert claim_one(mine) == "good"
    assert len(said()) == len(set(said()))
    regular = kind not in ("a directory", "a FIFO", "a socket", "a link to a file", "a link to nothing")
    assert len([line for line in said() if "moved aside" in line]) == (2 if regular else 0)
    mine.expire_errors(-1)
    left = [name for name in os.listdir(f"{mine.path}/errors") if not name.startswith(".")]
    assert left == (["bad.meta"] if kind == "a directory" else [])


# -- files that nobody can move or remove ----------------------------------------------------------------------------


@pytest.fixture
def fix() -> Iterator[Callable[[Path], None]]:
    """Make files immutable; at the end of the test they are no longer."""
    fixed: list[Path] = []

    def run(path: Path) -> None:
        need("root", os.geteuid() == 0, "root, to make a file immutable")
        done = subprocess.run(["chattr", "+i", path], check=False, capture_output=True)
        need("chattr", done.returncode == 0, "chattr, and a file system that knows immutable files")
        fixed.append(path)

    yield run
    for path in fixed:
        subprocess.run(["chattr", "-i", path], check=True)


@pytest.mark.parametrize("part", ["incoming", "pending", "outgoing", "deferred", "errors", "state", "tmp"])
def test_a_file_that_cannot_be_moved_is_said_once_and_passed_by(
    mine: DirectoryQueue, fix: Callable[[Path], None], said: Callable[[], list[str]], part: str
) -> None:
    stuck = Path(mine.path, part, "a")
    stuck.write_text("stuck")
    if part == "tmp":
        stuck.chmod(0o1600)  # half written, by a program of ours that is dead
    fix(stuck)
    for name in ("b", "c"):
        Path(mine.path, "pending", name).write_text(name)
    for _ in range(3):
        mine.recover()
        mine.expire_errors(-1)
        for claim in mine.claim(9):
            mine.commit(claim.id)
    assert files(mine.next_queue or "", "incoming") == {"b": b"b", "c": b"c"}
    assert stuck.read_text() == "stuck"
    lines = [line for line in said() if str(stuck) in line]
    assert len(lines) == 1
