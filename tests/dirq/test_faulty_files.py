"""Files that cannot be read, moved or removed: they stop nothing but themselves, and are said once."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dirq_tools import FAILURE, MakeQueue, claim_one, files, foreign_claim, make_socket, reports
from needs import need
from piperkit.dirq import DirectoryQueue, fs, recovery
from piperkit.dirq.deadletters import hidden_sidecar
from piperkit.dirq.fs import Directory
from piperkit.dirq.view import QueueView


def make_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 << 40)


def make_anothers(path: Path) -> None:
    need("root", os.geteuid() == 0, "root, to give files away")
    path.write_text("{}")
    os.chown(path, 12345, 12345)


def make_directory(path: Path) -> None:
    path.mkdir()
    (path / "file").write_text("")


REGULAR: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.touch(),
    "deep": lambda path: path.write_bytes(b"[" * 100_000),
    "half a character": lambda path: path.write_text('{"id": "\\ud800", "arrived": 1, "target": "\\ud800"}'),
    "no text": lambda path: path.write_bytes(os.urandom(5000)),
    "no object": lambda path: path.write_text("null"),
    "many digits": lambda path: path.write_text("9" * 5000),
    "huge": make_huge,
    "another's": make_anothers,
}
KINDS = {
    **REGULAR,
    "directory": make_directory,
    "FIFO": os.mkfifo,
    "socket": make_socket,
    "link": lambda path: path.symlink_to("/etc/passwd"),
    "link to itself": lambda path: path.symlink_to(path.name),
}
GOOD = {"attempts": 2, "crashes": 1, "death": None, "target": None, "history": []}
#: Fields of a record that is not a record.
FIELDS: list[dict[str, object]] = [
    {"attempts": -1},
    {"attempts": 1e999},
    {"attempts": True},
    {"attempts": 10**30},
    {"crashes": 3},  # more than attempts
    {"death": 7},
    {"target": "relative"},
    {"target": "/spool/../etc"},
    {"target": 7},
    {"target": "/nul\0"},
    {"history": 7},
    {"history": [7]},
    {"history": [{"time": 1}]},
    {"history": {"a": 1}},
]


# -- what cannot be read -------------------------------------------------------------------------------------


def assert_goes_on_without_a_record(queue: DirectoryQueue, caplog: pytest.LogCaptureFixture) -> None:
    """The message "name" is worked on as if it had no record; that is moved aside, and said once."""
    queue.recover()
    for attempt in (1, 2):
        assert {claim.id: claim.attempt for claim in queue.claim(5)} == {"name": attempt, "other": attempt}
        assert QueueView(queue.path).entries("pending")
        for name in queue.claimed():
            queue.read(name)
            queue.retry(name, 0, FAILURE)
    (report,) = reports(caplog)
    assert str(Path(queue.path, "state", "name")) in report
    assert os.path.lexists(Path(queue.path, "state", ".unreadable.name"))
    queue.recover()
    queue.close()
    assert set(files(queue, "state")) == {"name", "other"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "half a character"])
def test_record_that_cannot_be_read_is_moved_aside_and_its_message_goes_on(
    queue: DirectoryQueue, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    for name in ("name", "other"):
        queue.enqueue("x", name)
    KINDS[kind](Path(queue.path, "state", "name"))
    assert_goes_on_without_a_record(queue, caplog)


@pytest.mark.parametrize("fields", FIELDS, ids=str)
def test_record_that_makes_no_sense_is_moved_aside_and_its_message_goes_on(
    queue: DirectoryQueue, caplog: pytest.LogCaptureFixture, fields: dict[str, object]
) -> None:
    for name in ("name", "other"):
        queue.enqueue("x", name)
    arrived = Path(queue.path, "incoming", "name").stat().st_mtime_ns
    Path(queue.path, "state", "name").write_text(json.dumps({"arrived": arrived} | GOOD | fields))
    assert_goes_on_without_a_record(queue, caplog)


@pytest.mark.parametrize("target", ["/nowhere", "/half a character \ud800", "/" + "x" * 5000, "/dev/null"])
def test_message_on_its_way_to_what_is_no_queue_stays_and_holds_up_no_other(
    make_queue: MakeQueue, caplog: pytest.LogCaptureFixture, target: str
) -> None:
    queue = make_queue(orphan_age=0, next_queue=make_queue("next").path)
    for name in ("astray", "good"):
        path = Path(queue.path, "outgoing", name)
        path.write_text("x")
    record = {"arrived": Path(queue.path, "outgoing", "astray").stat().st_mtime_ns} | GOOD | {"target": target}
    Path(queue.path, "state", "astray").write_text(json.dumps(record))
    assert queue.recover().finished == ("good",)
    assert queue.recover().again == recovery.FAULT_WAIT
    assert files(queue, "outgoing") == {"astray": b"x"}
    assert len(reports(caplog)) == 1


def test_second_record_that_cannot_be_read_takes_no_more_room(queue: DirectoryQueue) -> None:
    queue.enqueue("x", "name")
    for _ in range(3):
        Path(queue.path, "state", "name").write_text("junk")
        assert queue.claim()[0].attempt == 1
        queue.requeue("name")
    assert os.listdir(Path(queue.path, "state")) == [".unreadable.name"]


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_reason_that_cannot_be_read_keeps_no_other_from_being_shown(
    queue: DirectoryQueue, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    errors = Path(queue.path, "errors")
    KINDS[kind](errors / ".x.meta")
    (errors / "name").write_text("x")
    (errors / hidden_sidecar("name")).write_text('{"id": "name"}')
    for _ in range(3):
        queue.recover()
    assert (errors / "name.meta").exists()
    assert len(reports(caplog)) == (kind in REGULAR), "what is not a file is passed by"
    assert os.path.lexists(errors / ".x.meta") == (kind not in REGULAR)


@pytest.mark.parametrize("kind", KINDS)
def test_reason_that_cannot_be_read_hides_no_message_and_is_deleted_with_it(queue: DirectoryQueue, kind: str) -> None:
    KINDS[kind](Path(queue.path, "errors", "name.meta"))
    Path(queue.path, "errors", "name").write_text("x")
    view = QueueView(queue.path)
    (entry,) = (entry for entry in view.entries("errors") if entry.id == "name")
    assert (entry.reason, entry.attempts) == (None, 0)
    assert view.history(entry) == []
    queue.expire_errors(-1)
    assert queue.count("errors") == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["instances/host.1.1", "state/.1790000000.000000000.4711.host"])
def test_record_of_an_instance_that_is_none_stops_nothing(
    make_queue: MakeQueue, queue: DirectoryQueue, kind: str, place: str
) -> None:
    living = make_queue()
    for name in "abc":
        queue.enqueue(name, name)
    living.read(claim_one(living))
    foreign_claim(queue, "b")
    path = Path(queue.path, place)
    KINDS[kind](path)
    assert queue.recover().returned == ("b",)
    assert os.path.lexists(path) == (kind not in REGULAR)
    assert [claim.id for claim in queue.claim(5)] == ["b", "c"]


def test_record_of_an_instance_that_this_user_may_not_lock_stops_nothing(
    make_queue: MakeQueue, queue: DirectoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.enqueue("x", "a")
    foreign_claim(queue, "a")
    path = Path(queue.path, "instances", "host.1.1")
    path.touch()
    open_one = os.open

    def refuse(name: str, *arguments: object, **more: object) -> int:
        if name == path.name:
            raise PermissionError(errno.EACCES, "Permission denied", name)
        return open_one(name, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    assert queue.recover().returned == ("a",)


def test_what_is_said_of_a_file_is_one_line_whatever_its_name(
    queue: DirectoryQueue, caplog: pytest.LogCaptureFixture
) -> None:
    name = "a\nERROR: \x1b[31mforged\udcff"
    queue.enqueue("x", name)
    Path(queue.path, "state", name).write_text("junk")
    Path(queue.path, "incoming", f"{name}/".rstrip("/") + "d").mkdir()
    queue.banish(claim_one(queue), FAILURE)
    assert len(reports(caplog)) == 2
    assert all(report.isprintable() for report in reports(caplog))


# -- what cannot be moved or removed -------------------------------------------------------------------------


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of files that are immutable, say: they cannot be moved or removed."""
    names: set[str] = set()
    rename, remove = fs.rename_exclusive, Directory.remove

    def refused(name: str) -> None:
        if name in names:
            raise PermissionError(errno.EPERM, "Operation not permitted", name)

    def rename_some(source: str, target: str, *descriptors: int) -> None:
        refused(source)
        rename(source, target, *descriptors)

    def remove_some(directory: Directory, name: str) -> None:
        refused(name)
        remove(directory, name)

    monkeypatch.setattr(fs, "rename_exclusive", rename_some)
    monkeypatch.setattr(Directory, "remove", remove_some)
    return names


