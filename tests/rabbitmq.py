"""A RabbitMQ broker of a test's own: its data in a directory, and a port of the loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from needs import need

#: Debian's program of that name in the path becomes another user, which is for us to do.
_PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class Broker:
    """As a context manager, it is there inside, and gone after it."""

    def __init__(self) -> None:
        need("rabbitmq", _PROGRAM.exists(), "the broker RabbitMQ (apt-get install rabbitmq-server)")
        self.directory = Path(tempfile.mkdtemp(prefix="piper-mq-"))
        self.port, self._distribution = _free(), _free()
        self._as_account: list[str] = []
        if os.geteuid() == 0:
            account = pwd.getpwnam("rabbitmq")
            os.chown(self.directory, account.pw_uid, account.pw_gid)
            ids = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}"]
            self._as_account = ["setpriv", *ids, "--clear-groups"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start it; returns when it takes connections."""
        environment = {
            **os.environ,
            "HOME": str(self.directory),
            "RABBITMQ_NODENAME": f"piper{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
            "RABBITMQ_PID_FILE": str(self.directory / "pid"),
        }
        null = subprocess.DEVNULL
        command = [*self._as_account, str(_PROGRAM)]
        self._process = subprocess.Popen(command, env=environment, stdin=null, stdout=null, stderr=null)
        deadline = time.monotonic() + 120
        while not self._listens():
            assert self._process.poll() is None, f"it has ended; see {self.directory}/log"
            assert time.monotonic() < deadline, f"it does not listen; see {self.directory}/log"
            time.sleep(0.1)

    def _listens(self) -> bool:
        with socket.socket() as there:
            return there.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """Stop it, in its order."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait()

    def __enter__(self) -> Self:
        self.directory.chmod(0o755)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def _free() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
