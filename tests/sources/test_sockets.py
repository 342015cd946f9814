"""The source that listens on a Unix socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from piperkit import Contents, PiperDaemon
from piperkit.host import Host
from piperkit.sources import SocketSource
from piperkit.testing import Piper

Until = Callable[..., None]
#: What is logged when the source listens already.
READY = "It listens"


class Picky(SocketSource):
    def setup(self, daemon: Host) -> None:
        super().setup(daemon)
        daemon.logger.info(READY)

    def message(self, data: bytes) -> Contents | None:
        return None if data.startswith(b"#") else data


def build(argv: list[str]) -> PiperDaemon:
    return PiperDaemon(
        name="it", argv=argv, components=[Picky()], default_message_format="bytes", default_socket_path="it.socket"
    )


@pytest.fixture
def start(piper: Piper, until: Until) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start the daemon as a process, and wait until it listens."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*options: str) -> subprocess.Popen[bytes]:
        code = "import sys, test_sockets; test_sockets.build(sys.argv[1:]).run()"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", code, *piper.options(*options)]
        log = piper.directory / "daemon.log"
        before = log.read_text().count(READY) if log.exists() else 0
        daemon = subprocess.Popen(command, cwd=piper.directory, env=environment, stderr=subprocess.DEVNULL)
        started.append(daemon)
        until(lambda: log.exists() and log.read_text().count(READY) > before, "the start")
        return daemon

    yield run
    for daemon in started:
        daemon.kill()
        daemon.wait()


def connect(piper: Piper, kind: int) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, kind)
    here = os.getcwd()
    os.chdir(piper.directory)  # the name of a socket is short
    try:
        client.connect("it.socket")
    finally:
        os.chdir(here)
    return client


@pytest.mark.slow
def test_each_datagram_is_a_message_and_none_is_lost_while_the_output_queue_is_full(
    piper: Piper, start: Callable[..., object], until: Until
) -> None:
    start("--queue-out-limit=10", "--queue-out-wait=0.05", "--source-limit=10", "--source-wait=0.05")
    wanted = [f"message {number}".encode() for number in range(600)]
    got: list[bytes] = []

    def send() -> None:
        with connect(piper, socket.SOCK_DGRAM) as client:
            for data in (b"# no", b" \n", *wanted):
                client.send(data)

    def collect() -> bool:
        for name in sorted(os.listdir(piper.directory / "out" / "incoming")):
            path = piper.directory / "out" / "incoming" / name
            got.append(path.read_bytes())
            path.unlink()
        return len(got) >= len(wanted)

    sender = threading.Thread(target=send)
    sender.start()
    until(collect, "all messages")
    sender.join()
    assert sorted(got) == sorted(wanted)


def test_each_line_of_a_connection_is_a_message_and_so_is_an_end_without_a_newline(
    piper: Piper, start: Callable[..., object], until: Until
) -> None:
    start("--socket-type=stream", "--source-wait=3600")
    with connect(piper, socket.SOCK_STREAM) as first, connect(piper, socket.SOCK_STREAM) as second:
        first.sendall(b"one\r\ntw")
        until(lambda: piper.out == [b"one"], "the first line")
        second.sendall(b"\n \nthree\n# no\n")
        until(lambda: piper.out == [b"one", b"three"], "a line of the other one")
        first.sendall(b"o\nfour")
        until(lambda: len(piper.out) == 3, "the second line")
    until(lambda: piper.out == [b"one", b"three", b"two", b"four"], "the end")


@pytest.mark.parametrize("kind", ["datagram", "stream"])
@pytest.mark.slow
def test_what_is_too_long_is_left_out_and_said(
    piper: Piper, start: Callable[..., object], until: Until, kind: str
) -> None:
    start(f"--socket-type={kind}", "--line-max=100")
    with connect(piper, socket.SOCK_STREAM if kind == "stream" else socket.SOCK_DGRAM) as client:
        for data in (b"x" * 101 + b"\n", b"x" * 100_000 + b"\n", b"y" * 99 + b"\n"):
            client.sendall(data)
        until(lambda: [out.strip() for out in piper.out] == [b"y" * 99], "what is not")
    assert "longer than line_max, 100 bytes, is left out" in piper.log


def test_socket_has_its_mode_and_is_removed_at_the_end(piper: Piper, start: Callable[..., object]) -> None:
    daemon = start("--socket-mode=0600")
    path = piper.directory / "it.socket"
    assert path.stat().st_mode & 0o777 == 0o600
    daemon.terminate()  # type: ignore[attr-defined]
    assert daemon.wait(60) == 0  # type: ignore[attr-defined]
    assert not path.exists()


@pytest.mark.slow
def test_socket_that_a_dead_process_left_is_replaced_and_that_of_a_living_one_is_not(
    piper: Piper,
    start: Callable[..., subprocess.Popen[bytes]],
    until: Until,
    capfd: pytest.CaptureFixture[str],
) -> None:
    first = start()
    assert piper.run(build, "--pid-file=second.pid") == 78
    assert "it.socket cannot be listened on: another program listens on it" in capfd.readouterr().err
    first.kill()
    first.wait()
    third = start()
    with connect(piper, socket.SOCK_DGRAM) as client:
        client.send(b"hello")
    until(lambda: piper.out == [b"hello"], "the message")
    assert third.poll() is None


def test_what_is_no_socket_is_never_replaced(piper: Piper) -> None:
    (piper.directory / "it.socket").write_text("precious")
    assert piper.run(build) == 78
    assert (piper.directory / "it.socket").read_text() == "precious"
