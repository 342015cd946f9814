"""Back-pressure, strange things in the queue, many messages, and faults that pass."""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import apps
from needs import need
from piperkit import Component, Message, Outcome, PiperDaemon
from piperkit.testing import Piper
from written import log

Start = Callable[..., object]
Call = Callable[..., "subprocess.CompletedProcess[str]"]
Until = Callable[..., None]
echo = functools.partial(apps.build, "echo")


@pytest.mark.parametrize("limit", [1, 2, 33, 50])
def test_processing_pauses_exactly_at_the_limit_and_goes_on_when_there_is_room(piper: Piper, limit: int) -> None:
    piper.put(*(f"{number}" for number in range(100)))
    piper.run(echo, f"--queue-out-limit={limit}")
    assert len(piper.out) == limit
    assert piper.counts()["pending"] == 0
    for claim in piper.queue_out.claim(limit // 2 + 1):
        piper.queue_out.cancel(claim.id)
    left = len(piper.out)
    piper.run(echo, f"--queue-out-limit={limit}")
    assert left < limit
    assert len(piper.out) == min(limit, 100 - (limit - left))


def test_limit_of_zero_is_no_limit(piper: Piper) -> None:
    piper.put(*(f"{number}" for number in range(100)))
    piper.run(echo, "--queue-out-limit=0")
    assert len(piper.out) == 100


def test_paused_daemon_says_so_once_and_goes_on_by_itself(piper: Piper, start: Start, until: Until) -> None:
    piper.put(*"abcdef")
    start("echo", "--queue-out-limit=2", "--queue-out-wait=0.02")
    until(lambda: "pauses" in log(piper), "the pause")
    assert piper.out == [b"a", b"b"]
    taken = []
    while len(taken) < 6:
        for claim in piper.queue_out.claim(10):
            taken.append(piper.queue_out.read(claim.id))
            piper.queue_out.commit(claim.id)
        assert len(piper.out) <= 2
    assert taken == [b"a", b"b", b"c", b"d", b"e", b"f"]


@pytest.mark.slow
def test_instances_overshoot_the_limit_by_no_more_than_a_batch_each(piper: Piper, start: Start, until: Until) -> None:
    with piper.queue_in.batch():
        piper.put(*(f"{number}" for number in range(400)))
    for _ in range(3):
        start("echo", "--paralel", "--queue-out-limit=50", "--queue-in-batch=10", "--queue-sync=off")
    until(lambda: log(piper).count("pauses") >= 3, "all three to pause")
    assert 50 <= len(piper.out) <= 50 + 3 * 10


def test_outcome_of_a_message_comes_before_the_next_one_is_begun(piper: Piper) -> None:
    """So a daemon that dies is not counted against a message that was finished."""
    before: list[int] = []

    class Looking(Component):
        def process(self, message: Message) -> Outcome:
            before.append(len(piper.out))
            return message.commit()

    piper.put(*"abcde")
    piper.run(lambda argv: PiperDaemon(name="looking", argv=argv, components=[Looking()]))
    assert before == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_thousand_messages_of_random_bytes_come_out_as_they_went_in(piper: Piper, start: Start, until: Until) -> None:
    chance = random.Random(1)
    contents = [chance.randbytes(min(1 << 20, int(chance.paretovariate(0.3)))) for _ in range(996)]
    contents += [b"", b"\n", bytes(1 << 20), chance.randbytes(1 << 20)]
    start("echo", "--message-format=bytes", "--queue-sync=off")
    with piper.queue_in.batch():
        ids = piper.put(*contents)
    until(lambda: piper.queue_out.counts()["incoming"] == 1000, "all messages")
    out = piper.directory / "out" / "incoming"
    for id, expected in zip(ids, contents, strict=True):
        assert (out / id).read_bytes() == expected


def test_strange_things_in_a_queue_are_left_alone_and_the_good_messages_come_out(
    piper: Piper, start: Start, until: Until
) -> None:
    incoming = piper.directory / "in" / "incoming"
    (incoming / "directory").mkdir()
    (incoming / "directory" / "file").write_text("inside")
    os.mkfifo(incoming / "fifo")
    (incoming / "link").symlink_to("/etc/passwd")
    (incoming / "dangling").symlink_to("nowhere")
    (incoming / ".dot").write_text("hidden")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(os.path.relpath(incoming / "socket"))
    untouched = sorted(os.listdir(incoming))
    odd_names = [b"n" * 255, "Gr\u00fc\u00dfe".encode("latin-1"), b"message.meta", b"with space\n"]
    for name in odd_names:
        (Path(os.fsdecode(os.fsencode(incoming) + b"/" + name))).write_text("odd")
    piper.put(*(f"good {number}" for number in range(50)), b"\xff", *(f"good {number}" for number in range(50, 100)))
    daemon = start("echo")
    until(lambda: len(piper.out) == 104, "the good messages")
    until(lambda: piper.errors, "the bad one")
    assert [each for each in piper.out if each != b"odd"] == [f"good {number}".encode() for number in range(100)]
    assert {os.fsencode(name) for name in os.listdir(piper.directory / "out/incoming")} >= set(odd_names)
    assert piper.errors == [(b"\xff", "not valid UTF-8: invalid start byte at byte 0")]
    assert sorted(os.listdir(incoming)) == untouched
    for name in untouched:
        assert log(piper).count(f"incoming/{name}: left alone") == 1
    assert daemon.poll() is None  # type: ignore[attr-defined]


def test_missing_output_queue_holds_the_messages_and_is_said_once(piper: Piper, start: Start, until: Until) -> None:
    daemon = start("upper", "--queue-in-wait=0.02", "--queue-out-wait=0.02")
    until(lambda: "The daemon starts" in log(piper), "the start")
    shutil.move(piper.directory / "out", piper.directory / "away")
    piper.put(*"abc")
    until(lambda: "processing pauses" in log(piper), "the pause")
    shutil.move(piper.directory / "away", piper.directory / "out")
    until(lambda: len(piper.out) == 3, "the messages")
    assert piper.out == [b"A", b"B", b"C"]
    daemon.send_signal(signal.SIGTERM)  # type: ignore[attr-defined]
    until(lambda: daemon.poll() is not None, "the end")  # type: ignore[attr-defined]
    assert log(piper).count("processing pauses") == 1
    assert sum(piper.counts().values()) == 0


def test_message_that_is_too_large_is_banished_without_being_read(piper: Piper) -> None:
    piper.put("x" * 2000, "small")
    piper.run(echo, "--message-max=1000")
    assert piper.out == [b"small"]
    assert piper.errors == [(b"x" * 2000, "a message of 2000 bytes is larger than message_max, 1000 bytes")]


def test_messages_that_are_put_off_block_no_others(piper: Piper) -> None:
    piper.put(*("retry 1000", "a") * 20)
    piper.run(functools.partial(apps.build, "upper"))
    assert piper.out == [b"A"] * 20
    assert piper.counts()["deferred"] == 20


def test_dead_letters_are_warned_about_and_kept(piper: Piper) -> None:
    piper.put("reject one", "reject two")
    run = functools.partial(apps.build, "upper")
    piper.run(run)
    piper.run(run)
    assert "there are 2 messages in errors" in piper.log
    assert len(piper.errors) == 2


def test_dead_letters_are_deleted_when_they_are_as_old_as_configured(piper: Piper) -> None:
    piper.put("reject one", "reject two")
    run = functools.partial(apps.build, "upper")
    piper.run(run, "--errors-keep=1")
    piper.run(run, "--errors-keep=1")
    assert len(piper.errors) == 2
    piper.run(run, "--errors-keep=0")
    assert os.listdir(piper.directory / "in" / "errors") == []


def test_many_old_dead_letters_are_deleted_in_steps_and_said_once(piper: Piper, start: Start, until: Until) -> None:
    piper.put(*(f"reject {number}" for number in range(10)))
    piper.run(functools.partial(apps.build, "upper"))
    assert len(piper.errors) == 10
    constants = {"piperkit.dirq.directory_queue.LOOKED_AT": 10, "piperkit.filer.component.PART_PAUSE": 0.01}
    start("upper", "--errors-keep=0", constants=constants)
    until(lambda: "10 messages deleted from errors, 0 days old" in log(piper), "the end of it")
    assert os.listdir(piper.directory / "in" / "errors") == []
    assert log(piper).count("deleted from errors") == 1


def test_dead_letters_are_counted_up_to_a_limit(piper: Piper, start: Start, call: Call, until: Until) -> None:
    piper.put("reject one", "reject two", "reject three")
    piper.run(functools.partial(apps.build, "upper"))
    start("upper", constants={"piperkit.filer.housekeeping.ERRORS_MAX": 2})
    until(lambda: "there are 2 or more messages in errors" in log(piper), "the warning")
    assert "2 or more in errors" in call("upper", "--action=status").stdout


def test_room_that_comes_soon_is_used_soon(piper: Piper, start: Start, until: Until) -> None:
    piper.put(*"abcdef")
    start("echo", "--queue-out-limit=2", "--queue-out-wait=100000")
    taken: list[bytes] = []
    while len(taken) < 6:
        until(lambda: piper.out, "messages")
        for claim in piper.queue_out.claim(10):
            taken.append(piper.queue_out.read(claim.id))
            piper.queue_out.commit(claim.id)
    assert taken == [b"a", b"b", b"c", b"d", b"e", b"f"]


@pytest.mark.parametrize("form", ["text", "bytes"])
def test_arrival_of_a_message_is_what_its_file_says(piper: Piper, form: str) -> None:
    found: list[tuple[float, int]] = []

    class Looking(Component):
        def process(self, message: Message) -> Outcome:
            found.append((message.arrived, message.attempt))
            return message.commit()

    (id,) = piper.put("a")
    os.utime(piper.directory / "in" / "incoming" / id, (1e9, 1e9))
    build = lambda argv: PiperDaemon(name="looking", argv=argv, components=[Looking()])  # noqa: E731
    piper.run(build, f"--message-format={form}")
    assert found == [(1e9, 1)]


def test_large_messages_use_the_memory_of_those_before_them(piper: Piper, start: Start, until: Until) -> None:
    """New memory for each costs more time than all else that is done with it."""
    need("glibc", hasattr(ctypes.CDLL(None), "mallopt"), "a C library with mallopt(3)")
    size = 1 << 20
    with piper.queue_in.batch():
        piper.put(*("x" * size for _ in range(20)))
    start("faults")
    until(lambda: len(piper.out) == 20, "the messages")
    given = [int(each) for each in piper.out]
    pages = size // resource.getpagesize()
    assert sum(later - earlier > pages for earlier, later in itertools.pairwise(given[5:])) == 0, given
