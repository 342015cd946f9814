"""Sources: what comes from elsewhere is enqueued once, on the disk before the source is told so, and never lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import sources
from needs import need
from piperkit import Message, Outcome, PiperDaemon, Retry, Source, crashwalk
from piperkit.dirq.acts import Operator
from piperkit.message import Contents
from piperkit.testing import Piper

Start = Callable[..., "subprocess.Popen[str]"]
Until = Callable[..., None]


class Parts(Source):
    """Fetches prepared parts, one after another; notes what happens."""

    def __init__(self, *parts: Iterable[Contents] | Exception) -> None:
        super().__init__()
        self.parts = list(parts)
        self.notes: list[str] = []
        self.fail_fetched = False

    def fetch(self) -> Iterable[Contents]:
        part = self.parts.pop(0) if self.parts else ()
        if isinstance(part, Exception):
            raise part
        return part

    def fetched(self) -> None:
        self.notes.append("fetched")
        if self.fail_fetched:
            self.fail_fetched = False
            raise OSError("no room for it")

    def process(self, message: Message) -> Outcome | None:
        self.notes.append(message.text)
        return super().process(message)


def run(piper: Piper, source: Source, *options: str) -> int:
    return piper.run(lambda argv: PiperDaemon(name="source", argv=argv, components=[source]), *options)


def test_what_is_fetched_becomes_messages_in_order(piper: Piper) -> None:
    source = Parts(["one", "two"], [b"three", {"number": 4}])
    assert run(piper, source) == 0
    assert piper.out == [b"one", b"two", b"three", b'{"number":4}']


def test_a_source_is_told_when_all_is_enqueued_and_not_before(piper: Piper) -> None:
    """And once for each time that something has come."""
    told: list[int] = []

    class Watching(Parts):
        def fetched(self) -> None:
            told.append(sum(piper.counts().values()) + len(piper.out))

    run(piper, Watching(["a", "b", "c"], ["d"]))
    assert told == [3, 4]


def test_a_source_that_fails_is_asked_again_and_the_log_says_so_once(piper: Piper) -> None:
    source = Parts(OSError("not there"), OSError("not there"), ["one"])
    run_until(piper, source, lambda: piper.out == [b"one"])
    assert piper.log.count("Parts: fetching failed, and is tried again: OSError: not there") == 1
    assert piper.log.count("Parts: fetching goes on") == 1


def test_a_source_that_cannot_remember_is_told_again_and_nothing_is_enqueued_twice(piper: Piper) -> None:
    source = Parts(["one"])
    source.fail_fetched = True
    run_until(piper, source, lambda: source.notes.count("fetched") == 2)
    assert piper.out == [b"one"]


def test_a_message_that_is_too_large_is_dropped_with_an_error_and_the_others_are_not(piper: Piper) -> None:
    assert run(piper, Parts(["small", "x" * 100, "little"]), "--message-max=50") == 0
    assert piper.out == [b"small", b"little"]
    assert "a new message is not enqueued" in piper.log


def test_fetching_pauses_while_the_input_queue_is_long(piper: Piper) -> None:
    """Messages that another instance would take are as good as any for a long queue."""
    lengths: list[int] = []

    class Counting(Parts):
        def fetch(self) -> Iterable[Contents]:
            lengths.append(piper.counts()["incoming"])
            return super().fetch()

    piper.put(*map(str, range(20)))
    assert run(piper, Counting(["a"], ["b"]), "--source-limit=5", "--source-wait=0.01") == 0
    assert len(piper.out) == 22
    assert max(lengths) < 5


def test_fetching_pauses_while_processing_does(piper: Piper) -> None:
    """The output queue takes one message: what is fetched before that is known is the first part, and no more."""
    source = Parts(["a", "b"], *([str(number)] for number in range(50)))
    run(piper, source, "--queue-out-limit=1", "--queue-in-batch=1")
    assert piper.out == [b"a"]
    assert source.parts, "it was asked for everything"


def test_a_fetched_message_may_fail_as_any_other(piper: Piper) -> None:
    class Later(Parts):
        def process(self, message: Message) -> Outcome | None:
            raise Retry("later", 60)

    run(piper, Later(["one"]))
    assert piper.counts()["deferred"] == 1


def test_a_stop_leaves_what_was_not_enqueued_to_the_source(piper: Piper) -> None:
    """A source that fetches without an end does not keep the daemon from stopping."""

    class Endless(Parts):
        def fetch(self) -> Iterable[Contents]:
            self.notes.append("asked")
            if len(self.notes) > 10:
                os.kill(os.getpid(), signal.SIGTERM)
            return ["more"]

    source = Endless()
    assert run(piper, source) == 0
    assert sum(piper.counts().values()) + len(piper.out) == source.notes.count("asked")


def run_until(piper: Piper, source: Source, reached: Callable[[], bool]) -> None:
    """Run a daemon in this process until a state is reached, which is looked for whenever the source is asked."""
    fetch = source.fetch

    def looking() -> Iterable[Contents]:
        if reached():
            os.kill(os.getpid(), signal.SIGTERM)
            return ()
        return fetch()

    source.fetch = looking  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        PiperDaemon(name="source", argv=piper.options("--source-wait=0.01"), components=[source]).run()


# -- as processes ------------------------------------------------------------------------------------------------


def send(path: Path, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.connect(os.fspath(path))
        for each in datagrams:
            client.send(each)


def test_a_datagram_wakes_the_daemon_as_soon_as_it_comes(
    piper: Piper, start: Start, until: Until, tmp_path: Path
) -> None:
    """The daemon would look by itself after an hour only."""
    address = tmp_path / "socket"
    process = start("datagrams", f"--address={address}", "--source-wait=3600")
    until(address.exists, "the socket")
    for number in range(3):
        send(address, b"%d" % number, b"and another")
        until(lambda number=number: len(piper.out) == 2 * number + 2, "the messages")
    assert piper.out == [b"0", b"and another", b"1", b"and another", b"2", b"and another"]
    process.terminate()
    assert process.wait(30) == 0


def test_a_source_that_is_paused_fetches_nothing_and_what_waits_is_worked_on(
    piper: Piper, start: Start, until: Until, tmp_path: Path
) -> None:
    """So a pipeline is drained: what comes from outside waits there."""
    address = tmp_path / "socket"
    operator = Operator(piper.directory / "in", "jane")
    operator.pause(None, "drained", sources_only=True)
    start("datagrams", f"--address={address}", "--source-wait=0.02")
    until(address.exists, "the socket")
    until(lambda: "fetching pauses: jane has paused what the queue's daemon fetches: drained" in piper.log, "the pause")
    send(address, b"outside")
    piper.put("waits")
    until(lambda: piper.out == [b"waits"], "the message that waits")
    assert operator.resume()
    until(lambda: piper.out == [b"waits", b"outside"], "the message from outside")
    assert "fetching goes on" in piper.log


@pytest.mark.slow
def test_a_socket_that_is_not_read_does_not_keep_the_daemon_busy(
    piper: Piper, start: Start, until: Until, tmp_path: Path
) -> None:
    """Its output queue is full, so it does not fetch: the processor's time that it takes shows whether it sleeps."""
    address = tmp_path / "socket"
    process = start("datagrams", f"--address={address}", "--queue-out-limit=1", "--source-wait=0.2")
    until(address.exists, "the socket")
    send(address, b"a", b"b")
    until(lambda: piper.out == [b"a"], "the first message")
    send(address, b"c")
    until(lambda: "processing pauses" in piper.log, "the pause")
    stat = Path(f"/proc/{process.pid}/stat")

    def ticks() -> int:
        return sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13]))

    def switches() -> int:
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("voluntary_ctxt")))

    before, slept = ticks(), switches()
    until(lambda: switches() > slept + 10, "ten sleeps")
    assert ticks() - before < 100


