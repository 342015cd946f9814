"""A pipeline in the foreground: started, stopped and drained in the right order, and tried with messages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline_project import Project
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.acts import Operator
from piperkit.dirq.view import QueueView

pytestmark = pytest.mark.slow

Piperctl = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "subprocess.Popen[str]"]
Until = Callable[..., None]


def output(project: Project) -> str:
    return (project.path / "output").read_text()


@pytest.fixture
def running(project: Project, start: Start, until: Until) -> subprocess.Popen[str]:
    process = start("pipeline", "run")
    until(lambda: "all of alerts runs" in output(project) or process.poll() is not None, "all of it to run")
    assert process.poll() is None, output(project)
    return process


def pids(project: Project, name: str) -> list[int]:
    return [each.pid for each in QueueView(project.queue(name)).instances() or []]


def test_lines_come_out_at_their_ends_and_one_ctrl_c_stops_all_sources_first(
    project: Project, running: subprocess.Popen[str], until: Until
) -> None:
    project.write("alert: disk full", "info: hello", "no type")
    until(lambda: project.stored("pager") and project.stored("rest"), "both messages")
    assert project.stored("pager") == ['{"type":"alert","text":"disk full"}']
    assert project.stored("rest") == ['{"type":"info","text":"hello"}']
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 0
    text = output(project)
    started = [text.index(f"{name:6} | ") for name in ("router", "parser", "reader")]
    assert started == sorted(started), "consumers start first"
    ended = [
        text.index(f"{name:6} | ", text.index("stopping, sources first")) for name in ("reader", "parser", "router")
    ]
    assert ended == sorted(ended), "sources stop first"
    assert text.count("The daemon has ended, with status 0") == 5
    assert text.endswith("piperctl: all have ended\n")


def test_a_daemon_that_ends_by_itself_ends_all(project: Project, running: subprocess.Popen[str], until: Until) -> None:
    until(lambda: pids(project, "router"), "the router")
    project.write("info: hello")
    until(lambda: project.stored("rest"), "the message")
    (pid,) = pids(project, "router")
    os.kill(pid, signal.SIGKILL)
    assert running.wait(60) == 1
    text = output(project)
    assert "router has ended by itself, killed by SIGKILL; the others are stopped" in text
    assert text.count("The daemon has ended, with status 0") == 4


def test_a_daemon_that_cannot_start_ends_all_with_its_own_words(project: Project, start: Start) -> None:
    program = project.path / ".venv/bin/router"
    setup = '    def setup(self, daemon):\n        raise RuntimeError("no such luck")\n'
    program.write_text(program.read_text().replace("class Route(Component):\n", f"class Route(Component):\n{setup}"))
    process = start("pipeline", "run")
    assert process.wait(60) == 1
    assert "router | router: RuntimeError: no such luck" in output(project)
    assert "piperctl: router has not started, with status 1; the others are stopped" in output(project)
    assert output(project).count("The daemon has ended, with status 0") == 2


def test_what_is_wrong_is_said_before_anything_runs(project: Project, piperctl: Piperctl) -> None:
    project.change('to = "router"', 'to = "ruoter"')
    done = piperctl("pipeline", "run")
    assert done.returncode == 78
    assert "alerts is not run: 1 thing to mend" in done.stderr
    assert "nobody reads" in done.stdout
    assert not project.queue("reader").exists()


def test_only_those_that_are_named_run_and_instances_have_numbers(project: Project, start: Start, until: Until) -> None:
    project.change("[daemons.rest]\n", "[daemons.rest]\ninstances = 2\n")
    process = start("pipeline", "run", "rest")
    until(lambda: "all of alerts runs" in output(project) or process.poll() is not None, "both instances")
    with DirectoryQueue(project.queue("rest")) as queue:
        queue.enqueue("a")
    until(lambda: project.stored("rest") == ["a"], "the message")
    process.terminate()
    assert process.wait(60) == 0
    assert {line.split(" |")[0].strip() for line in output(project).splitlines() if " |" in line} == {
        "rest@1",
        "rest@2",
    }


def test_a_second_ctrl_c_kills_what_does_not_end(project: Project, start: Start, until: Until) -> None:
    program = project.path / ".venv/bin/rest"
    text = program.read_text().replace("        with open", "        import time; time.sleep(1000)\n        with open")
    program.write_text(text)
    process = start("pipeline", "run", "rest")
    until(lambda: "all of alerts runs" in output(project), "it to run")
    with DirectoryQueue(project.queue("rest")) as queue:
        queue.enqueue("a")
    until(lambda: QueueView(project.queue("rest")).counts()["pending"], "the message to be in work")
    process.send_signal(signal.SIGINT)
    until(lambda: "stopping, sources first" in output(project), "the first to be noticed")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 1
    assert "rest does not end, and is killed" in output(project)
    assert QueueView(project.queue("rest")).counts()["pending"] == 1


def test_ps_says_which_instances_run(project: Project, start: Start, until: Until, piperctl: Piperctl) -> None:
    done = piperctl("pipeline", "ps")
    assert done.returncode == 3
    assert "there is no such queue yet" in done.stdout
    project.change("[daemons.rest]\n", "[daemons.rest]\ninstances = 2\n")
    start("pipeline", "run")
    until(lambda: "all of alerts runs" in output(project), "all of it to run")
    project.write("info: a", "info: b", "alert: c")
    until(lambda: project.stored("pager") and len(project.stored("rest")) == 2, "all messages")

    def rows() -> dict[str, dict[str, object]]:
        lines = piperctl("pipeline", "ps", "--json").stdout.splitlines()
        return {row["daemon"]: row for row in map(json.loads, lines)}

    with DirectoryQueue(project.queue("rest")) as queue:
        until(lambda: queue.enqueue("x") and len(rows()["rest"]["instances"]) == 2, "both to have claimed")  # type: ignore[arg-type]
    assert {len(row["instances"]) for name, row in rows().items() if name != "rest"} == {1}  # type: ignore[arg-type]
    done = piperctl("pipeline", "ps")
    assert done.returncode == 0
    assert "2/2" in done.stdout


def test_drained_a_pipeline_is_empty_and_its_sources_fetch_nothing_until_it_is_resumed(
    project: Project, running: subprocess.Popen[str], until: Until, piperctl: Piperctl
) -> None:
    project.write(*(f"info: {number}" for number in range(300)))
    until(lambda: project.stored("rest"), "the first")
    done = piperctl("pipeline", "drain", "--for", "100s")
    assert done.returncode == 0, done.stderr
    assert "alerts is empty. To have it go on: piperctl pipeline resume" in done.stdout
    arrived = len(project.stored("rest"))
    project.write("info: more")
    for name in ("reader", "parser", "router", "rest", "pager"):
        counts = QueueView(project.queue(name)).counts()
        assert not sum(counts.values()), (name, counts)
    assert "has paused what the queue's daemon fetches" in piperctl("pipeline", "ps").stdout
    assert len(project.stored("rest")) == arrived
    assert piperctl("pipeline", "resume").returncode == 0
    until(lambda: len(project.stored("rest")) == 301, "all of them")


def test_what_keeps_a_pipeline_from_running_empty_is_said(
    project: Project, running: subprocess.Popen[str], until: Until, piperctl: Piperctl
) -> None:
    Operator(project.queue("rest"), "jane").pause(None, "the disk is moved")
    project.write("info: a")
    until(lambda: QueueView(project.queue("rest")).counts()["incoming"], "the message")
    done = piperctl("pipeline", "drain", "--for", "1s")
    assert done.returncode == 1
    assert "alerts is not empty:" in done.stderr
    assert "rest: 1 incoming (jane has paused the queue: the disk is moved)" in done.stderr


def test_nobody_at_work_keeps_it_too(project: Project, piperctl: Piperctl) -> None:
    for name in ("reader", "parser", "router", "rest", "pager"):
        DirectoryQueue(project.queue(name)).close()
    with DirectoryQueue(project.queue("router")) as queue:
        queue.enqueue("a")
    done = piperctl("pipeline", "drain", "--for", "0.1s")
    assert done.returncode == 1
    assert "router: 1 incoming (no instance works on it)" in done.stderr


# -- tests of a pipeline -----------------------------------------------------------------------------------------


CASES = """
[[tests]]
name = "an alert"
inputs = [{ into = "parser", text = "alert: disk full" }, { into = "router", json = { type = "alert", n = 1 } }]
outputs.pager = [{ n = 1, type = "alert" }, { type = "alert", text = "disk full" }]

