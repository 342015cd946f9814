"""`piperctl queue put` where it is interrupted, fails, or is given something unusual."""

from __future__ import annotations

import json
import os
import pty
import pwd
import resource
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from needs import need
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.view import QueueView

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]

PUT = [sys.executable, "-m", "piperkit.cli", "queue", "put"]


def contents(queue: str | Path) -> list[bytes]:
    view = QueueView(queue)
    return [view.read(entry) for entry in view.entries("incoming")]


@pytest.fixture
def open_put(queue: DirectoryQueue) -> Iterator[subprocess.Popen[bytes]]:
    """A `put --lines --ids` whose standard input is a pipe that stays open."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*PUT, queue.path, "--lines", "--ids"], stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0
    ) as process:
        yield process
        process.kill()


def test_lines_of_a_stream_that_stays_open_are_told_as_they_come(
    queue: DirectoryQueue, open_put: subprocess.Popen[bytes]
) -> None:
    assert open_put.stdin is not None
    assert open_put.stdout is not None
    for line in (b"one", b"two"):
        open_put.stdin.write(line + b"\n")
        id = open_put.stdout.readline().decode().strip()
        assert QueueView(queue.path).find(id).size == 3
    assert contents(queue.path) == [b"one", b"two"]
    open_put.stdin.close()
    assert open_put.wait(60) == 0


def test_interrupt_while_it_waits_says_how_many_were_put(
    queue: DirectoryQueue, open_put: subprocess.Popen[bytes]
) -> None:
    assert open_put.stdin is not None
    assert open_put.stdout is not None
    assert open_put.stderr is not None
    open_put.stdin.write(b"one\ntwo\nthr")
    assert open_put.stdout.readline()
    assert open_put.stdout.readline()
    open_put.send_signal(signal.SIGINT)
    assert open_put.wait(60) == 130
    assert open_put.stderr.read() == f"piperctl: interrupted; 2 messages were put into {queue.path}\n".encode()
    assert contents(queue.path) == [b"one", b"two"]


def test_interrupt_while_it_works_counts_every_message_that_is_there(queue: DirectoryQueue, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("line\n" * 200_000)
    incoming = os.path.join(queue.path, "incoming")
    with subprocess.Popen([*PUT, queue.path, "--lines", tmp_path / "log"], stderr=subprocess.PIPE) as process:
        while len(os.listdir(incoming)) < 100:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr is not None
        said = process.stderr.read().decode()
    there = len(os.listdir(incoming))
    assert there < 200_000
    assert said == f"piperctl: interrupted; {there} messages were put into {queue.path}\n"
    assert os.listdir(os.path.join(queue.path, "tmp")) == []


def test_ids_go_to_standard_output_while_the_progress_is_on_a_terminal(queue: DirectoryQueue) -> None:
    terminal, end = pty.openpty()
    done = subprocess.run(
        [*PUT, queue.path, "--lines", "--ids"],
        input=b"a\nb\n",
        stdout=subprocess.PIPE,
        stderr=end,
        env={**os.environ, "TERM": "xterm"},
        timeout=60,
        check=True,
    )
    os.close(end)
    os.close(terminal)
    assert done.stdout.decode().split() == [entry.id for entry in QueueView(queue.path).entries("incoming")]


def test_failure_is_told_on_a_terminal_too(queue: DirectoryQueue) -> None:
    terminal, end = pty.openpty()
    subprocess.run([*PUT, queue.path, "missing"], stdout=subprocess.DEVNULL, stderr=end, timeout=60, check=False)
    os.close(end)
    shown = os.read(terminal, 65536)
    os.close(terminal)
    assert b"piperctl: missing: No such file or directory; before it 0 messages were put" in shown


def test_colours_that_are_forced_make_no_progress_bar(run: Run, queue: DirectoryQueue) -> None:
    done = run("queue", "put", queue.path, "--lines", input=b"a\n", env={**os.environ, "FORCE_COLOR": "1"})
    assert done.stderr == b""


@pytest.mark.slow
def test_all_messages_are_put_although_the_reader_of_the_ids_goes_away(queue: DirectoryQueue, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("line\n" * 3000)
    put = shlex.join([*PUT, queue.path, "--lines", "--ids", f"{tmp_path}/log"])
    command = f"{put} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(contents(queue.path)) == 3000


def test_ids_as_json_are_one_object_a_line(run: Run, queue: DirectoryQueue) -> None:
    done = run("queue", "put", queue.path, "--lines", "--ids", "--json", input=b"a\nbc\n")
    *ids, summary = [json.loads(line) for line in done.stdout.splitlines()]
    assert ids == [{"id": entry.id} for entry in QueueView(queue.path).entries("incoming")]
    assert summary == {"queue": queue.path, "messages": 2, "bytes": 3}


def test_blank_lines_are_skipped_and_counted(run: Run, queue: DirectoryQueue) -> None:
    done = run("queue", "put", queue.path, "--lines", input=b"a\n\n \t\n\r\n\r\nb\x0cc\rd\n  e")
    assert contents(queue.path) == [b"a", b"b\x0cc\rd", b"  e"]
    assert done.stdout == f"3 messages put into {queue.path} (4 blank lines skipped)\n".encode()


@pytest.mark.parametrize("lines", [b"", b"\n\n"])
@pytest.mark.slow
def test_no_line_is_no_message(run: Run, queue: DirectoryQueue, lines: bytes) -> None:
    assert run("queue", "put", queue.path, "--lines", input=lines).returncode == 0
    assert contents(queue.path) == []


@pytest.mark.slow
def test_linked_files_and_pipes_can_be_put(run: Run, queue: DirectoryQueue, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("linked")
    (tmp_path / "link").symlink_to("file")
    assert run("queue", "put", queue.path, "link").returncode == 0
    read, write = os.pipe()
    os.write(write, b"piped")
    os.close(write)
    assert run("queue", "put", queue.path, f"/dev/fd/{read}", pass_fds=(read,)).returncode == 0
    os.close(read)
    assert contents(queue.path) == [b"linked", b"piped"]


@pytest.mark.parametrize("arguments", [["--lines"], []])
@pytest.mark.slow
def test_endless_message_is_not_read_into_memory(run: Run, queue: DirectoryQueue, arguments: list[str]) -> None:
    done = run("queue", "put", queue.path, "/dev/zero", "--message-max", "100000", *arguments)
    assert done.returncode == 1
    assert b"/dev/zero" in done.stderr
    assert b"larger than --message-max, 100000 bytes; before it 0 messages were put" in done.stderr
    assert contents(queue.path) == []


def test_line_that_cannot_be_put_is_named(run: Run, queue: DirectoryQueue) -> None:
    done = run("queue", "put", queue.path, "--lines", "--message-max", "5", input=b"first\n\nsecond\nthird\n")
    assert done.returncode == 1
    assert done.stderr == (
        b"piperctl: standard input, line 3: it is larger than --message-max, 5 bytes;"
        + f" before it 1 message was put into {queue.path}\n".encode()
    )
    assert contents(queue.path) == [b"first"]


def test_write_that_fails_leaves_nothing_half_written(run: Run, queue: DirectoryQueue) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    done = run("queue", "put", queue.path, "--lines", input=b"first\n" + b"x" * 10_000 + b"\n", preexec_fn=small_files)
    assert done.returncode == 1
    assert b"line 2: File too large; before it 1 message was put" in done.stderr
    assert contents(queue.path) == [b"first"]
    assert os.listdir(os.path.join(queue.path, "tmp")) == []


def test_full_file_system_is_told_with_the_first_line_that_was_not_put(run: Run, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small]
    need("mount", subprocess.run(mount, capture_output=True, check=False).returncode == 0, "the right to mount")
    try:
        done = run("queue", "put", small / "queue", "--create", "--lines", input=(b"x" * 50_000 + b"\n") * 40)
        put = contents(small / "queue")
        assert 0 < len(put) < 40
        assert set(put) == {b"x" * 50_000}
        assert done.returncode == 1
        assert f"standard input, line {len(put) + 1}: no room in the queue".encode() in done.stderr
        assert f"before it {len(put)} messages were put".encode() in done.stderr
        assert os.listdir(small / "queue/tmp") == []
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.slow
def test_messages_have_the_mode_of_the_queue_without_execution(run: Run, tmp_path: Path) -> None:
    run("queue", "create", "private", "--perms", "0o750")
    run("queue", "put", "private", input=b"x")
    (message,) = (tmp_path / "private/incoming").iterdir()
    assert stat.S_IMODE(message.stat().st_mode) == 0o640


@pytest.mark.slow
def test_messages_that_root_puts_belong_to_the_owner_of_the_queue(run: Run, tmp_path: Path) -> None:
    need("root", os.geteuid() == 0, "root")
    account = pwd.getpwnam("nobody")
    assert run("queue", "create", "theirs", "--perms", "0o770", "--user", "nobody").returncode == 0
    run("queue", "put", "theirs", input=b"x")
    (message,) = (tmp_path / "theirs/incoming").iterdir()
    assert (message.stat().st_uid, message.stat().st_gid) == (account.pw_uid, account.pw_gid)


def test_closed_standard_input_is_told(queue: DirectoryQueue) -> None:
    command = ["bash", "-c", f"{shlex.join(map(str, [*PUT, queue.path]))} <&-"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 66
    assert b"piperctl: standard input: standard input is closed" in done.stderr


def test_standard_input_is_read_once(run: Run, queue: DirectoryQueue) -> None:
    assert run("queue", "put", queue.path, "-", "-", input=b"x").returncode == 64
    assert contents(queue.path) == []


def test_queue_whose_path_is_not_utf8_is_named(run: Run, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = run("queue", "put", b"gr\xfcn", "--create", input=b"x", env=environment)
    assert done.stdout == b"1 message put into gr\\xfcn\n"
    assert contents(tmp_path / "gr\udcfcn") == [b"x"]
