"""A PostgreSQL server of a test's own, or a pair of them: the data in a directory, and no network."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg

from needs import need

#: Where Debian has the programs of the server, which are not in the path; the newest version is the last.
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))


class Server:
    """As a context manager, it is there inside, and gone after it.

    It does not sync (a test cuts no power), and listens on a socket in `directory` only.
    primary: it is a standby of that one, and follows it. listen: an address of the network that it listens on, too.
    """

    def __init__(self, primary: Server | None = None, listen: str = "") -> None:
        self._listen = listen
        self._primary = primary
        found = shutil.which("pg_ctl") or (str(PROGRAMS[-1]) if PROGRAMS else None)
        need("postgresql", found is not None, "the server of PostgreSQL (apt-get install postgresql)")
        assert found is not None
        self._bin = Path(found).resolve().parent
        self.directory = Path(tempfile.mkdtemp(prefix="piper-pg-"))
        self._as_account: list[str] = []
        if os.geteuid() == 0:  # which it refuses
            account = pwd.getpwnam("postgres")
            os.chown(self.directory, account.pw_uid, account.pw_gid)
            ids = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}"]
            self._as_account = ["setpriv", *ids, "--clear-groups"]

    @property
    def url(self) -> str:
        """The connection string of its database, for anybody on this machine."""
        return f"postgresql:///postgres?host={quote(str(self.directory), safe='')}&user=postgres"

    def start(self) -> None:
        """Start it; returns when it takes connections."""
        sockets = shlex.quote(f"unix_socket_directories={self.directory}")
        options = f"-c listen_addresses={self._listen} -c {sockets}"
        options += " -c fsync=off -c max_connections=400"
        self._run("pg_ctl", "--wait", "-D", "data", "-l", "log", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `immediate` is as if it had crashed."""
        self._run("pg_ctl", "--wait", "-D", "data", "-m", mode, "stop")

    def encrypt(self, key: Path, certificate: Path) -> None:
        """From now on it takes connections from the network with TLS only."""
        data = self.directory / "data"
        for source, name in ((key, "server.key"), (certificate, "server.crt")):
            target = data / name
            target.write_bytes(source.read_bytes())
            target.chmod(0o600)
            if self._as_account:
                shutil.chown(target, "postgres", "postgres")
        (data / "pg_hba.conf").write_text("local all all trust\nhostssl all all all trust\n")
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET ssl = on")
            connection.execute("SELECT pg_reload_conf()")

    def promote(self) -> None:
        """A standby becomes the server that is written to; returns when it is."""
        self._run("pg_ctl", "--wait", "-D", "data", "promote")

    def __enter__(self) -> Self:
        self.directory.chmod(0o755)
        if self._primary is None:
            self._run("initdb", "-D", "data", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync")
        else:
            source = ["-h", str(self._primary.directory), "-U", "postgres"]
            self._run("pg_basebackup", "-D", "data", "-R", "-C", "-S", "standby", "-c", "fast", "--no-sync", *source)
        if self._listen:
            with open(self.directory / "data" / "pg_hba.conf", "a", encoding="utf-8") as rules:
                rules.write("host all all samenet trust\n")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if (self.directory / "data" / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.directory)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_account, str(self._bin / program), *arguments]
        null = subprocess.DEVNULL  # the server would keep a pipe open for ever
        done = subprocess.run(command, check=False, cwd=self.directory, stdin=null, stdout=null, stderr=null)
        log = self.directory / "log"
        assert done.returncode == 0, f"{program} failed: {log.read_text() if log.exists() else 'it wrote no log'}"


def have_followed(primary: Server) -> None:
    """From now on, what is committed is on its standby, too; returns when that follows it."""
    with psycopg.connect(primary.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        connection.execute("SELECT pg_reload_conf()")
        while not connection.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'").fetchall():
            time.sleep(0.05)
