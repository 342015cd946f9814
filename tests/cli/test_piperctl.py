"""`piperctl queue`, as a process, on real queues."""

from __future__ import annotations

import json
import os
import pty
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from piperkit import Failure
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.view import QueueView

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def contents(queue: DirectoryQueue) -> list[bytes]:
    view = QueueView(queue.path)
    return [view.read(entry) for entry in view.entries("incoming")]


@pytest.mark.slow
def test_created_queue_has_the_mode_that_was_asked_for(run: Run, tmp_path: Path) -> None:
    for _ in range(2):
        assert run("queue", "create", "new", "--perms", "0o750").returncode == 0
    assert run("queue", "create", "default").returncode == 0

    def modes(queue: str) -> list[int]:
        return [stat.S_IMODE((tmp_path / queue / part).stat().st_mode) for part in ("", "tmp", "incoming", "deferred")]

    assert modes("new") == [0o755, 0o750, 0o750, 0o700]
    assert modes("default") == [0o755, 0o3770, 0o3770, 0o700]
    assert b"is not an octal mode" in run("queue", "create", "other", "--perms", "rwx").stderr


def test_each_file_is_a_message(run: Run, queue: DirectoryQueue, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"\xff\x00\r\n")
    (tmp_path / "two").write_bytes(b"")
    done = run("queue", "put", queue.path, "one", "two")
    assert done.stdout == f"2 messages put into {queue.path}\n".encode()
    assert contents(queue) == [b"\xff\x00\r\n", b""]


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_standard_input_is_a_message(run: Run, queue: DirectoryQueue, arguments: tuple[str, ...]) -> None:
    assert run("queue", "put", queue.path, *arguments, input=b"a\nb\n").returncode == 0
    assert contents(queue) == [b"a\nb\n"]


def test_each_line_is_a_message_whatever_it_holds(run: Run, queue: DirectoryQueue, tmp_path: Path) -> None:
    long = b"x" * (1 << 20)
    (tmp_path / "log").write_bytes(b"a\nb\r\n\n\xff\n" + long + b"\nlast")
    done = run("queue", "put", queue.path, "--lines", "log", "--json")
    assert contents(queue) == [b"a", b"b\r", b"\xff", long, b"last"]
    assert json.loads(done.stdout) == {"queue": queue.path, "messages": 5, "bytes": 1 + 2 + 1 + len(long) + 4}


def test_ids_are_printed_when_asked_for(run: Run, queue: DirectoryQueue) -> None:
    done = run("queue", "put", queue.path, "--lines", "--ids", input=b"a\nb\n")
    assert done.stdout.decode().split() == [entry.id for entry in QueueView(queue.path).entries("incoming")]


@pytest.mark.slow
def test_missing_queue_is_named_with_the_command_that_makes_it(run: Run, tmp_path: Path) -> None:
    done = run("queue", "put", "nowhere", input=b"x")
    assert done.returncode == 73
    assert done.stderr == b"piperctl: nowhere is not a queue; make it with: piperctl queue create nowhere\n"
    assert not (tmp_path / "nowhere").exists()
    assert run("queue", "put", "nowhere", "--create", input=b"x").returncode == 0
    for command in (["ls", "gone"], ["stats", "gone"], ["show", "gone", "id"]):
        done = run("queue", *command)
        assert done.returncode == 73
        assert b"gone is not a queue" in done.stderr


def test_put_says_how_far_it_came_before_it_failed(run: Run, queue: DirectoryQueue, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("one")
    done = run("queue", "put", queue.path, "one", "missing")
    assert done.returncode == 1
    assert b"piperctl: missing: No such file or directory; before it 1 message was put" in done.stderr
    assert contents(queue) == [b"one"]


@pytest.mark.slow
def test_list_shows_every_part_in_order_and_says_what_is_left_out(run: Run, queue: DirectoryQueue) -> None:
    ids = [queue.enqueue(f"message {number}") for number in range(5)]
    queue.claim(3)
    queue.banish(ids[0], Failure("it smells"))
    queue.retry(ids[1], 1000, Failure("not yet"))
    lines = run("queue", "ls", queue.path).stdout.decode().splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["incoming", ids[3]],
        ["incoming", ids[4]],
        ["pending", ids[2]],
        ["deferred", ids[1]],
        ["errors", ids[0]],
    ]
    assert "not yet" in lines[4]
    assert "it smells" in lines[5]
    few = run("queue", "ls", queue.path, "incoming", "--limit", "1").stdout.decode()
    assert ids[3] in few
    assert ids[4] not in few
    assert "and 1 more" in few
    found = [json.loads(line) for line in run("queue", "ls", queue.path, "--json").stdout.splitlines()]
    assert [entry["id"] for entry in found] == [ids[3], ids[4], ids[2], ids[1], ids[0]]
    assert (found[3]["attempts"], found[3]["reason"]) == (1, "not yet")
    assert b"outgong is not part of a queue" in run("queue", "ls", queue.path, "outgong").stderr


