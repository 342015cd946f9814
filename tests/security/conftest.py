"""A machine with several accounts, and a queue of one of them that holds something in each part."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from needs import need
from people import DAEMON, GROUP, PRODUCER
from piperkit.dirq import DirectoryQueue, ensure_queue
from piperkit.dirq.acts import Operator
from piperkit.dirq.view import QueueView
from piperkit.message import Failure


@pytest.fixture
def machine() -> Iterator[Path]:
    """A directory that everybody can reach."""
    need("root", os.geteuid() == 0, "root, to become somebody else")
    need("setpriv", shutil.which("setpriv") is not None, "setpriv from the package util-linux")
    with tempfile.TemporaryDirectory(prefix="piper-", dir="/var/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def queue(machine: Path) -> Path:
    """A new queue of `DAEMON`; its group may enqueue."""
    ensure_queue(str(machine / "queue"), 0o770, (DAEMON.uid, GROUP))
    return machine / "queue"


@pytest.fixture
def used(queue: Path) -> Path:
    """A queue whose daemon was killed in the middle of it: something is in each part, named after that."""

    def work() -> None:
        mine = DirectoryQueue(queue, min_free=0)
        for name in ("pending", "errors", "deferred"):
            mine.enqueue(name, name)
        mine.claim(3)
        mine.banish("errors", Failure("no good"))
        mine.retry("deferred", 3600, Failure("busy"))
        mine.recover()
        mine.note([b"{}\n"])
        mine.enqueue("hold", "hold")
        Operator(queue, "jane").hold(QueueView(queue).entry("incoming", "hold"), "")
        mine.enqueue("incoming", "incoming")
        (queue / "outgoing" / "outgoing").write_text("outgoing")
        (queue / "tmp" / "tmp").write_text("tmp")

    DAEMON.do(work)
    PRODUCER.do(lambda: DirectoryQueue(queue, min_free=0, create=False).enqueue("mine", "mine"))
    return queue
