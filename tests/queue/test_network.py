"""A network that swallows packets, between a machine and the server: a namespace of its own, and its cable pulled."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

import postgresql
from kinds import create
from needs import need
from piperkit.postgres.address import Address
from piperkit.postgres.connection import Connection
from piperkit.postgres.database_queue import DatabaseQueue

Until = Callable[..., None]

#: Claims what is there, begins with the first, and commits it when it is told to, as often as it takes.
PROGRAM = """
import sys, time
from piperkit.errors import LeftAlone, QueueAway
from piperkit.postgres.database_queue import DatabaseQueue
queue = DatabaseQueue(sys.argv[1])
ids = [claim.id for claim in queue.claim(5)]
queue.read(ids[0])
print(*ids, flush=True)
sys.stdin.readline()
away = 0
while True:
    try:
        queue.commit(ids[0])
    except QueueAway:
        away += 1
        time.sleep(0.2)
    except LeftAlone:
        print("left alone", away > 0, flush=True)
        break
    else:
        print("committed", flush=True)
        break
queue.close()
"""


class Machine:
    """A network namespace, with a cable to this machine."""

    def __init__(self, number: int) -> None:
        self.name = f"piper{number}"
        self._cable = f"pp{number}"
        self.here, self.there = "198.18.77.1", "198.18.77.2"

    def __enter__(self) -> Machine:
        inside = ["ip", "-n", self.name]
        for command in (
            ["ip", "netns", "add", self.name],
            ["ip", "link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", self.name],
            ["ip", "addr", "add", f"{self.here}/24", "dev", self._cable],
            ["ip", "link", "set", self._cable, "up"],
            [*inside, "addr", "add", f"{self.there}/24", "dev", "eth0"],
            [*inside, "link", "set", "eth0", "up"],
        ):
            subprocess.run(command, check=True)
        return self

    def plug(self, state: str) -> None:
        subprocess.run(["ip", "link", "set", self._cable, state], check=True)

    def __exit__(self, *_: object) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=True)


@pytest.fixture
def machine() -> Iterator[Machine]:
    allowed = os.geteuid() == 0 and subprocess.run(["ip", "netns"], capture_output=True, check=False).returncode == 0
    need("netns", allowed, "root, and ip(8), to make a network namespace")
    with Machine(os.getpid()) as machine:
        yield machine


@pytest.mark.slow
def test_claims_of_a_machine_that_the_network_has_lost_are_given_back_and_it_lets_go_of_them(
    machine: Machine, until: Until
) -> None:
    with postgresql.Server(listen=machine.here) as server:
        local = f"{server.url}&queue=in"
        create(local)
        remote = f"postgresql://postgres@{machine.here}/postgres?queue=in"
        with DatabaseQueue(local) as queue:
            ids = queue.enqueue_many("abc")
            command = ["ip", "netns", "exec", machine.name, sys.executable, "-c", PROGRAM, remote]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                assert process.stdout.readline().split() == ids
                assert not queue.recover()
                machine.plug("down")
                process.stdin.write("\n")
                process.stdin.flush()
                until(lambda: queue.recover().returned, "the server to end the session", 120.0)
                assert [claim.id for claim in queue.claim(5)] == ids
                machine.plug("up")
                assert process.stdout.readline() == "left alone True\n"
            for id in ids:
                queue.commit(id)
            assert sum(queue.counts().values()) == 0
        watcher = Connection(Address.parse(local))
        assert watcher.rows("SELECT count(*) FROM piper.instance") == [(0,)]
        watcher.close()