@pytest.mark.slow
def test_show_tells_all_about_one_message(run: Run, queue: DirectoryQueue) -> None:
    id = queue.enqueue("hello\n")
    queue.claim()
    queue.banish(id, Failure("it broke", "RuntimeError", "Traceback: somewhere"))
    shown = run("queue", "show", queue.path, id).stdout.decode()
    for text in (id, "errors", "it broke", "Traceback: somewhere", "hello"):
        assert text in shown
    assert run("queue", "show", queue.path, id, "--raw").stdout == b"hello\n"
    found = json.loads(run("queue", "show", queue.path, id, "--json").stdout)
    assert found["report"]["exception"] == "RuntimeError"
    assert found["contents"] == "hello\n"


@pytest.mark.slow
def test_contents_that_are_no_text_are_shown_in_hexadecimal(run: Run, queue: DirectoryQueue) -> None:
    id = queue.enqueue(b"\x00\xffabc")
    assert b"00000000  00 ff 61 62 63" in run("queue", "show", queue.path, id).stdout
    assert json.loads(run("queue", "show", queue.path, id, "--json").stdout)["contents"] == {"hex": "00ff616263"}


@pytest.mark.slow
def test_wrong_ids_are_refused(run: Run, queue: DirectoryQueue) -> None:
    done = run("queue", "show", queue.path, "../../etc/passwd")
    assert done.returncode == 1
    assert b"cannot be a message's id" in done.stderr
    assert b"no message nothing" in run("queue", "show", queue.path, "nothing").stderr


@pytest.mark.slow
def test_names_that_are_not_utf8_or_end_in_meta_are_shown(run: Run, queue: DirectoryQueue) -> None:
    for name in ("gr\udcfcn", "x.meta"):
        queue.enqueue("odd", name)
        (claim,) = queue.claim()
        queue.banish(claim.id, Failure("odd name"))
    shown = run("queue", "ls", queue.path).stdout.decode()
    assert "gr\\xfcn" in shown
    assert "x.meta" in shown
    assert run("queue", "show", queue.path, os.fsencode("gr\udcfcn"), "--raw").stdout == b"odd"


@pytest.mark.slow
def test_stats_count_measure_and_date(run: Run, queue: DirectoryQueue, tmp_path: Path) -> None:
    DirectoryQueue(tmp_path / "other")
    queue.enqueue("12345")
    first, second = (
        json.loads(line) for line in run("queue", "stats", queue.path, "other", "--json").stdout.splitlines()
    )
    assert first["queue"] == queue.path
    assert first["parts"]["incoming"]["messages"] == 1
    assert first["parts"]["incoming"]["size"] == 5
    assert first["parts"]["incoming"]["oldest_age"] >= 0
    assert second["parts"]["errors"] == {"messages": 0, "size": 0, "oldest_age": None}
    assert b"incoming" in run("queue", "stats", queue.path).stdout


@pytest.mark.slow
def test_reader_that_has_seen_enough_causes_no_complaint(run: Run, queue: DirectoryQueue) -> None:
    with queue.batch():
        for number in range(2000):
            queue.enqueue(f"message {number}")
    listing = [sys.executable, "-m", "piperkit.cli", "queue", "ls", "--limit", "0", "--json", queue.path]
    command = f"{shlex.join(listing)} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, timeout=60, check=True)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == b""


@pytest.mark.slow
def test_progress_is_shown_on_a_terminal_and_only_there(run: Run, queue: DirectoryQueue, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("line\n" * 600)
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "piperkit.cli", "queue", "put", queue.path, "--lines", "log"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=end, cwd=tmp_path, env=environment) as process:
        os.close(end)
        shown = b""
        try:
            while chunk := os.read(terminal, 4096):
                shown += chunk
        except OSError:
            pass  # what a terminal says when nobody has it open any more
        assert process.stdout is not None
        assert process.stdout.read() == f"600 messages put into {queue.path}\n".encode()
    os.close(terminal)
    assert process.returncode == 0
    assert b"messages" in shown
    assert b"%" in shown
    assert run("queue", "put", queue.path, "--lines", "log").stderr == b""


def test_list_survives_messages_that_move_on_meanwhile(queue: DirectoryQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [queue.enqueue("x") for _ in range(3)]
    view = QueueView(queue.path)
    original = QueueView._entry

    def moved(self: QueueView, part: str, name: str) -> object:
        if name == ids[1]:
            os.unlink(os.path.join(self.path, part, name))
        return original(self, part, name)

    monkeypatch.setattr(QueueView, "_entry", moved)
    assert [entry.id for entry in view.entries("incoming")] == [ids[0], ids[2]]
