"""The source that follows files, as a daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from needs import need
from piperkit import Contents, PiperDaemon, crashwalk
from piperkit.sources import FileSource
from piperkit.testing import Piper


class Picky(FileSource):
    def message(self, line: bytes) -> Contents | None:
        return None if line.startswith(b"#") else {"line": line.decode()}


def build(argv: list[str], source: type[FileSource] = FileSource, **defaults: object) -> PiperDaemon:
    return PiperDaemon(
        name="it", argv=argv, components=[source()], default_message_format="bytes",
        **{"default_follow": "app.log", "default_position": "position", **defaults},
    )  # fmt: skip


def build_with_a_file(argv: list[str]) -> PiperDaemon:
    """For a crash walk; two looks, with a rotation between them."""
    if not Path("app.log").exists():
        # app.log last: whatever is killed before it is there is done again.
        Path("app.log.1").write_text("one\ntwo\n")
        Path("written").write_text(f"{Path('app.log.1').stat().st_ino} 4\n")
        Path("written").rename("position")
        Path("written").write_text("three\n")
        Path("written").rename("app.log")
    return build(argv)


def add(piper: Piper, text: str) -> None:
    with open(piper.directory / "app.log", "a", encoding="utf-8") as file:
        file.write(text)


def test_lines_become_messages_and_each_comes_once(piper: Piper) -> None:
    add(piper, "one\ntwo\nthr")
    assert piper.run(build) == 0
    add(piper, "ee\n")
    assert piper.run(build) == 0
    assert piper.out == [b"one", b"two", b"three"]


def test_subclass_says_what_a_line_is_and_leaves_lines_out(piper: Piper) -> None:
    add(piper, "# one\n" * 2000 + "two\n" + "# three\n" * 2000)
    for _ in range(2):
        assert piper.run(lambda argv: build(argv, Picky)) == 0
    assert piper.out == [b'{"line":"two"}']
    add(piper, "four\n")
    assert piper.run(lambda argv: build(argv, Picky)) == 0
    assert piper.out == [b'{"line":"two"}', b'{"line":"four"}']


@pytest.mark.slow
def test_many_lines_are_all_passed_on(piper: Piper) -> None:
    add(piper, "".join(f"line {number}\n" for number in range(3000)))
    assert piper.run(build, "--queue-sync=off", "--queue-out-limit=0") == 0
    assert piper.out == [f"line {number}".encode() for number in range(3000)]


def test_encoding_that_nobody_knows_is_an_error_at_the_start(piper: Piper, capfd: pytest.CaptureFixture[str]) -> None:
    assert piper.run(build, "--follow-encoding=klingon") == 78
    assert "follow_encoding: there is no encoding 'klingon'" in capfd.readouterr().err


def test_position_that_is_broken_is_said_and_all_is_read(piper: Piper) -> None:
    (piper.directory / "position").write_text("{")
    add(piper, "one\n")
    assert piper.run(build) == 0
    assert piper.out == [b"one"]
    assert "does not say how far files were read" in piper.log


@pytest.mark.slow
def test_of_two_instances_one_follows_and_the_other_takes_over_when_that_has_ended(
    piper: Piper, until: Callable[..., None]
) -> None:
    code = "import sys, test_files; test_files.build(sys.argv[1:]).run()"
    options = piper.options("--paralel", "--source-wait=0.05")
    command = [sys.executable, "-c", code, *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    add(piper, "one\n")
    both = [
        subprocess.Popen(command, cwd=piper.directory, env=environment, stderr=subprocess.DEVNULL) for _ in range(2)
    ]
    try:
        until(lambda: piper.out == [b"one"], "the first line")
        until(lambda: "another instance follows" in piper.log, "the one that waits")
        for number, instance in enumerate(both):
            add(piper, f"line {number}\n")
            until(lambda: len(piper.out) == number + 2, "the next line")  # noqa: B023  used at once
            instance.terminate()
            assert instance.wait(60) == 0
        assert piper.out == [b"one", b"line 0", b"line 1"]
    finally:
        for instance in both:
            instance.kill()
            instance.wait()


@pytest.mark.slow
def test_no_kill_loses_a_line_and_none_is_doubled_but_what_was_not_remembered_yet(piper: Piper) -> None:
    need("strace", crashwalk.available(), "strace(1), with the right to trace")
    assert piper.crash_walk(build_with_a_file, places=["position"]) > 20