def test_message_that_cannot_be_moved_is_passed_by_until_it_is_corrected(
    queue: DirectoryQueue, caplog: pytest.LogCaptureFixture, stuck: set[str]
) -> None:
    for name in ("a", "b", "c"):
        queue.enqueue("x", name)
    stuck.update("ab")
    assert claim_one(queue) == "c"
    for _ in range(3):
        assert not queue.claim()
    assert len(reports(caplog)) == 2
    stuck.clear()
    assert not queue.claim(), "nothing shows that it could be moved now"
    Path(queue.path, "incoming", "a").chmod(0o600)
    assert [claim.id for claim in queue.claim(5)] == ["a"]


def test_due_message_that_cannot_be_moved_holds_up_no_other(
    queue: DirectoryQueue, caplog: pytest.LogCaptureFixture, stuck: set[str]
) -> None:
    for name in ("a", "b"):
        queue.enqueue("x", name)
        queue.retry(claim_one(queue), 0, FAILURE)
    stuck.add("a")
    assert [claim.id for claim in queue.claim(5)] == ["b"]
    assert not queue.claim(5)
    assert len(reports(caplog)) == 1


def test_orphans_that_cannot_be_moved_hold_up_no_other(
    queue: DirectoryQueue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, stuck: set[str]
) -> None:
    monkeypatch.setattr(recovery, "ORPHANS_MAX", 2)
    for name in "abcdef":
        queue.enqueue(name, name)
        foreign_claim(queue, name)
    stuck.update("abc")
    returned: list[str] = []
    for _ in range(6):
        found = queue.recover()
        returned += found.returned
        assert found.again == (0 if found.returned else recovery.FAULT_WAIT), "it does not spin"
    assert sorted(returned) == ["d", "e", "f"]
    waits = [report.partition(":")[2] for report in reports(caplog) if report.startswith("recovery waits")]
    assert len(waits) == len(set(waits)) == 3
    stuck.clear()
    assert len(queue.recover().returned) == 2
    assert len(queue.recover().returned) == 1


def test_files_that_cannot_be_removed_are_said_once_and_passed_by(
    queue: DirectoryQueue, caplog: pytest.LogCaptureFixture, stuck: set[str]
) -> None:
    for name in ("a", "b"):
        Path(queue.path, "state", name).touch()
        Path(queue.path, "errors", name).touch()
    stuck.add("a")
    for _ in range(3):
        queue.recover()
        queue.expire_errors(-1)
    assert [os.listdir(Path(queue.path, part)) for part in ("state", "errors")] == [["a"], ["a"]]
    assert len(reports(caplog)) == 2
