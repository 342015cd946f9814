"""`piperctl new --pipeline` and `add daemon --after`: a chain that works, and daemons that are put into it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from piperkit.pipeline import description, graph

pytestmark = pytest.mark.slow

Piperctl = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def new(piperctl: Piperctl, unpacked: Path) -> Piperctl:
    return lambda *arguments, **more: piperctl(
        "new", "--template", unpacked, "--defaults", "--pipeline", *arguments, **more
    )


def chain(project: Path) -> set[tuple[str, str]]:
    return {(edge.tail, edge.head) for edge in graph.of(description.load(project / "pipeline.toml")).edges}


def test_a_chain_of_source_parser_router_and_a_sink_for_each_type(new: Piperctl, tmp_path: Path) -> None:
    done = new("alerts", "--type", "alert", "--type", "order", "--sink", "sink-postgresql", "--source", "source-socket")
    assert done.returncode == 0, done.stderr
    project = tmp_path / "alerts"
    assert chain(project) == {
        ("alerts-reader", "alerts-parser"),
        ("alerts-parser", "alerts-router"),
        ("alerts-router", "alerts-rest"),
        ("alerts-router", "alerts-alert"),
        ("alerts-router", "alerts-order"),
    }
    assert (
        '"routes": {"alert": "alerts-alert", "order": "alerts-order"}'
        in (project / "etc/alerts-router.conf").read_text()
    )
    described = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert sorted(described["scripts"]) == sorted(
        f"alerts-{each}" for each in ("reader", "parser", "router", "rest", "alert", "order")
    )
    assert any(each.startswith("psycopg") for each in described["dependencies"])
    assert "RestrictAddressFamilies=AF_UNIX AF_INET" in (project / "systemd/alerts-rest.service").read_text()
    assert "PrivateNetwork=yes" in (project / "systemd/alerts-parser.service").read_text()


def test_queues_in_a_database_are_named_once(new: Piperctl, tmp_path: Path) -> None:
    assert new("alerts", "-d", "database=postgresql://db1/spool").returncode == 0
    project = tmp_path / "alerts"
    pipeline = description.load(project / "pipeline.toml")
    assert pipeline.members[0].next_queue == "postgresql://db1/spool?queue=alerts-parser"
    text = "".join(
        line
        for line in (project / "etc/alerts-router.conf").read_text().splitlines()
        if not line.strip().startswith("#")
    )
    assert json.loads(text) == {
        "queue_in_dir": "postgresql://db1/spool?queue=alerts-router",
        "routes": {"alert": "alerts-alert"},
    }


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--kind", "filter"], "--pipeline: the kinds of its daemons are fixed; choose --source,"),
        (["--source", "tap"], "tap is none of source, source-socket, source-amqp"),
        (["--type", "Loud"], "a type of messages, 'Loud': must be small letters, digits and single dashes"),
        (["--type", "rest"], "a type of messages, 'rest'"),
        (["--type", "a", "--type", "a"], "a type of messages is given twice"),
        (["--name", "x" * 30], "is not a daemon's name: it has more than 31 letters; choose a shorter one"),
    ],
)
def test_an_answer_that_cannot_be_leaves_nothing(
    new: Piperctl, tmp_path: Path, options: list[str], complaint: str
) -> None:
    done = new("alerts", *options)
    assert done.returncode == 64
    assert complaint in done.stderr
    assert not (tmp_path / "alerts").exists()


def test_options_of_a_pipeline_are_for_a_pipeline(piperctl: Piperctl, unpacked: Path) -> None:
    done = piperctl("new", "--template", unpacked, "--defaults", "--sink", "sink", "birds")
    assert "--source, --sink and --type are for --pipeline" in done.stderr


def test_on_a_terminal_what_is_not_said_is_asked(unpacked: Path, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "piperkit.cli", "new", "--pipeline", "--template", str(unpacked), "alerts"]
    process = subprocess.Popen(command, cwd=tmp_path, stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    said = b""

    def answer(question: bytes, text: bytes) -> None:
        nonlocal said
        while question not in said:
            said += os.read(leader, 4096)
        said = b""
        os.write(leader, text)

    answer(b"Where do messages come from?", b"nowhere\n")
    answer(b"is none of these", b"source-socket\n")
    answer(b"Types of messages", b"alert, order\n")
    answer(b"Where do messages go in the end?", b"\n")
    answer(b"Author", b"\x03")  # that is the template's, and as for any project
    assert process.wait(60) != 0
    os.close(leader)
    assert not (tmp_path / "alerts" / "pipeline.toml").exists()


def test_a_daemon_is_put_into_the_chain_and_comments_stay(new: Piperctl, piperctl: Piperctl, tmp_path: Path) -> None:
    assert new("alerts").returncode == 0
    project = tmp_path / "alerts"
    done = piperctl("add", "daemon", "alerts-enricher", "--kind", "enrich", "--after", "alerts-parser", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "alerts-parser → alerts-enricher → alerts-router" in done.stdout
    assert {("alerts-parser", "alerts-enricher"), ("alerts-enricher", "alerts-router")} <= chain(project)
    done = piperctl("add", "daemon", "alerts-order", "--kind", "sink", "--after", "alerts-router", cwd=project)
    assert "alerts-router sends to alerts-order, too" in done.stdout
    assert ("alerts-router", "alerts-order") in chain(project)
    done = piperctl("add", "daemon", "alerts-copy", "--after", "alerts-rest", cwd=project)
    assert ("alerts-rest", "alerts-copy") in chain(project)
    text = (project / "pipeline.toml").read_text()
    assert "# The first gets all that has no route" in text
    done = piperctl("add", "daemon", "alerts-more", "--after", "alerts-praser", cwd=project)
    assert done.returncode == 64
    assert "the project has no such daemon; did you mean alerts-parser?" in done.stderr
    assert not (project / "src" / "alerts_more").exists()
    done = piperctl("add", "daemon", "alerts-more", cwd=project)
    assert "It is in no chain yet: add it to pipeline.toml." in done.stdout


def test_the_first_daemon_after_another_makes_a_chain_of_both(
    piperctl: Piperctl, unpacked: Path, tmp_path: Path
) -> None:
    assert piperctl("new", "--template", unpacked, "--defaults", "birds").returncode == 0
    project = tmp_path / "birds"
    done = piperctl("add", "daemon", "bird-sink", "--kind", "sink", "--after", "birds", cwd=project)
    assert "pipeline.toml is made: birds → bird-sink" in done.stdout
    assert chain(project) == {("birds", "bird-sink")}
