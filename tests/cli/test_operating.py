"""What operators are offered besides: several queues, shapes, checks, taps, archives, an editor, trials, traces."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
import os
import pty
import pwd
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from needs import need
from piperkit import Failure
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.acts import Operator
from piperkit.dirq.view import QueueView

pytestmark = pytest.mark.slow
Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
Until = Callable[..., None]
DAEMON = """
import json, sys
from piperkit import Component, PiperDaemon, Reject
class Strict(Component):
    def process(self, message):
        if message.json["n"] % 2:
            raise Reject("odd")
        return message.commit()
PiperDaemon(name="strict", argv=["--files-under={under}", *sys.argv[1:]], components=[Strict()]).run()
"""


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Two queues, the first with dead letters m0 to m3 and a waiting message, in a directory with something else."""
    spool = tmp_path / "spool"
    for name in ("a", "b"):
        with DirectoryQueue(spool / name) as queue:
            if name == "a":
                for number in range(4):
                    queue.enqueue({"n": number, "host": f"db{number % 2}"}, f"m{number}")
                for claim in queue.claim(4):
                    queue.banish(claim.id, Failure("the host is down"))
                queue.enqueue({"n": 9, "host": "web"}, "waiting")
    (spool / "no-queue").mkdir()
    return spool


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that any account can reach; what pytest makes is its own account's."""
    with tempfile.TemporaryDirectory(prefix="piper-", dir="/var/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def on_terminal(*command: str, columns: int = 80, **environment: str) -> str:
    """What a command shows on a terminal of that width."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "piperkit.cli", *command], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm", **environment},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: its end
        while data := os.read(ours, 65536):
            shown += data
    os.close(ours)
    assert process.wait() == 0, shown
    return shown.decode()


def places(queue: Path) -> dict[str, list[str]]:
    view = QueueView(queue)
    return {part: sorted(entry.id for entry in view.each(part)) for part, number in view.counts().items() if number}


# -- which queues ------------------------------------------------------------------------------------------------------


def test_bare_name_is_a_queue_of_the_spool_and_one_that_is_here_comes_first(
    run: Run, spool: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "PIPER_SPOOL": str(spool)}
    assert b"waiting" in run("queue", "ls", "a", env=environment).stdout
    DirectoryQueue(tmp_path / "a").close()
    assert b"waiting" not in run("queue", "ls", "a", env=environment).stdout
    assert run("queue", "create", "c", env=environment).returncode == 0
    assert (spool / "c" / "incoming").is_dir()
    done = run("queue", "ls", "none", env={**environment, "PIPER_SPOOL": "/nowhere"})
    assert done.stderr == (
        b"piperctl: /nowhere/none is not a queue: there is no such directory, and none is no directory here\n"
    )


def test_spool_of_the_project_that_one_stands_in_is_found(run: Run, spool: Path, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "var").mkdir()
    spool.rename(tmp_path / "var" / "spool")
    (tmp_path / "src").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "piperkit.cli", "queue", "ls", "a", "--ids"],
        cwd=tmp_path / "src", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "waiting" in done.stdout


def test_all_queues_of_a_spool_are_meant(run: Run, spool: Path) -> None:
    shown = run("queue", "ls", "--spool", "spool", "errors", "--json").stdout.splitlines()
    assert {json.loads(line)["queue"] for line in shown} == {str(spool / "a")}
    Operator(spool / "a", "jane").move(QueueView(spool / "a").entry("errors", "m1"), str(spool / "b"))
    done = run("queue", "banish", "--spool", "spool", "--all", "--json")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(Path(each["queue"]).name, each["done"]) for each in told] == [("a", 1), ("b", 1)]
    assert run("queue", "ls", "a", "--spool", "spool", "errors").returncode == 64
    assert b"has no queue in it" in run("queue", "stats", "--spool", str(spool / "no-queue")).stderr
    assert b"say which queue" in run("queue", "stats").stderr


def test_root_acts_on_each_queue_of_a_spool_as_its_owner(run: Run, public: Path) -> None:
    need("root", os.geteuid() == 0, "root, to give a queue away")
    spool = public / "spool"
    with DirectoryQueue(spool / "a") as queue:
        queue.enqueue("x", "waiting")
    DirectoryQueue(spool / "b").close()
    for path in (spool / "b", *(spool / "b").rglob("*")):
        os.chown(path, 54321, 54321)
    with DirectoryQueue(spool / "b", owner=(54321, 54321)) as queue:
        queue.enqueue("x", "theirs")
    done = run("queue", "hold", "--spool", str(spool), "--all")
    assert done.returncode == 0, done.stderr
    assert (places(spool / "a")["hold"], places(spool / "b")["hold"]) == (["waiting"], ["theirs"])
    assert {path.stat().st_uid for path in (spool / "b" / "hold").iterdir()} == {54321}
    assert {path.stat().st_uid for path in (spool / "b" / "history").iterdir()} == {54321}


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
    assert len(places(spool / "b")["incoming"]) == number


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


# -- acting ------------------------------------------------------------------------------------------------------------


def test_queue_is_paused_and_resumed(run: Run, spool: Path) -> None:
    done = run("queue", "pause", "spool/a", "--until", "2h", "--why", "moving")
    assert (done.returncode, done.stdout) == (0, f"{spool}/a: paused\n".encode())
    assert b"moving" in run("queue", "stats", "spool/a").stdout
    assert run("queue", "resume", "spool/a").stdout == f"{spool}/a: resumed\n".encode()
    assert run("queue", "resume", "spool/a").stdout == f"{spool}/a: was not paused\n".encode()
    assert run("queue", "pause", "spool/a", "--until", "soon").returncode == 64


def test_acts_keep_to_a_rate(run: Run, spool: Path) -> None:
    began = time.monotonic()
    assert run("queue", "requeue", "spool/a", "--all", "--rate", "4/s").returncode == 0
    assert time.monotonic() - began >= 0.75  # three waits; how long it takes at most says nothing
    assert run("queue", "requeue", "spool/a", "--all", "--rate", "fast").returncode == 64


def test_only_those_that_would_pass_now_are_requeued(run: Run, spool: Path, tmp_path: Path) -> None:
    program = tmp_path / "strict"
    program.write_text(f"#!{sys.executable}\n{DAEMON.replace('{under}', str(tmp_path))}")
    program.chmod(0o755)
    done = run("queue", "requeue", "spool/a", "--part", "errors", "--all", "--if-passes", str(program), "--dry-run")
    assert b"2 messages would be requeued" in done.stdout, done.stderr
    done = run("queue", "requeue", "spool/a", "--part", "errors", "--all", "--if-passes", str(program))
    assert (done.returncode, done.stdout) == (0, b"2 messages requeued\n"), done.stderr
    assert places(spool / "a") == {"incoming": ["m0", "m2", "waiting"], "errors": ["m1", "m3"]}
    assert run("queue", "requeue", "spool/a", "--all", "--if-passes", "none").returncode == 64
    program.write_text(f"#!{sys.executable}\nraise SystemExit('broken')\n")
    done = run("queue", "requeue", "spool/a", "--all", "--if-passes", str(program))
    assert (done.returncode, b"ended after 0 of 2 messages: broken" in done.stderr) == (1, True)


def test_message_that_would_fail_still_is_not_changed_by_an_edit(run: Run, spool: Path, tmp_path: Path) -> None:
    program = tmp_path / "strict"
    program.write_text(f"#!{sys.executable}\n{DAEMON.replace('{under}', str(tmp_path))}")
    program.chmod(0o755)
    before = QueueView(spool / "a").entry("errors", "m1")
    edit = ["queue", "edit", "spool/a", "m1", "--if-passes", str(program), "--with", "-"]
    done = run(*edit, input=b'{"n": 11}')
    assert (done.returncode, b"would fail still; nothing was changed" in done.stderr) == (1, True)
    assert QueueView(spool / "a").entry("errors", "m1") == before
    assert run(*edit, input=b'{"n": 12}').returncode == 0
    assert "m1" in places(spool / "a")["incoming"]


def test_exported_messages_are_a_plain_archive_and_come_back_as_they_were(
    run: Run, spool: Path, tmp_path: Path
) -> None:
    before = {entry.id: entry for entry in QueueView(spool / "a").each("errors")}
    assert run("queue", "export", "spool/a", "-o", "x.tar").stderr == b"5 messages exported\n"
    with tarfile.open(tmp_path / "x.tar") as archive:
        names = archive.getnames()
    assert sorted(name for name in names if not name.startswith("report/")) == [
        "errors/m0", "errors/m1", "errors/m2", "errors/m3", "incoming/waiting",
    ]  # fmt: skip
    assert run("queue", "import", "spool/a", "x.tar").stdout == b"0 messages imported; 5 there already\n"
    assert run("queue", "import", "spool/b", "x.tar").stdout == b"5 messages imported\n"
    assert places(spool / "b") == places(spool / "a")
    for entry in QueueView(spool / "b").each("errors"):
        old = before[entry.id]
        assert (entry.reason, entry.attempts, entry.size) == (old.reason, old.attempts, old.size)
        assert entry.arrived == pytest.approx(old.arrived, abs=1e-6)
    assert (tmp_path / "x.tar").stat().st_mode & 0o777 == 0o600


def test_archive_that_is_none_or_holds_something_else_does_no_harm(run: Run, spool: Path, tmp_path: Path) -> None:
    done = run("queue", "import", "spool/b", "-", input=b"no archive" * 100)
    assert (done.returncode, b"is no tar archive, or cut off" in done.stderr) == (1, True)
    with tarfile.open(tmp_path / "odd.tar", "w") as archive:
        for name, kind in (
            ("../x", tarfile.REGTYPE),
            ("incoming/../../y", tarfile.REGTYPE),
            ("incoming/z", tarfile.SYMTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    done = run("queue", "import", "spool/b", "odd.tar")
    assert done.returncode == 1
    assert places(spool / "b") == {}
    assert done.stderr.count(b"left out") == 2


@pytest.mark.parametrize("moment", [float("nan"), float("inf"), -1.0, 1e20])
def test_message_of_an_archive_that_arrived_at_no_time_is_left_out(
    run: Run, spool: Path, tmp_path: Path, moment: float
) -> None:
    with tarfile.open(tmp_path / "odd.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name, mtime in (("odd", moment), ("even", 1790000000.25)):
            member = tarfile.TarInfo(f"incoming/{name}")
            member.pax_headers = {"mtime": str(mtime)}
            archive.addfile(member)
    done = run("queue", "import", "spool/b", "odd.tar")
    assert (done.returncode, done.stdout) == (0, b"1 message imported\n"), done.stderr
    assert b"incoming/odd is left out" in done.stderr
    assert places(spool / "b") == {"incoming": ["even"]}


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_compressed_archive_will_do_and_a_damaged_one_is_told_as_that(
    run: Run, spool: Path, tmp_path: Path, kind: str
) -> None:
    assert run("queue", "export", "spool/a", "-o", "x.tar").returncode == 0
    compress = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[kind]
    whole = compress((tmp_path / "x.tar").read_bytes())
    done = run("queue", "import", "spool/b", "-", input=whole[: len(whole) // 2])
    assert (done.returncode, b"Traceback" in done.stderr, done.stderr[:9]) == (1, False, b"piperctl:")
    assert run("queue", "import", "spool/b", "-", input=whole).returncode == 0
    assert places(spool / "b") == places(spool / "a")


def test_edited_message_is_checked_and_tried_again(run: Run, spool: Path, tmp_path: Path) -> None:
    done = run("queue", "edit", "spool/a", "m1", "--with", "-", input=b'{"n": ')
    assert (done.returncode, b"it was JSON and is none any more" in done.stderr) == (1, True)
    assert run("queue", "edit", "spool/a", "waiting", "--with", "-", input=b"{}").returncode == 1
    done = run("queue", "edit", "spool/a", "m1", "--with", "-", input=b'{"n": 8}')
    assert (done.returncode, done.stdout) == (0, b"1 message changed and requeued\n"), done.stderr
    view = QueueView(spool / "a")
    assert view.read(view.entry("incoming", "m1")) == b'{"n": 8}'
    shown = on_terminal("queue", "edit", f"{spool}/a", "m3", "--keep", EDITOR="sed -i s/3/4/")
    assert "1 message changed" in shown
    assert b'"n":4' in view.read(view.entry("errors", "m3")).replace(b" ", b"")
    assert "nothing was changed" in on_terminal("queue", "edit", f"{spool}/a", "m0", EDITOR="true")
    assert run("queue", "edit", "spool/a", "m0").returncode == 64  # no terminal


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
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "piperkit.cli", "queue", "shape", queue.path, "--by", "host"],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    told = False
    with contextlib.suppress(OSError):  # EIO: its end
        while data := os.read(ours, 65536):
            shown += data
            if not told and b"looked at" in shown:
                process.send_signal(signal.SIGINT)
                told = True
    os.close(ours)
    assert process.wait() == 130, shown
    end = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).splitlines()
    number = re.fullmatch(r"piperctl: interrupted; (\d+) were looked at", end[-1])
    assert number is not None, end
    assert int(number[1]) <= 60_000
    assert any(line.startswith("(no JSON)") for line in end)
