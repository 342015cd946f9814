"""Daemons whose queue is in a database: the same components and outcomes, and a server that comes and goes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import postgresql
from kinds import Database, create, lose
from piperkit import engines
from piperkit.postgres.database_queue import DatabaseQueue
from piperkit.testing import Piper
from written import log

Start = Callable[..., "subprocess.Popen[str]"]
Call = Callable[..., "subprocess.CompletedProcess[str]"]
Until = Callable[..., None]


@pytest.fixture
def server() -> Iterator[postgresql.Server]:
    with postgresql.Server() as server:
        yield server


@pytest.fixture
def kept(server: postgresql.Server) -> Database:
    """Its database, with queues in it."""
    database = Database(server)
    for name in ("in", "out", "spam"):
        create(database.address(name))
    return database


def queues(database: Database) -> list[str]:
    return [f"--queue-in-dir={database.address('in')}", "--queue-out-dir=out"]


def put(database: Database, *contents: str) -> list[str]:
    with DatabaseQueue(database.address("in")) as queue:
        return queue.enqueue_many(contents)


def out(database: Database, name: str = "out") -> list[bytes]:
    view = engines.view(database.address(name))
    return sorted(view.read(entry) for entry in view.each("incoming"))


@pytest.mark.slow
def test_same_daemon_works_on_a_database_and_dispatches_beside_its_queue(
    piper: Piper, start: Start, until: Until, kept: Database
) -> None:
    put(kept, "a", "b")
    process = start("upper", *queues(kept))
    until(lambda: out(kept) == [b"A", b"B"], "the messages")
    put(kept, "c")
    until(lambda: out(kept) == [b"A", b"B", b"C"], "the one that comes later")
    process.terminate()
    assert process.wait(30) == 0
    assert not any(engines.view(kept.address("in")).counts().values())
    assert not engines.view(kept.address("in")).instances()


@pytest.mark.slow
def test_arrival_wakes_an_idle_daemon(piper: Piper, start: Start, call: Call, until: Until, kept: Database) -> None:
    start("upper", *queues(kept), constants={"piperkit.filer.doorbell.LOOK_INTERVAL": 1000.0})
    until(lambda: "idle" in call("upper", "--action=status", *queues(kept)).stdout, "the daemon to rest")
    put(kept, "a")
    until(lambda: out(kept) == [b"A"], "the message")
    engines.operator(kept.address("in"), "jane").pause(None, "it is moved")
    status = lambda: call("upper", "--action=status", *queues(kept)).stdout  # noqa: E731  # shorter than a function
    assert "queue: empty; at work on it: " in status()
    until(lambda: "jane has paused the queue: it is moved" in status(), "the pause")
    engines.operator(kept.address("in"), "jane").resume()
    put(kept, "b")
    until(lambda: out(kept) == [b"A", b"B"], "the end of the pause")


@pytest.mark.slow
def test_processing_pauses_at_the_limit_of_the_output_queue(
    piper: Piper, start: Start, until: Until, kept: Database
) -> None:
    put(kept, *(f"{number}" for number in range(20)))
    start("upper", *queues(kept), "--queue-out-limit=7", "--queue-out-wait=0.1")
    until(lambda: "room in the output queue: its limit of 7 messages is reached" in log(piper), "the pause")
    assert len(out(kept)) == 7
    with DatabaseQueue(kept.address("out")) as queue:
        for claim in queue.claim(3):
            queue.cancel(claim.id)
    until(lambda: len(out(kept)) == 7, "three more")
    assert engines.view(kept.address("in")).counts()["incoming"] == 10


@pytest.mark.slow
def test_metrics_count_the_instances_of_all_machines(piper: Piper, start: Start, until: Until, kept: Database) -> None:
    written = piper.directory / "it.prom"
    start("upper", *queues(kept), f"--metrics-file={written}", "--metrics-interval=0.1")

    def counted(state: str) -> list[str]:
        text = written.read_text() if written.exists() else ""
        found = [line for line in text.splitlines() if line.startswith("piper_queue_instances{")]
        return [line.rpartition(" ")[2] for line in found if f'state="{state}"' in line]

    until(lambda: counted("alive") == ["1.0"], "the instance to be counted")
    with DatabaseQueue(kept.address("in")) as queue:
        queue.claim()
        until(lambda: counted("alive") == ["2.0"], "another one to be counted")
        lose(queue)
    until(lambda: counted("gone") == ["1.0"], "it to be known to be gone")


@pytest.mark.slow
def test_lost_server_is_said_once_shown_and_waited_for(
    piper: Piper, start: Start, call: Call, until: Until, kept: Database, server: postgresql.Server
) -> None:
    start("upper", *queues(kept), "--queue-in-wait=0.1", "--queue-out-wait=0.1")
    put(kept, "a")
    until(lambda: out(kept) == [b"A"], "the first message")
    server.stop("immediate")
    until(lambda: "is away" in log(piper), "the loss to be noticed")
    until(lambda: "is away" in call("upper", "--action=status", *queues(kept)).stdout, "the status to say so")
    server.start()
    put(kept, "b")
    until(lambda: out(kept) == [b"A", b"B"], "the second message")
    until(lambda: "processing goes on" in log(piper), "the end of it to be said")
    assert log(piper).count("processing pauses") == 1
    assert "Traceback" not in log(piper)


@pytest.mark.slow
def test_start_waits_for_the_server_and_tells_the_service_manager(
    piper: Piper, start: Start, until: Until, kept: Database, server: postgresql.Server, tmp_path: Path
) -> None:
    put(kept, "a")
    server.stop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        process = start("upper", *queues(kept), env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        told = ""
        while "STATUS=starts, and waits: the database" not in told:
            told = manager.recv(4096).decode()
            assert "READY=1" not in told
        assert "EXTEND_TIMEOUT_USEC=" in told
        server.start()
        while "READY=1" not in told:
            told = manager.recv(4096).decode()
    until(lambda: out(kept) == [b"A"], "the message")
    assert log(piper).count("The start waits") == 1
    process.terminate()
    assert process.wait(30) == 0


@pytest.mark.slow
def test_daemon_can_be_stopped_while_it_waits_for_the_server(
    piper: Piper, start: Start, until: Until, kept: Database, server: postgresql.Server
) -> None:
    server.stop()
    process = start("upper", *queues(kept))
    until(lambda: "The start waits" in log(piper), "the wait")
    process.terminate()
    assert process.wait(30) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("queue", "status", "said"),
    [
        ("{database}&queue=nowhere", 73, "piperctl queue create 'postgresql://"),
        ("postgresql://me:secret@db/x?queue=in", 78, "has a password in it"),
        ("postgresql://db/x", 78, "names no queue"),
    ],
)
def test_wrong_queue_ends_the_start_with_what_to_do(
    piper: Piper, call: Call, kept: Database, queue: str, status: int, said: str
) -> None:
    done = call("upper", f"--queue-in-dir={queue.format(database=kept.url)}", "--queue-out-dir=")
    assert done.returncode == status
    assert said in done.stderr + log(piper)
    assert "secret" not in done.stderr + log(piper)


@pytest.mark.slow
def test_component_is_tried_on_dead_letters_of_a_database(piper: Piper, call: Call, kept: Database) -> None:
    (id,) = put(kept, "good")
    view = engines.view(kept.address("in"))
    engines.operator(kept.address("in"), "jane").banish(view.find(id), "")
    done = call("upper", *queues(kept), "--action=try")
    assert "1 of 1 would pass" in done.stdout
    assert view.find(id).part == "errors"


@pytest.mark.slow
def test_all_machines_are_seen_from_one(piper: Piper, start: Start, until: Until, kept: Database) -> None:
    both = [
        start("upper", *queues(kept), "--paralel", f"--pid-file={piper.directory}/{name}.pid")
        for name in ("one", "two")
    ]
    found = [sys.executable, "-m", "piperkit.cli", "find", kept.address("in"), "--json", "--for", "0"]

    def seen() -> list[dict[str, object]]:
        shown = subprocess.run(found, capture_output=True, text=True, check=True).stdout
        instances: list[dict[str, object]] = json.loads(shown)["instances"]
        return instances

    until(lambda: len(seen()) == 2, "both instances")
    assert {each["host"] for each in seen()} == {socket.gethostname()}
    assert all(each["alive"] and each["version"] for each in seen())
    check = [sys.executable, "-m", "piperkit.cli", "check", kept.address("in"), "--format", "nagios"]
    assert subprocess.run(check, capture_output=True, text=True, check=False).returncode == 0
    for process in both:  # as if their machines had vanished
        process.kill()
        process.wait()
    until(lambda: not any(each["alive"] for each in seen()), "both to be known to be gone")
    shown = subprocess.run([each for each in found if each != "--json"], capture_output=True, text=True, check=True)
    assert shown.stdout.count("(gone)") == 2
    assert subprocess.run(check, capture_output=True, text=True, check=False).returncode == 2
