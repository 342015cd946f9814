"""What is a database's own: a server that goes away, leases that end with sessions, rights, versions, secrets."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import postgresql
from dirq_tools import FAILURE
from kinds import Database, create, lose
from piperkit import engines
from piperkit.errors import ConfigError, LeftAlone, NotClaimed, QueueAway, QueueMissing
from piperkit.postgres import schema
from piperkit.postgres.address import Address
from piperkit.postgres.connection import Connection
from piperkit.postgres.database_queue import DatabaseQueue

Until = Callable[..., None]
pytestmark = pytest.mark.slow  # each takes a database of its own


@pytest.fixture
def own_server() -> Iterator[postgresql.Server]:
    """A server that the test may stop."""
    with postgresql.Server() as server:
        yield server


@contextlib.contextmanager
def admin(database: Database) -> Iterator[Connection]:
    connection = Connection(Address.parse(database.url, needs_queue=False))
    try:
        yield connection
    finally:
        connection.close()


def kill_sessions(database: Database) -> None:
    """End all sessions of piperkit in it, as a failover does."""
    with admin(database) as connection:
        connection.rows(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def again(queue: DatabaseQueue, until: Until) -> None:
    """Wait until the queue has its connection again."""

    def connected() -> bool:
        try:
            queue.connect()
        except QueueAway:
            return False
        return queue._connection.is_open

    until(connected, "the connection")


# -- the connection ------------------------------------------------------------------------------------------


def test_claims_outlive_the_loss_of_their_session(database: Database, until: Until) -> None:
    queue = database.open("in", "next")
    database.open("next").close()
    ids = queue.enqueue_many("abc")
    queue.claim(3)
    queue.read(ids[0])
    kill_sessions(database)
    with pytest.raises(QueueAway, match="away"):
        queue.commit(ids[0])
    again(queue, until)
    for id in ids:
        queue.commit(id)
    assert queue.counts()["pending"] == 0
    assert [claim.id for claim in database.open("next").claim(5)] == ids


def test_claims_that_others_have_got_meanwhile_are_let_go_and_said(
    database: Database, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    queue, other = database.open(), database.open()
    ids = queue.enqueue_many("ab")
    queue.claim(2)
    queue._connection.drop()
    until(lambda: other.recover().returned, "the claims to be given back")
    assert [claim.id for claim in other.claim(2)] == ids
    again(queue, until)
    assert queue.claimed() == []
    assert "2 messages that were claimed have been given to others" in caplog.text
    with pytest.raises(LeftAlone):
        queue.commit(ids[0])
    with pytest.raises(NotClaimed):
        queue.commit("never.mine")
    assert other.claimed() == ids


@pytest.mark.parametrize("done", [True, False])
def test_commit_of_which_nobody_knows_whether_it_was_done_is_done_once(
    database: Database, until: Until, done: bool
) -> None:
    """The connection is lost after, or before, the server has got it; nobody hears its answer."""
    database.open("next").close()
    queue = database.open("in", "next")
    ids = queue.enqueue_many("abc")
    queue.claim(3)
    rows = queue._connection.rows

    def losing(query: str, *arguments: Any, **more: Any) -> Any:
        if "part = 'incoming', holder = NULL" not in query:
            return rows(query, *arguments, **more)
        queue._connection.rows = rows  # type: ignore[method-assign]
        if done:
            rows(query, *arguments, **more)
        queue._connection.drop()
        raise QueueAway("lost")

    queue._connection.rows = losing  # type: ignore[method-assign]
    with contextlib.suppress(QueueAway), queue.batch():
        for id in ids:
            queue.commit(id)
    again(queue, until)
    with queue.batch():
        pass  # what is left to do is done at the end of the next batch
    assert sum(queue.counts().values()) == 0
    queue.close()
    assert [claim.id for claim in database.open("next").claim(9)] == ids


def test_copies_and_their_message_are_one_transaction_that_is_not_done_twice(database: Database, until: Until) -> None:
    for name in ("next", "copies"):
        database.open(name).close()
    queue = database.open("in", "next")
    ids = queue.enqueue_many("ab")
    queue.claim(2)
    transaction = queue._connection.transaction

    @contextlib.contextmanager
    def losing() -> Iterator[None]:
        queue._connection.transaction = transaction  # type: ignore[method-assign]
        with transaction():
            yield
        queue._connection.drop()
        raise QueueAway("lost after the commit")

    queue._connection.transaction = losing  # type: ignore[method-assign, assignment]
    with contextlib.suppress(QueueAway), queue.batch():
        for id in ids:
            queue.duplicate(id, database.address("copies"))
            queue.commit(id)
    again(queue, until)
    with queue.batch():
        pass
    assert sum(queue.counts().values()) == 0
    for name in ("next", "copies"):
        assert [claim.id for claim in database.open(name).claim(9)] == ids, name


@pytest.mark.parametrize("same", [False, True], ids=["", "where one of its name is"])
def test_message_copied_several_times_in_a_batch_is_there_as_often(database: Database, same: bool) -> None:
    other, queue = database.open("other"), database.open()
    id = queue.enqueue("a")
    if same:
        other.enqueue("before", id)
    queue.claim()
    with queue.batch():
        for _ in range(3):
            queue.duplicate(id, database.address("other"))
    assert queue.claimed() == [id]
    found = sorted(other.read(claim.id) for claim in other.claim(9))
    assert found == [b"a"] * 3 + [b"before"] * same


def test_server_that_restarts_loses_nothing(own_server: postgresql.Server, until: Until) -> None:
    database = Database(own_server)
    queue = database.open("in")
    ids = queue.enqueue_many("abcd")
    queue.claim(2)
    for mode in ("fast", "immediate"):
        own_server.stop(mode)
        for _ in range(2):
            with pytest.raises(QueueAway):
                queue.claim(1)
        own_server.start()
        again(queue, until)
        assert queue.claimed() == ids[:2], mode
    queue.close()
    other = database.open()
    assert [claim.id for claim in other.claim(9)] == ids
    other.close()


def test_lease_ends_with_its_process(database: Database, until: Until) -> None:
    address = database.address("in")
    create(address)
    with DatabaseQueue(address) as producer:
        ids = producer.enqueue_many("ab")
    program = f"""