[[tests]]
name = "no type"
inputs = [{ into = "reader", text = "nothing" }, { into = "parser", base64 = "bm90aGluZw==" }]
errors.parser = ["no type", "no t"]
"""


def test_a_pipeline_is_tried_with_messages_and_nothing_of_its_life_is_touched(
    project: Project, piperctl: Piperctl
) -> None:
    project.write("alert: of its life")
    (project.path / "cases.toml").write_text(CASES)
    done = piperctl("pipeline", "test", "cases.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "passed  an alert\npassed  no type\n2 of 2 tests passed\n"
    assert sorted(path.name for path in (project.path / "var").iterdir()) == ["lines"]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('text = "disk full" }]', 'text = "empty" }]', 'pager: has not got {"type": "alert", "text": "empty"}'),
        (", { type = \"alert\", text = \"disk full\" }]", "]", 'pager: has got {"type": "alert", "text": "disk full"}'),
        ("outputs.pager", "outputs.rest", "rest: has not got"),
        ('["no type", "no t"]', '["no type"]', "parser: a message has failed: no type"),
        ('["no type", "no t"]', '["no type", "too long"]', "parser: no dead letter with 'too long' in its reason"),
        ("n = 1, type", "n = true, type", 'has not got {"n": true'),
    ],
)  # fmt: skip
def test_what_is_not_as_it_should_be_is_shown(
    project: Project, piperctl: Piperctl, old: str, new: str, complaint: str
) -> None:
    assert old in CASES
    (project.path / "cases.toml").write_text(CASES.replace(old, new, 1))
    done = piperctl("pipeline", "test", "cases.toml")
    assert done.returncode == 1
    assert complaint in done.stdout
    assert "1 of 2 tests passed" in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("outputs.pager", "outputs.parser", "cases.toml: tests[0].outputs.parser is unknown; did you mean pager?"),
        ('into = "parser"', 'into = "praser"', "tests[0].inputs[0].into is 'praser'; it must be one of reader, parser"),
        ("text = \"alert", "txt = \"alert", "tests[0].inputs[0].txt is unknown; did you mean text?"),
        ("bm90aGluZw==", "b", "tests[1].inputs[1].base64 is not base64"),
        ("[[tests]]", "[[test]]", "must have [[tests]], and nothing else at its top"),
        ('name = "no type"', "name = 3", "tests[1].name must be a text"),
        ("json = { type", "text = 'a', json = { type", "tests[0].inputs[1] must have one of text, json, base64"),
    ],
)  # fmt: skip
def test_a_test_that_cannot_be_read_names_the_key(
    project: Project, piperctl: Piperctl, old: str, new: str, complaint: str
) -> None:
    (project.path / "cases.toml").write_text(CASES.replace(old, new, 1))
    done = piperctl("pipeline", "test", "cases.toml")
    assert done.returncode == 78
    assert complaint in done.stderr


def test_a_directory_of_tests_is_tried_as_a_whole(project: Project, piperctl: Piperctl, tmp_path: Path) -> None:
    cases = tmp_path / "cases"
    cases.mkdir()
    assert "has no tests" in piperctl("pipeline", "test", cases).stderr
    for name in ("a", "b"):
        (cases / f"{name}.toml").write_text(CASES)
    assert "4 of 4 tests passed" in piperctl("pipeline", "test", cases).stdout