@pytest.mark.slow
def test_a_file_is_followed_over_rotation_and_restart(piper: Piper, start: Start, until: Until, tmp_path: Path) -> None:
    log = tmp_path / "log"
    options = (f"--follow={log}", f"--position={tmp_path}/position", "--source-wait=0.02")
    log.write_text("one\ntwo\nunfinished")
    process = start("lines", *options)
    until(lambda: len(piper.out) == 2, "two lines")
    with open(log, "a") as file:
        file.write(" line\n")
    until(lambda: len(piper.out) == 3, "the finished line")
    log.rename(tmp_path / "log.1")
    log.write_text("new file\n")
    until(lambda: len(piper.out) == 4, "the new file's line")
    process.terminate()
    assert process.wait(30) == 0

    with open(log, "a") as file:
        file.write("while it was away\n")
    log.rename(tmp_path / "log.1")
    log.write_text("and another file\n")
    start("lines", *options)
    until(lambda: len(piper.out) == 6, "what came while it was away")
    assert piper.out == [
        b"one",
        b"two",
        b"unfinished line",
        b"new file",
        b"while it was away",
        b"and another file",
    ]


@pytest.mark.slow
def test_a_source_loses_nothing_wherever_it_is_killed(piper: Piper) -> None:
    need("strace", crashwalk.available(), "strace(1), with the right to trace")
    assert piper.crash_walk(sources.followed, places=["position"]) > 20
