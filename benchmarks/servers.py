"""Servers of a run's own, with their data where the messages of the others are."""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from piperkit import engines
from piperkit.postgres.address import Address
from piperkit.postgres.connection import Connection

_POSTGRESQL = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
_PORT = 25672


def has_postgresql() -> bool:
    return bool(_POSTGRESQL)


def has_rabbitmq() -> bool:
    return shutil.which("rabbitmq-server") is not None


def _as(account: str, directory: Path) -> list[str]:
    """What makes a command that account's, if we are root; the directory becomes its own."""
    if os.geteuid() != 0:
        return []
    found = pwd.getpwnam(account)
    os.chown(directory, found.pw_uid, found.pw_gid)
    for parent in directory.parents:
        if not os.stat(parent).st_mode & 0o001:
            os.chmod(parent, os.stat(parent).st_mode | 0o001)
    return ["setpriv", f"--reuid={found.pw_uid}", f"--regid={found.pw_gid}", "--clear-groups"]


@contextlib.contextmanager
def postgresql(above: Path) -> Iterator[str]:
    """A server that syncs as it does by default, with the queues `in` and `out`; gives the database's address."""
    directory = above / "postgresql"
    directory.mkdir()
    prefix, programs = _as("postgres", directory), _POSTGRESQL[-1].parent

    def run(program: str, *arguments: str) -> None:
        null = subprocess.DEVNULL
        command = [*prefix, str(programs / program), *arguments]
        subprocess.run(command, cwd=directory, check=True, stdin=null, stdout=null, stderr=null)

    run("initdb", "-D", "data", "--auth=trust", "--username=postgres", "--encoding=UTF8")
    socket = Path(tempfile.mkdtemp(prefix="piper-pg-"))  # whose path has to be short
    socket.chmod(0o777)
    sockets = shlex.quote(f"unix_socket_directories={socket}")
    options = f"-c listen_addresses= -c {sockets} -c max_wal_size=4GB"
    run("pg_ctl", "--wait", "-D", "data", "-l", "log", "-o", options, "start")
    try:
        url = f"postgresql:///postgres?host={quote(str(socket))}&user=postgres"
        for queue in ("in", "out"):
            engines.create(f"{url}&queue={queue}")
        yield url
    finally:
        run("pg_ctl", "--wait", "-D", "data", "-m", "immediate", "stop")
        shutil.rmtree(socket)


def empty(url: str, queue: str) -> None:
    """Delete all messages of a queue."""
    connection = Connection(Address.parse(f"{url}&queue={queue}"))
    connection.run(
        "WITH gone AS (DELETE FROM piper.message USING piper.queue WHERE queue = queue.number AND name = %s"
        " RETURNING body) DELETE FROM piper.body USING gone WHERE number = gone.body",
        (queue,),
    )
    connection.close()


@contextlib.contextmanager
def old_transaction(url: str) -> Iterator[None]:
    """Somebody has begun a transaction, and does not end it."""
    connection = Connection(Address.parse(url, needs_queue=False))
    connection.run("SET idle_in_transaction_session_timeout = 0")
    with connection.transaction():
        connection.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.rows("SELECT count(*) FROM piper.queue")
        yield
    connection.close()


@contextlib.contextmanager
def rabbitmq(above: Path) -> Iterator[str]:
    """A broker; gives its URL."""
    directory = above / "rabbitmq"
    directory.mkdir()
    prefix = _as("rabbitmq", directory)
    environment = {
        **os.environ,
        "HOME": str(directory),
        "RABBITMQ_NODENAME": "piperbench@localhost",
        "RABBITMQ_NODE_PORT": str(_PORT),
        "RABBITMQ_DIST_PORT": str(_PORT + 1),
        "RABBITMQ_MNESIA_BASE": str(directory / "data"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
        "RABBITMQ_PID_FILE": str(directory / "pid"),
    }
    null = subprocess.DEVNULL
    server = next(
        (path for path in ("/usr/lib/rabbitmq/bin/rabbitmq-server",) if Path(path).exists()), "rabbitmq-server"
    )
    with subprocess.Popen([*prefix, server], env=environment, stdin=null, stdout=null, stderr=null) as process:
        try:
            deadline = time.monotonic() + 60
            while not _listens(_PORT):
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError(f"the broker does not start; see {directory}/log")
                time.sleep(0.2)
            yield f"amqp://guest:guest@127.0.0.1:{_PORT}/%2F"
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as there:
        return there.connect_ex(("127.0.0.1", port)) == 0
