"""`make demo`, and the other targets as the first command in a fresh clone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from checkout import ROOT
from installing import with_uv
from repository import commit_all, git

PARTS = ["LICENSE", "Makefile", "README.md", "copier.yml", "pyproject.toml", "runtime", "template", "tests"]
PARTS += ["tools"]


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """An environment whose temporary directory shows what is left behind."""
    (tmp_path / "tmp").mkdir()
    return {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "COLUMNS": "200"}


def demo(source: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "demo.py"), str(source)]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)


def left(environment: dict[str, str]) -> list[str]:
    """What is left in the temporary directory, and which processes still work there."""
    directory = environment["TMPDIR"]
    found = os.listdir(directory)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if directory in (process / "environ").read_bytes().decode(errors="replace"):
                found.append((process / "cmdline").read_text())
        except OSError:
            continue  # it has ended, or is another user's
    return found


@pytest.mark.slow
def test_every_line_comes_out_once_whatever_is_in_it(tmp_path: Path, places: dict[str, str]) -> None:
    source = tmp_path / "it.log"
    lines = [b"2025-01-02 03:04:05 install it:amd64 1.0", b"x", b"  ", b"\xff\xfe\x00\x1b[2J", b"no newline at the end"]
    source.write_bytes(b"\n".join([*lines * 60, lines[-1]]))
    done = demo(source, places)
    assert done.returncode == 0, done.stdout
    assert f"Five daemons from the template, and the 241 lines of {source}:" in done.stdout
    assert "demo-reader → demo-parser → demo-router ┬→ demo-rest" in done.stdout
    assert '{"time": "2025-01-02 03:04:05", "type": "install", "text": "it:amd64 1.0"}' in done.stdout
    assert "60 are dead letters: not valid UTF-8" in done.stdout
    assert "241 of 241 lines have arrived" in done.stdout
    assert "241 lines in, 241 messages out, none left anywhere" in done.stdout
    assert "\x1b" not in done.stdout
    assert left(places) == []


@pytest.mark.slow
def test_a_file_that_is_not_there_or_empty_is_named(tmp_path: Path, places: dict[str, str]) -> None:
    done = demo(tmp_path / "none", places)
    assert done.returncode == 1
    assert f"No such file or directory: '{tmp_path}/none'" in done.stdout
    done = demo(Path("/dev/null"), places)
    assert done.returncode == 1
    assert "it is empty; name another file: make demo INPUT=FILE" in done.stdout


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, places: dict[str, str]) -> None:
    source = tmp_path / "it.log"
    source.write_text("hello\n" * 20_000)
    command = [sys.executable, str(ROOT / "tools" / "demo.py"), str(source)]
    with subprocess.Popen(command, env=places, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "lines have arrived" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stdout.read()
    assert process.returncode == 128 + signal.SIGINT
    assert "Interrupted; all daemons are stopped." in rest
    assert left(places) == []


@pytest.mark.slow
def test_a_daemon_that_fails_makes_the_demonstration_fail(tmp_path: Path, places: dict[str, str]) -> None:
    """A clone whose router loses messages."""
    clone = tmp_path / "clone"
    clone.mkdir()
    for part in ("copier.yml", "template", "tools"):
        subprocess.run(["cp", "-r", str(ROOT / part), str(clone)], check=True)
    router = clone / "template" / "kinds" / "router" / "component.py.jinja"
    router.write_text(
        router.read_text().replace(
            "        record = message", '        raise Reject("broken")\n        record = message'
        )
    )
    source = tmp_path / "it.log"
    source.write_text("hello\n" * 3)
    script = clone / "tools" / "demo.py"
    script.write_text(script.read_text().replace("STALL = 60", "STALL = 1"))
    command = [sys.executable, str(script), str(source)]
    done = subprocess.run(command, env=places, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "The demonstration failed: nothing happened for 1 seconds" in done.stdout
    assert "is banished: broken" in done.stdout
    assert left(places) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_make_demo_and_make_test_are_first_commands_in_a_fresh_clone(
    tmp_path: Path, bare_environment: dict[str, str]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for part in PARTS:
        if (ROOT / part).exists():
            subprocess.run(["cp", "-r", str(ROOT / part), str(source)], check=True)
    (source / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    git(source, "init", "--quiet")
    commit_all(source, "Everything")
    log = tmp_path / "it.log"
    log.write_text("2025-01-02 03:04:05 install it\n" * 50)
    clone = tmp_path / "a clone"
    git(tmp_path, "clone", "--quiet", "--no-tags", str(source), str(clone))

    def make(*arguments: str) -> str:
        command = ["make", "-C", str(clone), f"PYTHON={sys.executable}", *arguments]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 0, done.stdout
        return done.stdout

    environment = bare_environment
    planned = make("--dry-run", "test")  # as the first one; to install all of it twice takes long
    assert planned.index("pip install") < planned.index(".venv/bin/pytest")
    environment = with_uv(bare_environment)
    assert "50 messages out" in make("demo", f"INPUT={log}")
    assert "1 passed" in make("test", "ARGS=tests/template/test_questions.py -k few_questions")
    assert git(clone, "status", "--porcelain") == ""
