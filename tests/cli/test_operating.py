"""Acting on messages: in several queues, at a rate, if they would pass, with an editor, by archives."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from needs import need
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.acts import Operator
from piperkit.dirq.view import QueueView
from terminal import on_terminal

pytestmark = pytest.mark.slow
Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


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
        b"piperctl: /nowhere/none is not a queue: there is no such directory, and none is not a directory here\n"
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


def test_only_those_that_would_pass_now_are_requeued(run: Run, spool: Path, strict: Callable[[str], Path]) -> None:
    program = strict("lambda facts: facts['n'] % 2 == 0")
    done = run("queue", "requeue", "spool/a", "--part", "errors", "--all", "--if-passes", str(program), "--dry-run")
    assert b"2 messages would be requeued" in done.stdout, done.stderr
    done = run("queue", "requeue", "spool/a", "--part", "errors", "--all", "--if-passes", str(program))
    assert (done.returncode, done.stdout) == (0, b"2 messages requeued\n"), done.stderr
    assert places(spool / "a") == {"incoming": ["m0", "m2", "waiting"], "errors": ["m1", "m3"]}
    assert run("queue", "requeue", "spool/a", "--all", "--if-passes", "none").returncode == 64
    program.write_text(f"#!{sys.executable}\nraise SystemExit('broken')\n")
    done = run("queue", "requeue", "spool/a", "--all", "--if-passes", str(program))
    assert (done.returncode, b"ended after 0 of 2 messages: broken" in done.stderr) == (1, True)


def test_message_that_would_fail_still_is_not_changed_by_an_edit(
    run: Run, spool: Path, strict: Callable[[str], Path]
) -> None:
    program = strict("lambda facts: facts['n'] % 2 == 0")
    before = QueueView(spool / "a").entry("errors", "m1")
    edit = ["queue", "edit", "spool/a", "m1", "--if-passes", str(program), "--with", "-"]
    done = run(*edit, input=b'{"n": 11}')
    assert (done.returncode, b"would still fail; nothing was changed" in done.stderr) == (1, True)
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
    assert (done.returncode, b"is not a tar archive, or is cut off" in done.stderr) == (1, True)
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
    assert (done.returncode, b"it was JSON and no longer is" in done.stderr) == (1, True)
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
