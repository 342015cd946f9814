"""Daemons and queues as a graph: in which order, where it loops, and how it is drawn."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline_project import CHAIN, Project
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.view import QueueView
from piperkit.pipeline import drawing, graph
from piperkit.pipeline.drawing import Form
from piperkit.pipeline.installed import installed

Piperctl = Callable[..., "subprocess.CompletedProcess[str]"]


def test_consumers_come_before_those_that_send_to_them(project: Project) -> None:
    found = graph.of(project.load())
    order = found.consumers_first()
    for edge in found.edges:
        assert order.index(edge.head) < order.index(edge.tail)
    assert (found.beginnings(), found.ends()) == (["reader"], ["rest", "pager"])
    assert found.loop() == []


def test_a_loop_is_named_in_the_order_in_which_messages_go_round(project: Project) -> None:
    project.change("[daemons.pager]\n", '[daemons.pager]\nto = "parser"\n')
    found = graph.of(project.load())
    loop = found.loop()
    assert loop[0] == loop[-1]
    assert {*itertools.pairwise(loop)} == {
        ("parser", "router"),
        ("router", "pager"),
        ("pager", "parser"),
    }
    assert sorted(found.consumers_first()) == sorted(found.daemons)


def test_a_queue_that_none_of_them_reads_is_a_node_of_its_own(project: Project) -> None:
    project.change("[daemons.pager]\n", '[daemons.pager]\nto = "outside"\n')
    found = graph.of(project.load())
    assert found.queues == {"outside"}
    assert found.ends() == ["rest"]


def test_text_is_a_tree_that_draws_nothing_twice(project: Project) -> None:
    project.change("[daemons.rest]\n", '[daemons.rest]\nto = "pager"\ninstances = 2\n')
    project.change("[daemons.pager]\n", '[daemons.pager]\nto = "out"\n')
    assert drawing.draw(graph.of(project.load()), Form.TEXT) == (
        "reader → parser → router ┬→ rest ×2 → pager → out\n"  # noqa: RUF001
        "                         └→ pager ↑"
    )
    assert drawing.draw(graph.of(project.load()), Form.TEXT, ascii_only=True) == (
        "reader -> parser -> router +-> rest x2 -> pager -> out\n"
        "                           +-> pager ^"
    )  # fmt: skip


def test_a_loop_is_drawn_from_its_first_daemon(project: Project) -> None:
    project.describe('[daemons.a]\nto = "b"\n[daemons.b]\nto = "a"\n')
    assert drawing.draw(graph.of(project.load()), Form.TEXT) == "a → b → a ↑"


@pytest.mark.slow
def test_programs_get_mermaid_dot_and_json(piperctl: Piperctl, project: Project) -> None:
    project.change("[daemons.pager]\n", '[daemons.pager]\nto = "odd \\"name\\""\n')
    mermaid = piperctl("pipeline", "graph", "--format", "mermaid").stdout
    assert mermaid.startswith("flowchart LR\n")
    assert '["parser"]' in mermaid
    assert "#34;name#34;" in mermaid
    dot = piperctl("pipeline", "graph", "--format", "dot").stdout
    assert '"reader" -> "parser"' in dot
    assert '"odd \\"name\\"" [shape=folder]' in dot
    facts = json.loads(piperctl("pipeline", "graph", "--format", "json").stdout)
    assert facts["daemons"][0] == {"name": "reader", "instances": 1}
    assert facts["edges"][0] == {"from": "reader", "to": "parser", "queue": str(project.queue("parser"))}


def test_history_tells_where_messages_have_gone(piperctl: Piperctl, project: Project) -> None:
    for name in ("a", "b"):
        with DirectoryQueue(project.queue(name)) as queue:
            for target in ("b", "c") if name == "a" else ():
                line = {"t": 1, "id": "x", "what": "committed", "to": str(project.queue(target))}
                queue.note([json.dumps(line).encode() + b"\n"] * 2)
    found = graph.flowed({name: QueueView(project.queue(name)) for name in ("a", "b")})
    assert [(edge.tail, edge.head, edge.messages) for edge in found.edges] == [("a", "b", 2), ("a", "c", 2)]
    assert found.queues == {"c"}
    drawn = piperctl("pipeline", "graph", "--from", "history")
    assert drawn.stdout == "a ┬ 2 → b\n  └ 2 → c\n"


def test_what_is_installed_is_read_from_the_configuration_and_nothing_is_run(tmp_path: Path) -> None:
    etc, spool = tmp_path / "etc", tmp_path / "spool"
    etc.mkdir()
    for name in ("reader", "parser", "other"):
        DirectoryQueue(spool / name).close()
    (etc / "reader.conf").write_text('{"queue_out_dir": "parser", "a_key_of_its_component": 1}')
    (etc / "parser").mkdir()
    (etc / "parser" / "pipeline-x.json.conf").write_text(json.dumps({"queue_out_dir": "/srv/done"}))
    found = installed(str(spool), etc)
    assert found.daemons == ("parser", "reader")
    assert {(edge.tail, edge.head) for edge in found.edges} == {("reader", "parser"), ("parser", "done")}


def test_nothing_to_draw_says_why(piperctl: Piperctl, project: Project) -> None:
    project.describe(CHAIN)
    DirectoryQueue(project.queue("reader")).close()
    done = piperctl("pipeline", "graph", "--from", "history")
    assert done.returncode == 73
    assert "the history has no message that was passed on; set history to sample or all" in done.stderr
    done = piperctl("pipeline", "graph", "--spool", "/nowhere")
    assert done.returncode == 64
