"""A queue trusts its producers only to enqueue, and everybody else with nothing."""

from __future__ import annotations

import fcntl
import functools
import io
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import disks
from dirq_tools import FAILURE, OPERATIONS, everything, files
from people import DAEMON, GROUP, NEIGHBOUR, OTHER, PRODUCER
from piperkit.cli import cli
from piperkit.dirq import DirectoryQueue, ensure_queue
from piperkit.dirq.layout import PARTS, SHARED
from piperkit.errors import MessageTooLarge, NotClaimed, QueueMissing

OURS = [part for part in PARTS if part not in SHARED]
OPEN = functools.partial(DirectoryQueue, min_free=0, orphan_age=0)


def one_of(queue: Path, part: str) -> Path:
    """The daemon's file in a part."""
    return next(path for path in (queue / part).iterdir() if path.stat().st_uid == DAEMON.uid)


def take(queue: Path) -> dict[str, bytes]:
    """Claim what there is, and read it."""
    mine = OPEN(queue)
    return {claim.id: mine.read(claim.id) for claim in mine.claim(9)}


# -- what others may do ----------------------------------------------------------------------------------------------


def test_others_can_open_nothing_and_so_lock_nothing(used: Path) -> None:
    """A lock on a waiting or claimed message, or on an instance's record, needs that file open."""
    paths = list(used.rglob("*"))
    assert {path.parent.name for path in paths if path.is_file()} == set(PARTS)
    steps = {
        f"{path} {flags}": functools.partial(os.open, path, flags)
        for path in paths
        for flags in (os.O_RDONLY, *([os.O_RDWR] if path.is_file() else []))
    }
    assert set(OTHER.attempts(steps).values()) == {"EACCES"}


# -- what producers may not do ---------------------------------------------------------------------------------------

#: (the queue, a part, the daemon's file in it)
Attack = Callable[[Path, Path, Path], object]
ON_A_FILE: dict[str, Attack] = {
    "remove it": lambda queue, part, file: os.unlink(file),
    "rename it": lambda queue, part, file: os.rename(file, part / "renamed"),
    "move it to incoming": lambda queue, part, file: os.rename(file, queue / "incoming" / "moved"),
    "put one's own in its place": lambda queue, part, file: os.rename(queue / "incoming" / "mine", file),
    "change its mode": lambda queue, part, file: os.chmod(file, 0o777),
}
ON_A_CLOSED_PART: dict[str, Attack] = {
    "list it": lambda queue, part, file: os.listdir(part),
    "look at a file": lambda queue, part, file: os.stat(file),
    "read a file": lambda queue, part, file: file.read_bytes(),
    "make a file": lambda queue, part, file: (part / "new").write_text("x"),
    "link it into the queue": lambda queue, part, file: os.link(file, queue / "incoming" / "linked"),
    "move one's own there": lambda queue, part, file: os.rename(queue / "incoming" / "mine", part / "mine"),
    "link one's own there": lambda queue, part, file: os.link(queue / "incoming" / "mine", part / "mine"),
    "make a link": lambda queue, part, file: os.symlink("/etc/passwd", part / "link"),
}
ON_A_PART: dict[str, Attack] = {
    "rename it": lambda queue, part, file: os.rename(part, queue / "renamed"),
    "put a link in its place": lambda queue, part, file: os.symlink("/etc", queue / "link"),
    "change its mode": lambda queue, part, file: os.chmod(part, 0o777),
    "remove it": lambda queue, part, file: os.rmdir(part),
}


@pytest.mark.parametrize("part", PARTS)
def test_producers_can_do_nothing_but_enqueue(used: Path, part: str) -> None:
    kinds = {"file": ON_A_FILE, "part": ON_A_PART, **({} if part in SHARED else {"closed part": ON_A_CLOSED_PART})}
    file = one_of(used, part)
    steps = {
        f"{kind}: {what}": functools.partial(attack, used, used / part, file)
        for kind, attacks in kinds.items()
        for what, attack in attacks.items()
    }
    before = {path: path.lstat().st_ctime_ns for path in used.rglob("*")}
    assert set(PRODUCER.attempts(steps).values()) <= {"EACCES", "EPERM"}
    assert {path: path.lstat().st_ctime_ns for path in used.rglob("*")} == before


