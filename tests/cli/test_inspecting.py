"""Looking at queues: tables, shapes, taps, checks, traces, and what a shell completes."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from piperkit.dirq import DirectoryQueue
from piperkit.dirq.acts import Operator
from piperkit.dirq.view import QueueView
from terminal import on_terminal, read, start

pytestmark = pytest.mark.slow
Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


# -- looking -----------------------------------------------------------------------------------------------------------


def test_columns_and_order_are_as_asked_for(run: Run, spool: Path) -> None:
    (spool / "a" / "errors" / "m2").write_text("x" * 5000)
    done = run("queue", "ls", "spool/a", "errors", "--columns", "id,size", "--sort", "-size", "--limit", "2")
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    assert lines[0] == ["ID", "SIZE"]
    assert lines[1] == ["m2", "4.9", "KiB"]
    assert lines[3] == ["...", "and", "2", "more;", "--limit", "shows", "more", "of", "them"]
    assert b"--columns x: x is none of queue" in run("queue", "ls", "spool/a", "--columns", "x").stderr
    assert b"--sort x: must be one of part" in run("queue", "ls", "spool/a", "--sort", "x").stderr


def test_tables_fit_the_terminal_and_are_without_colour_where_that_is_asked_for(spool: Path) -> None:
    for columns in (60, 100):
        for command in (
            ["queue", "ls", "--spool", f"{spool}"],
            ["queue", "errors", f"{spool}/a"],
            ["queue", "shape", f"{spool}/a"],
            ["queue", "stats", f"{spool}/a"],
            ["find", "--spool", f"{spool}", "--for", "0"],
        ):
            shown = on_terminal(*command, columns=columns)
            plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
            assert max(map(len, plain.splitlines())) <= columns, shown
    coloured = on_terminal("queue", "show", f"{spool}/a", "m0")
    assert "\x1b[" in coloured
    plain = on_terminal("queue", "show", f"{spool}/a", "m0", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", plain)
    assert '"host": "db0"' in re.sub(r"\x1b\[[0-9;]*m", "", plain)


def test_message_that_is_no_text_is_shown_as_bytes(run: Run, spool: Path) -> None:
    (spool / "b" / "incoming" / "x").write_bytes(b"\x00\x01ab\xff")
    assert b"00000000  00 01 61 62 ff" in run("queue", "show", "spool/b", "x").stdout
    assert b"..ab." in run("queue", "show", "spool/b", "x").stdout


def test_shape_counts_messages_by_age_and_by_what_is_asked_for(run: Run, spool: Path) -> None:
    old = time.time() - 1000
    os.utime(spool / "a" / "errors" / "m0", (old, old))
    rows = [json.loads(line) for line in run("queue", "shape", "spool/a", "--by", "host", "--json").stdout.splitlines()]
    assert {row["host"]: row["messages"] for row in rows} == {"db0": 2, "db1": 2, "web": 1}
    assert next(row for row in rows if row["host"] == "db0")["up_to"]["1200s"] == 1
    text = run("queue", "shape", "spool/a").stdout.decode()
    assert [line.split()[:2] for line in text.splitlines()[:3]] == [["PART", "TOTAL"], ["all", "5"], ["errors", "4"]]
    assert "█" in text
    for by in ("size", "reason", "queue"):
        assert run("queue", "shape", "--spool", "spool", "--by", by).returncode == 0


def test_tap_shows_what_arrives_and_leaves_it_there(spool: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "piperkit.cli", "queue", "tap", f"{spool}/b", "--limit", "2", "--where", "n=~[12]"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with DirectoryQueue(spool / "b") as queue:
        number = 0
        while process.poll() is None:  # it may not listen yet
            queue.enqueue({"n": number % 4}, f"t{number:03}")
            number += 1
            time.sleep(0.02)
    assert process.stdout is not None
    shown = process.stdout.read().splitlines()
    assert [re.findall(r'"n":(\d)', line)[0] in "12" for line in shown] == [True, True]
    assert QueueView(spool / "b").counts()["incoming"] == number


def test_find_shows_each_queue_with_who_works_on_it(run: Run, spool: Path) -> None:
    Operator(spool / "b", "jane").pause(None, "a test")
    with DirectoryQueue(spool / "a") as queue:
        queue.claim()
        rows = [
            json.loads(line) for line in run("find", "--spool", "spool", "--for", "0", "--json").stdout.splitlines()
        ]
    assert [(Path(row["queue"]).name, [each["pid"] for each in row["instances"]]) for row in rows] == [
        ("a", [os.getpid()]), ("b", []),
    ]  # fmt: skip
    assert rows[0]["parts"]["pending"] == 1
    assert rows[1]["paused"] == "jane has paused the queue: a test"
    text = (
        run("find", "--spool", "spool", "--for", "100s").stdout
        if False
        else run("find", "spool/b", "--for", "1s").stdout
    )
    assert b"none PAUSED" in text


# -- checking ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["--instances", "0", "--errors", ","], 0),
        (["--instances", "0"], 1),
        (["--instances", "0", "--errors", "1,4"], 2),
        (["--errors", ","], 2),
        (["--instances", "0", "--errors", ",", "--messages", "1,5"], 1),
        (["--instances", "0", "--errors", ",", "--age", "0s,1h"], 1),
        (["--instances", "0", "--errors", "many"], 64),
        (["--instances", "0", "--errors", "x,y"], 64),
    ],
)
def test_check_ends_as_monitoring_expects(run: Run, spool: Path, options: list[str], status: int) -> None:
    for form in ("text", "nagios", "json"):
        done = run("check", "spool/a", "--format", form, *options)
        assert done.returncode == status, done.stdout
    if status < 64:
        line = run("check", "spool/a", "--format", "nagios", *options).stdout.decode()
        assert line.startswith(f"PIPER {('OK', 'WARNING', 'CRITICAL')[status]} - ")
        assert re.search(r" \| '.*/a age'=[\d.]+s;", line)


def test_check_tells_of_a_pause_and_of_a_queue_that_is_gone(run: Run, spool: Path) -> None:
    quiet = ["--instances", "0", "--errors", ","]
    Operator(spool / "a", "jane").pause(None, "moving")
    done = run("check", "spool/a", *quiet)
    assert (done.returncode, b"jane has paused the queue: moving" in done.stdout) == (1, True)
    assert run("check", "spool/a", *quiet, "--paused", "ok").returncode == 0
    assert run("check", "spool/gone", *quiet).returncode == 2


# -- tracing -----------------------------------------------------------------------------------------------------------


def test_trace_tells_a_messages_way_and_where_it_is(run: Run, spool: Path) -> None:
    note = {"t": time.time(), "id": "m1", "queue": str(spool / "a"), "what": "put off", "took": 2.5, "reason": "busy"}
    with DirectoryQueue(spool / "a") as queue:
        queue.note([json.dumps(note).encode() + b"\n", b'{"id": "m1"}\n', b"broken\n"])
    assert run("queue", "requeue", "spool/a", "m1").returncode == 0
    lines = [json.loads(line) for line in run("trace", "m1", "--spool", "spool", "--json").stdout.splitlines()]
    assert [line["what"] for line in lines] == ["put off", "requeued", "is in incoming"]
    assert lines[1]["by"].split()[0] == pwd.getpwuid(os.getuid()).pw_name
    text = run("trace", "m1", "--spool", "spool").stdout.decode()
    assert "put off  took 2.500 s, reason busy" in text
    assert b"2.500 s" in run("trace", "--slowest", "3", "--newer", "1h", "--spool", "spool").stdout
    assert b"nothing is known of none in 2 queues" in run("trace", "none", "--spool", "spool").stderr
    assert run("trace").returncode == 64
    assert run("queue", "rm", "spool/a", "m1", "--part", "incoming").returncode == 0
    gone = run("queue", "show", "spool/a", "m1")
    assert (gone.returncode, b"any more; what is known of it" in gone.stderr) == (1, True)
    assert b"deleted" in gone.stdout


def test_shell_is_offered_queues_parts_and_ids(spool: Path) -> None:
    def offered(words: str) -> set[str]:
        environment = {
            **os.environ, "_PIPERCTL_COMPLETE": "complete_bash", "PIPER_SPOOL": str(spool),
            "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1),
        }  # fmt: skip
        command = [str(Path(sys.executable).with_name("piperctl"))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=spool)
        return set(done.stdout.split())

    assert {"a", "b"} <= offered("piperctl queue ls ")
    assert offered("piperctl queue ls a in") == {"incoming"}
    assert offered("piperctl queue show a m") == {"m0", "m1", "m2", "m3"}
    assert "requeue" in offered("piperctl queue req")


@pytest.mark.slow
def test_look_that_is_interrupted_shows_what_it_has_found_and_how_far_it_came(tmp_path: Path) -> None:
    queue = DirectoryQueue(tmp_path / "queue")
    for number in range(60_000):
        os.close(os.open(f"{queue.path}/incoming/m{number}", os.O_WRONLY | os.O_CREAT))
    process, terminal = start("queue", "shape", queue.path, "--by", "host")
    told = False

    def interrupt(shown: bytes) -> None:
        nonlocal told
        if not told and b"looked at" in shown:
            process.send_signal(signal.SIGINT)
            told = True

    shown = read(terminal, interrupt)
    assert process.wait() == 130, shown
    end = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).splitlines()
    number = re.fullmatch(r"piperctl: interrupted; (\d+) were looked at", end[-1])
    assert number is not None, end
    assert int(number[1]) <= 60_000
    assert any(line.startswith("(no JSON)") for line in end)