import sys, time
from piperkit.postgres.database_queue import DatabaseQueue
queue = DatabaseQueue({address!r})
queue.claim(2)
queue.read({ids[0]!r})
print("claimed", flush=True)
time.sleep(3600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with DatabaseQueue(address) as queue:
            assert not queue.recover()
            process.send_signal(signal.SIGSTOP)
            assert not queue.recover(), "however long it takes"
            process.kill()
            until(lambda: queue.recover().returned, "its claims to be given back")
            assert {claim.id: claim.attempt for claim in queue.claim(2)} == {ids[0]: 2, ids[1]: 1}


def test_forked_child_neither_ends_nor_keeps_the_lease_of_its_parent(database: Database, until: Until) -> None:
    queue, other = database.open(), database.open()
    queue.enqueue("a")
    (claim,) = queue.claim()
    pid = os.fork()
    if not pid:
        signal.pause()
    try:
        ended = os.fork()
        if not ended:
            os._exit(0)
        os.waitpid(ended, 0)
        assert queue.read(claim.id) == b"a"
        assert not other.recover()
        lose(queue)
        until(lambda: other.recover().returned, "the claim to be given back while the child lives")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


# -- what an instance died of --------------------------------------------------------------------------------


def test_message_that_kills_its_daemon_in_the_middle_of_a_batch_is_found_out(database: Database) -> None:
    """Which of several it died of nobody knows at first; then each is worked on alone."""
    queue = database.open(crash_limit=2)
    ids = queue.enqueue_many("abc")
    deadly = ids[1]
    for _ in range(9):
        victim = database.open(crash_limit=2)
        claims = victim.claim(9)
        if not claims:
            victim.close()
            break
        victim._depth += 1  # a batch, at whose end it would be known what was done
        died = False
        for claim in claims:
            victim.read(claim.id)
            if claim.id == deadly:
                died = True
                break
            victim.commit(claim.id)
        if died:
            lose(victim)
        else:
            victim._depth -= 1
            victim.flush()
            victim.close()
        queue.recover()
    assert queue.counts()["errors"] == 1
    assert database.view("in").find(deadly).part == "errors"
    assert sum(queue.counts().values()) == 1, "the others were done"


def test_message_in_work_alone_is_known_for_it_at_once(database: Database) -> None:
    queue = database.open()
    id = queue.enqueue("a")
    victim = database.open()
    victim.claim()
    victim.read(id)
    lose(victim)
    queue.recover()
    assert [claim.attempt for claim in queue.claim()] == [2]


# -- between engines -----------------------------------------------------------------------------------------


def test_pipeline_goes_from_a_directory_into_a_database_and_back(database: Database, tmp_path: Path) -> None:
    from piperkit.dirq import DirectoryQueue

    for name in ("in", "out"):
        DirectoryQueue(tmp_path / name).close()
    create(database.address("middle"))
    first = DirectoryQueue(
        tmp_path / "in", next_queue=database.address("middle"), elsewhere=engines.elsewhere, min_free=0
    )
    second = DatabaseQueue(database.address("middle"), next_queue=str(tmp_path / "out"), elsewhere=engines.elsewhere)
    contents = [f"{i}".encode() * 100 for i in range(50)]
    ids = first.enqueue_many(contents)
    assert first.room(60) == 60
    with first.batch():
        for claim in first.claim(100):
            first.commit(claim.id, b"x" + first.read(claim.id) if claim.id == ids[7] else None)
    contents[7] = b"x" + contents[7]
    assert sum(first.counts().values()) == 0
    assert first.room(60) == 10
    with second.batch():
        for claim in second.claim(100):
            assert abs(claim.arrived - os.stat(tmp_path / "in").st_mtime) < 600
            second.commit(claim.id)
    assert sum(second.counts().values()) == 0
    found = {path.name: path.read_bytes() for path in (tmp_path / "out/incoming").iterdir()}
    assert found == dict(zip(ids, contents, strict=True))
    assert second.room(60) == 10
    first.close()
    second.close()


def test_message_that_was_moved_into_a_database_by_a_move_that_was_cut_off_is_there_once(
    database: Database, tmp_path: Path
) -> None:
    outlet = engines.elsewhere(_made(database.address("in")))
    for _ in range(2):
        outlet.put("a.b", 1790000000.5, b"a")
        outlet.put("gr\udcfcn", 1790000001.5, b"b")
        outlet.sync()
        with DatabaseQueue(database.address("in")) as queue:
            for claim in queue.claim(9):  # it may have gone on meanwhile
                queue.cancel(claim.id)
    outlet.put("a.b", 1790000002.5, b"another one of that name")
    outlet.sync()
    outlet.close()
    with DatabaseQueue(database.address("in")) as queue:
        assert [queue.read(claim.id) for claim in queue.claim(9)] == [b"another one of that name"]


def _made(address: str) -> str:
    create(address)
    return address


def test_message_with_a_name_that_is_no_text_gets_another_one(database: Database, tmp_path: Path) -> None:
    from piperkit.dirq import DirectoryQueue

    queue = DirectoryQueue(
        tmp_path / "in", next_queue=_made(database.address("in")), elsewhere=engines.elsewhere, min_free=0
    )
    queue.enqueue("a", "gr\udcfcn")
    (claim,) = queue.claim()
    queue.commit(claim.id)
    queue.close()
    with DatabaseQueue(database.address("in")) as there:
        (moved,) = there.claim(9)
        assert there.read(moved.id) == b"a"


@pytest.mark.parametrize("to_database", [True, False])
def test_backlog_is_moved_to_another_engine_and_nothing_is_in_both_at_once(
    database: Database, tmp_path: Path, to_database: bool
) -> None:
    directory, kept = str(tmp_path / "in"), _made(database.address("in"))
    subprocess.run([sys.executable, "-m", "piperkit.cli", "queue", "create", directory], check=True)
    source, target = (directory, kept) if to_database else (kept, directory)
    lines = "".join(f"{i}\n" for i in range(500))
    put = [sys.executable, "-m", "piperkit.cli", "queue", "put", source, "--lines"]
    subprocess.run(put, input=lines, text=True, check=True)
    move = [sys.executable, "-m", "piperkit.cli", "queue", "mv", source, target, "--all"]
    done = subprocess.run(move, capture_output=True, text=True, check=True)
    assert done.stdout == "500 messages moved\n"
    view = engines.view(target)
    assert sorted(int(view.read(entry)) for entry in view.each("incoming")) == list(range(500))
    assert not any(engines.view(source).counts().values())


# -- rights, versions, secrets -------------------------------------------------------------------------------


def test_roles_have_the_rights_that_they_need_and_no_more(database: Database) -> None:
    queue = database.open("in", "next")
    database.open("next").close()
    queue.enqueue_many("abc")
    addresses = {}
    with admin(database) as connection:
        for role in schema.ROLES:
            name = f"{role}_{database.database}"
            connection.run(f"CREATE ROLE {name} LOGIN IN ROLE {role}")
            addresses[role] = database.address("in").replace("user=postgres", f"user={name}")
    with DatabaseQueue(addresses["piper_producer"]) as producer:
        producer.enqueue("d")
        assert producer.count("incoming") == 4
        with pytest.raises(QueueMissing, match="may not"):
            producer.claim()
    with pytest.raises(QueueMissing, match="may not"):
        next(engines.view(addresses["piper_producer"]).each("incoming"))
    following = database.address("next").replace("user=postgres", f"user=piper_daemon_{database.database}")
    with DatabaseQueue(addresses["piper_daemon"], next_queue=following) as daemon:
        claims = daemon.claim(4)
        daemon.commit(claims[0].id)
        daemon.banish(claims[1].id, FAILURE)
        daemon.retry(claims[2].id, 5, FAILURE)
        daemon.requeue(claims[3].id)
        daemon.note([b'{"id": "x"}'])
        daemon.recover()
        daemon.expire_errors(99)
        daemon.survey()
    with pytest.raises(QueueMissing, match="may not"):
        engines.operator(addresses["piper_daemon"], "eve").pause(None, "")
    view = engines.view(addresses["piper_viewer"])
    letter = next(view.each("errors"))
    assert view.read(letter)
    with pytest.raises(QueueMissing, match="may not"):
        engines.operator(addresses["piper_viewer"], "eve").remove(letter)
    operator = engines.operator(addresses["piper_operator"], "ann")
    operator.pause(None, "a while")
    operator.resume()
    with operator.batch():
        operator.requeue(letter)
    with pytest.raises(QueueMissing, match="may not"):
        engines.create(addresses["piper_daemon"].replace("queue=in", "queue=more"))
    queue.close()
    with admin(database) as connection:
        for role in schema.ROLES:
            connection.run(f"DROP ROLE {role}_{database.database}")


def test_queue_that_is_not_there_says_how_it_is_made(database: Database) -> None:
    queue = DatabaseQueue(database.address("in"))
    with pytest.raises(QueueMissing, match="piperctl queue create 'postgresql://"):
        queue.connect()
    create(database.address("other"))
    with pytest.raises(QueueMissing, match=r"there is no queue .*queue=in: piperctl queue create"):
        queue.connect()
    queue.close()


@pytest.mark.parametrize(("number", "said"), [(0, "piperctl queue create"), (99, "upgrade piperkit here")])
def test_tables_of_another_version_are_refused_with_what_to_do(database: Database, number: int, said: str) -> None:
    create(database.address("in"))
    with admin(database) as connection:
        connection.run("UPDATE piper.version SET number = %s", (number,))
    queue = DatabaseQueue(database.address("in"))
    with pytest.raises(QueueMissing, match=said):
        queue.connect()
    queue.close()
    if number > schema.VERSION:
        with pytest.raises(QueueMissing, match=said):
            create(database.address("in"))


def test_queue_is_made_once_whoever_makes_it_side_by_side(database: Database) -> None:
    made: list[bool] = []
    threads = [
        threading.Thread(target=lambda: made.append(engines.create(database.address("in"))[0])) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 4 + [True]


def test_password_comes_from_a_file_or_a_credential_and_is_shown_nowhere(
    own_server: postgresql.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    database = Database(own_server)
    create(database.address("in"))
    with admin(database) as connection:
        connection.run("CREATE ROLE mail LOGIN PASSWORD 'sesame' IN ROLE piper_daemon")
    hba = own_server.directory / "data" / "pg_hba.conf"
    hba.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
    with admin(database) as connection:
        connection.rows("SELECT pg_reload_conf()")
    address = database.address("in").replace("user=postgres", "user=mail")
    with pytest.raises(QueueMissing, match="no password supplied"):
        DatabaseQueue(address).connect()
    secret = tmp_path / "queue-password"
    secret.write_text("sesame\n")
    with DatabaseQueue(address, password_file=str(secret)) as queue:
        queue.enqueue("a")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with DatabaseQueue(address) as queue:
        assert len(queue.claim()) == 1
    assert "sesame" not in caplog.text
    secret.write_text("wrong\n")
    with pytest.raises(QueueMissing, match="password authentication failed"):
        DatabaseQueue(address).connect()
    with pytest.raises(ConfigError, match=r"queue_password_file is .*gone"):
        DatabaseQueue(address, password_file=str(tmp_path / "gone")).connect()


def test_doctor_knows_what_slows_a_database_down_and_what_it_would_not_survive(database: Database) -> None:
    from piperkit.doctor import examine

    def said() -> str:
        subjects = examine.admit([database.address("in")], None)
        return "\n".join(f"{finding.what}: {finding.mend}" for finding in examine.examine(subjects))

    assert "has no queues: piperctl queue create" in said()
    create(database.address("in"))
    assert "no synchronous standby" in said()
    with admin(database) as other:
        other.run("SET idle_in_transaction_session_timeout = 0")
        with other.transaction(), _constant("piperkit.doctor.database_checks._OLD", 0):
            other.rows("SELECT 1")
            assert "a transaction of postgres (piperkit) is open" in said()
    with DatabaseQueue(database.address("in")) as queue:
        queue.enqueue_many(["x"] * 100)
        for claim in queue.claim(100):
            queue.cancel(claim.id)
        with admin(database) as other:
            other.run("ANALYZE")
        with (
            _constant("piperkit.doctor.database_checks._DEAD_LEAST", 0),
            _constant("piperkit.doctor.database_checks._DEAD_TIMES", -1),
            _constant("piperkit.doctor.database_checks._UNSEEN", -1),
        ):
            assert "dead rows" in said()
            assert f":{os.getpid()} has not been seen" in said()


@contextlib.contextmanager
def _constant(name: str, value: object) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(name, value)
        yield


@pytest.fixture
def certified(tmp_path: Path) -> Iterator[tuple[postgresql.Server, Path]]:
    """A server that takes connections with TLS only, as localhost; and the certificate that it is known by."""
    key, certificate = tmp_path / "server.key", tmp_path / "server.crt"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    with postgresql.Server(listen="127.0.0.1") as server:
        server.encrypt(key, certificate)
        yield server, certificate


def test_server_is_verified_where_the_address_says_so(
    certified: tuple[postgresql.Server, Path], tmp_path: Path
) -> None:
    server, certificate = certified
    create(f"{server.url}&queue=in")
    wanted = "postgresql://postgres@localhost/postgres?queue=in&sslmode=verify-full"
    with DatabaseQueue(f"{wanted}&sslrootcert={certificate}") as queue:
        queue.enqueue("a")
        assert queue._connection.rows("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [(True,)]
    with pytest.raises(QueueMissing, match="certificate"):
        DatabaseQueue(f"{wanted}&sslrootcert={certificate}".replace("localhost", "127.0.0.1")).connect()
    stranger = tmp_path / "other.crt"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*make, "-keyout", tmp_path / "other.key", "-out", stranger], check=True, capture_output=True)
    with pytest.raises(QueueMissing, match="certificate"):
        DatabaseQueue(f"{wanted}&sslrootcert={stranger}").connect()


def test_record_of_any_text_is_kept(database: Database) -> None:
    from piperkit.message import Failure

    queue = database.open()
    id = queue.enqueue("a")
    queue.claim()
    queue.banish(id, Failure("nul \0, half \udc80, wide \U0001f600", "E", "trace\0back"))
    reason = database.reason("in", id)
    assert "wide \U0001f600" in reason
    assert "\0" not in reason
    json.dumps(database.view("in").report(database.view("in").find(id)))
