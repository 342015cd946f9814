"""What piperctl prints, whatever names, reasons and contents hold, and whoever reads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from shlex import quote

import pytest

from piperkit import Failure
from piperkit.dirq import DirectoryQueue

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]

PIPERCTL = f"{quote(sys.executable)} -m piperkit.cli"


def banish(queue: DirectoryQueue, name: str, reason: str, contents: bytes = b"x") -> None:
    queue.enqueue(contents, name)
    (claim,) = queue.claim()
    queue.banish(claim.id, Failure(reason))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("list index [/x] out of range", b"list index [/x] out of range"),  # what rich would take for markup
        ("see [red]this[/red] :smile:", b"see [red]this[/red] :smile:"),  # and for an emoji
        ("\x1b]0;title\x07 \x9b2J", b"\\x1b]0;title\\x07 \\x9b2J"),  # orders to a terminal
        ("two\nlines\r", b"two\\x0alines\\x0d"),
        ("gr\udcfcn \ud800", b"gr\\xfcn \\ud800"),  # not UTF-8: halves of surrogate pairs
        ("gr\u00fcn \u202etxet", "gr\u00fcn \\u202etxet".encode()),  # a mark that turns the direction of writing
        ("x" * 5000, b"x" * 5000),  # longer than any line
    ],
)
def test_reasons_are_shown_as_they_are_and_give_no_orders(
    run: Run, queue: DirectoryQueue, reason: str, shown: bytes
) -> None:
    banish(queue, "message", reason)
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    for command in (["ls", queue.path], ["show", queue.path, "message"]):
        done = run("queue", *command, env=environment)
        assert done.returncode == 0
        assert any(shown in line for line in done.stdout.split(b"\n"))
        assert done.stderr == b""
    assert len(run("queue", "ls", queue.path, env=environment).stdout.splitlines()) == 2


@pytest.mark.slow
def test_message_is_found_by_its_id_as_it_is_shown(run: Run, queue: DirectoryQueue) -> None:
    for name in ("gr\udcfcn", "red\x1b[31m", "a[0]b"):
        banish(queue, name, "odd", contents=os.fsencode(name))
    for shown, contents in (("gr\\xfcn", b"gr\xfcn"), ("red\\x1b[31m", b"red\x1b[31m"), ("a[0]b", b"a[0]b")):
        assert shown.encode() in run("queue", "ls", queue.path).stdout
        assert run("queue", "show", queue.path, shown, "--raw").stdout == contents
    for line in run("queue", "ls", queue.path, "--json").stdout.splitlines():
        assert run("queue", "show", queue.path, json.loads(line)["id"]).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "report",
    [
        {"attempts": "many", "reason": {"a": 1}, "history": "long"},
        {"history": ["x"], "traceback": 5},
        {"history": 5},
        ["no", "object"],
    ],
)
def test_reports_of_other_programs_do_no_harm(run: Run, queue: DirectoryQueue, report: object) -> None:
    Path(queue.path, "errors/message").write_text("hello")
    Path(queue.path, "errors/message.meta").write_text(json.dumps(report))
    assert b"message" in run("queue", "ls", queue.path).stdout
    for option in ([], ["--json"]):
        done = run("queue", "show", queue.path, "message", *option)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"hello" in done.stdout


def test_contents_give_no_orders_to_a_terminal(run: Run, queue: DirectoryQueue) -> None:
    id = queue.enqueue(b"\x1b[2J")
    assert b"00000000  1b 5b 32 4a" in run("queue", "show", queue.path, id).stdout
    assert run("queue", "show", queue.path, id, "--raw").stdout == b"\x1b[2J"


def test_long_text_is_cut_between_characters(run: Run, queue: DirectoryQueue) -> None:
    id = queue.enqueue("a" + "\u00fc" * 4000)
    shown = run("queue", "show", queue.path, id).stdout.decode()
    assert "a" + "\u00fc" * 2047 in shown
    assert "more; --raw prints everything" in shown


@pytest.mark.slow
def test_list_for_programs_leaves_nothing_out(run: Run, queue: DirectoryQueue) -> None:
    with queue.batch():
        for number in range(150):
            queue.enqueue(str(number))
    assert len(run("queue", "ls", queue.path, "--json").stdout.splitlines()) == 150
    assert b"... and 50 more" in run("queue", "ls", queue.path).stdout


@pytest.mark.slow
def test_arrival_in_the_far_future_is_shown(run: Run, queue: DirectoryQueue) -> None:
    id = queue.enqueue("x")
    os.utime(os.path.join(queue.path, "incoming", id), (1e12, 1e12))
    for command in (["ls", queue.path], ["show", queue.path, id], ["stats", queue.path]):
        assert run("queue", *command).returncode == 0


@pytest.mark.slow
def test_list_and_statistics_go_on_while_messages_move(run: Run, queue: DirectoryQueue) -> None:
    with queue.batch():
        for number in range(300):
            queue.enqueue(str(number))
    stop = threading.Event()

    def move() -> None:
        while not stop.is_set():
            for claim in queue.claim(100):
                queue.requeue(claim.id)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        for command in (["ls", "--json"], ["ls"], ["stats"]) * 2:
            done = run("queue", command[0], queue.path, *command[1:])
            assert (done.returncode, done.stderr) == (0, b"")
    finally:
        stop.set()
        mover.join()


@pytest.mark.parametrize("command", ["--version", "queue stats {queue}", "queue show {queue} message", "queue ls -h"])
@pytest.mark.slow
def test_reader_that_is_gone_causes_no_complaint(queue: DirectoryQueue, command: str) -> None:
    queue.enqueue("x", "message")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        f"{PIPERCTL} {command.format(queue=quote(queue.path))}",
        shell=True,
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.slow
def test_output_that_cannot_be_written_is_told_in_one_line(queue: DirectoryQueue) -> None:
    for command in ("stats", "ls --json"):
        queue.enqueue("x")
        line = f"{PIPERCTL} queue {command} {quote(queue.path)} > /dev/full"
        done = subprocess.run(line, shell=True, capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (1, b"piperctl: No space left on device\n")


def test_what_a_queue_lacks_is_named(run: Run, tmp_path: Path) -> None:
    for part in ("tmp", "incoming", "errors"):
        (tmp_path / "half" / part).mkdir(parents=True)
    assert run("queue", "ls", "half").stderr == b"piperctl: half is not a queue: it has no directory pending\n"
    assert run("queue", "ls", "./gone").stderr == b"piperctl: ./gone is not a queue: there is no such directory\n"


@pytest.mark.parametrize(
    "command",
    [["frob"], ["queue", "put"], ["queue", "ls", ".", "nopart"], ["queue", "show", ".", "x", "--raw", "--json"]],
)
@pytest.mark.slow
def test_wrong_command_lines_end_with_the_usage_status(run: Run, command: list[str]) -> None:
    assert run(*command).returncode == 64