def test_a_lock_on_a_waiting_message_keeps_nobody_from_it(used: Path) -> None:
    """Producers can open each other's messages, where their mode allows it; no lock of ours is on a message."""
    reader, writer = os.pipe()

    def hold() -> None:
        fcntl.flock(os.open(used / "incoming" / "incoming", os.O_RDONLY), fcntl.LOCK_EX)
        os.write(writer, b"x")
        time.sleep(60)

    child = PRODUCER.start(hold)
    assert os.read(reader, 1) == b"x"
    try:
        assert DAEMON.do(lambda: take(used)).keys() == {"incoming", "mine"}
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


# -- what producers may do, and what the daemon does with it ---------------------------------------------------------

AFTER = {
    "read": "pending",
    "update": "pending",
    "commit": "next",
    "commit with contents": "next",
    "cancel": "",
    "banish": "errors",
    "retry": "deferred",
    "requeue": "incoming",
    "dispatch": "other",
    "dispatch with contents": "other",
    "duplicate": "pending",
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_a_shell_has_enqueued_is_the_daemons_to_work_on(queue: Path, operation: str) -> None:
    for name in ("next", "other"):
        ensure_queue(str(queue.parent / name), 0o770, (DAEMON.uid, GROUP))
    done = PRODUCER.shell("echo hello > tmp/x; mv tmp/x incoming/x", queue)
    assert (done.returncode, done.stderr) == (0, "")

    def work() -> None:
        mine = OPEN(queue, next_queue=queue.parent / "next")
        assert [claim.id for claim in mine.claim()] == ["x"]
        assert mine.read("x") == b"hello\n"
        OPERATIONS[operation](mine, "x", str(queue.parent / "other"))

    DAEMON.do(work)
    found = {path.parent.name if path.is_relative_to(queue) else path.parent.parent.name
             for path in queue.parent.rglob("x") if path.parent.name != "state"}  # fmt: skip
    assert found == {AFTER[operation]} - {""} | ({"other"} if operation == "duplicate" else set())


@pytest.mark.parametrize("umask", ["022", "007", "002"])
def test_what_a_shell_has_enqueued_can_be_read_under_the_usual_umasks(queue: Path, umask: str) -> None:
    PRODUCER.shell(f"umask {umask}; echo hello > tmp/x; mv tmp/x incoming/x", queue)
    assert DAEMON.do(lambda: take(queue)) == {"x": b"hello\n"}


def test_what_the_daemon_may_not_read_is_left_alone_and_said_once(queue: Path) -> None:
    PRODUCER.shell("umask 077; for name in a b; do echo hello > tmp/$name; mv tmp/$name incoming/; done", queue)
    PRODUCER.shell("chmod 644 incoming/b", queue)

    def work() -> tuple[list[str], str]:
        log, read = io.StringIO(), []
        logging.getLogger("piperkit").addHandler(logging.StreamHandler(log))
        mine = OPEN(queue)
        for _ in range(3):
            for claim in mine.claim(9):
                try:
                    mine.read(claim.id)
                    read.append(claim.id)
                except NotClaimed:
                    pass
        mine.close()
        return read, log.getvalue()

    read, log = DAEMON.do(work)
    assert read == ["b"]
    assert log == f"{queue}/incoming/a: left alone, since this user may not read it\n"
    assert everything(queue) == {"incoming": {"a": b"hello\n", "b": b"hello\n"}}


def test_piperctl_puts_messages_for_a_producer(queue: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (queue.parent / "file").write_text("hello")

    def put(queue: Path, *options: str) -> None:
        cli(["queue", "put", *options, str(queue), str(queue.parent / "file")], standalone_mode=False)

    put(queue.parent / "other", "--create")  # so that all is imported: a producer may not see our Python
    capfd.readouterr()
    PRODUCER.do(lambda: put(queue))
    assert capfd.readouterr().out == f"1 message put into {queue}\n"
    assert list(DAEMON.do(lambda: take(queue)).values()) == [b"hello"]


@pytest.mark.parametrize("contents", [None, b"changed"], ids=["as it came", "changed"])
def test_a_daemon_of_another_account_delivers_into_the_queue(queue: Path, contents: bytes | None) -> None:
    near = queue.parent / "near"
    ensure_queue(str(near), 0o770, (NEIGHBOUR.uid, GROUP))
    PRODUCER.shell("echo hello > tmp/x; mv tmp/x incoming/x", near)

    def deliver() -> None:
        with OPEN(near, next_queue=queue) as mine:
            mine.enqueue("mine", "y")
            for claim in mine.claim(9):
                mine.read(claim.id)
                mine.commit(claim.id, contents)
            assert mine.recover().returned == ()

    NEIGHBOUR.do(deliver)
    taken = {"x": contents or b"hello\n", "y": contents or b"mine"}
    assert DAEMON.do(lambda: take(queue)) == taken


# -- what a producer has kept ----------------------------------------------------------------------------------------


@pytest.fixture(params=[PRODUCER, DAEMON], ids=["a producer's", "the daemon's own"])
def kept(queue: Path, request: pytest.FixtureRequest) -> Iterator[int]:
    """A descriptor of the message `x`, and a second name, that a producer has kept."""
    request.param.do(lambda: OPEN(queue, create=False).enqueue("hello", "x"))
    fd = os.open(queue / "incoming" / "x", os.O_RDWR)
    PRODUCER.do(lambda: os.link(queue / "incoming" / "x", queue / "tmp" / "kept"))
    yield fd
    os.close(fd)


@pytest.mark.parametrize("seal", [True, False])
def test_a_sealed_message_does_not_change_whatever_a_producer_has_kept(queue: Path, kept: int, seal: bool) -> None:
    def work() -> list[bytes]:
        with OPEN(queue, seal=seal) as mine:
            mine.claim()
            before = mine.read("x")
            os.pwrite(kept, b"J", 0)
            return [before, mine.read("x")]

    assert DAEMON.do(work) == [b"hello", b"hello" if seal else b"Jello"]
    # Given back, it is there to be claimed again.
    outcomes = PRODUCER.attempts({
        "by its second name": lambda: os.truncate(queue / "tmp" / "kept", 0),
        "by its name": lambda: os.truncate(queue / "incoming" / "x", 0),
    })  # fmt: skip
    assert outcomes == {"by its second name": "done", "by its name": "EACCES" if seal else "done"}
    assert DAEMON.do(lambda: take(queue)) == {"x": b"hello" if seal else b""}


@pytest.mark.parametrize("when", ["before it is read", "while it is read"])
def test_a_message_that_grows_is_read_to_its_limit_and_too_large(queue: Path, kept: int, when: str) -> None:
    huge, limit = 200 << 30, 4 << 20
    os.truncate(kept, 100_000)

    def work() -> tuple[str, int]:
        mine = OPEN(queue, message_max=limit)
        assert [claim.size for claim in mine.claim()] == [100_000]
        real, times = os.fstat, []

        def grows_meanwhile(fd: int) -> os.stat_result:
            found = real(fd)
            if os.path.samestat(found, real(kept)):
                times.append(os.truncate(kept, huge))
            return found

        if when == "before it is read":
            os.truncate(kept, huge)
        else:
            os.fstat = grows_meanwhile  # type: ignore[assignment]
        before = bytes_read()
        try:
            mine.read("x")
        except MessageTooLarge as error:
            return str(error), bytes_read() - before
        raise AssertionError("it was read")

    said, read = DAEMON.do(work)
    assert "is larger than message_max" in said
    assert read <= (limit + 1 if when == "while it is read" else 0) + 100_000  # the size that it had


@pytest.fixture
def other_disk(queue: Path) -> Iterator[Path]:
    with disks.another(queue) as directory:
        yield directory


@pytest.mark.parametrize("operation", ["duplicate", "commit"])
def test_a_message_that_grows_is_not_copied_beyond_its_limit(
    queue: Path, kept: int, other_disk: Path, operation: str
) -> None:
    elsewhere = other_disk
    elsewhere.chmod(0o755)
    ensure_queue(str(elsewhere), 0o770, (DAEMON.uid, GROUP))

    def work() -> str:
        mine = OPEN(queue, message_max=1 << 20, next_queue=elsewhere)
        mine.claim()
        os.truncate(kept, 200 << 30)
        try:
            OPERATIONS[operation](mine, "x", str(elsewhere))
        except MessageTooLarge as error:
            return str(error)
        raise AssertionError("it was copied")

    assert "is larger than message_max" in DAEMON.do(work)
    assert os.listdir(elsewhere / "tmp") == os.listdir(elsewhere / "incoming") == []


def bytes_read() -> int:
    """How much this process has read so far, from whatever there is."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("rchar: "):
            return int(line.removeprefix("rchar: "))
    raise AssertionError("/proc/self/io does not say")


# -- a queue that its producers could write to, and that was brought over --------------------------------------------


def test_what_a_producer_has_put_into_other_parts_never_leaves_the_daemons_queues(queue: Path) -> None:
    """Of a queue of an earlier version, or by a mistake of its administrator's."""
    for name in ("next", "secret"):
        ensure_queue(str(queue.parent / name), 0o770, (DAEMON.uid, GROUP))
    (queue / "outgoing" / "x").write_text("forged")
    (queue / "outgoing" / "link").symlink_to("/etc/passwd")
    arrived = (queue / "outgoing" / "x").stat().st_mtime_ns
    record = {"arrived": arrived, "attempts": 0, "crashes": 0, "death": None, "history": []}
    (queue / "state" / "x").write_text(json.dumps({**record, "target": str(queue.parent / "secret")}))
    for path in (queue / "outgoing" / "x", queue / "state" / "x"):
        os.chown(path, PRODUCER.uid, GROUP)

    def recover() -> str:
        log = io.StringIO()
        logging.getLogger("piperkit").addHandler(logging.StreamHandler(log))
        with OPEN(queue, next_queue=queue.parent / "next") as mine:
            mine.recover()
            mine.recover()
        return log.getvalue()

    log = DAEMON.do(recover)
    assert files(queue.parent / "next", "incoming") == {"x": b"forged"}
    assert files(queue.parent / "secret", "incoming") == {}
    assert os.readlink(queue / "outgoing" / "link") == "/etc/passwd"
    assert log.count("\n") == 1
    assert f"is of uid {PRODUCER.uid}" in log


def test_a_producer_cannot_pass_for_an_instance_of_an_earlier_version(queue: Path) -> None:
    record = queue / "state" / ".1700000000.000000001.1.host"
    record.touch()
    os.chown(record, PRODUCER.uid, GROUP)
    with record.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        PRODUCER.do(lambda: (queue / "incoming" / "x").write_text("hello"))
        assert DAEMON.do(lambda: take(queue)) == {"x": b"hello"}


def refusal(queue: Path) -> str:
    """Why the daemon refuses to work on the queue."""
    try:
        with OPEN(queue, create=False) as mine:
            mine.enqueue("hello", "x")
            mine.claim()
            mine.retry("x", 0, FAILURE)
            mine.recover()
            mine.claim()
            mine.banish("x", FAILURE)
    except QueueMissing as error:
        return str(error)
    return ""


@pytest.mark.parametrize("part", [part for part in PARTS if part != "history"])
def test_a_part_that_is_a_link_is_refused(queue: Path, part: str) -> None:
    elsewhere = queue.parent / "elsewhere"
    (queue / part).rename(elsewhere)
    (queue / part).symlink_to(elsewhere)
    assert f"{queue}/{part} is in the way" in DAEMON.do(lambda: refusal(queue))
    assert os.listdir(elsewhere) == []


@pytest.mark.parametrize("part", [part for part in OURS if part != "history"])
def test_a_part_of_somebody_else_is_refused(queue: Path, part: str) -> None:
    os.chown(queue / part, PRODUCER.uid, GROUP)
    (queue / part).chmod(0o777)
    said = f"{queue}/{part} belongs to uid {PRODUCER.uid}, and not to uid {DAEMON.uid}, who works on the queue"
    assert said in DAEMON.do(lambda: refusal(queue))
    assert os.listdir(queue / part) == []


@pytest.mark.parametrize("whose", ["a link", "somebody else's"])
def test_history_is_not_written_where_others_could_read_it_and_stops_nothing(queue: Path, whose: str) -> None:
    elsewhere = queue.parent / "elsewhere"
    if whose == "a link":
        (queue / "history").rename(elsewhere)
        (queue / "history").symlink_to(elsewhere)
    else:
        elsewhere = queue / "history"
        os.chown(elsewhere, PRODUCER.uid, GROUP)
        elsewhere.chmod(0o777)
    DAEMON.do(lambda: OPEN(queue, create=False).note([b'{"id": "a"}\n']))
    assert refusal(queue) == ""
    assert os.listdir(elsewhere) == []


def test_root_works_with_parts_of_one_account_only(queue: Path) -> None:
    assert refusal(queue) == ""
    os.chown(queue / "errors", PRODUCER.uid, GROUP)
    assert f"{queue}/errors belongs to uid {PRODUCER.uid}" in refusal(queue)
