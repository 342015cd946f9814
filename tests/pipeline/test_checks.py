"""`piperctl pipeline check`: each thing that is wrong is found, and named with what mends it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from shlex import quote

import pytest

from needs import need
from pipeline_project import Project
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.acts import Operator
from piperkit.doctor.finding import Finding
from piperkit.pipeline import checks, description

pytestmark = pytest.mark.slow

Piperctl = Callable[..., "subprocess.CompletedProcess[str]"]


def found(project: Project, check: str) -> list[Finding]:
    return [finding for finding in checks.examine(project.load()) if finding.check == check]


def only(project: Project, check: str) -> Finding:
    (finding,) = checks.examine(project.load())
    assert finding.check == check
    assert finding.mend
    return finding


def test_nothing_is_wrong_with_a_chain_that_works(project: Project, piperctl: Piperctl) -> None:
    done = piperctl("pipeline", "check")
    assert done.returncode == 0
    assert done.stdout == "alerts, 5 daemons: nothing is wrong.\n"


def test_an_output_that_nobody_reads(project: Project, piperctl: Piperctl) -> None:
    project.change('to = "router"', 'to = "ruoter"')
    done = piperctl("pipeline", "check")
    assert done.returncode == 1
    assert f"nobody reads {project.queue('ruoter')}, which parser writes to; did you mean router?" in done.stdout
    assert "add a daemon that reads it, or name it in outputs" in done.stdout
    assert done.stdout.endswith("alerts, 5 daemons: 1 thing to mend.\n")
    project.change('to = "ruoter"', 'to = "router"')
    project.change("[daemons.pager]\n", '[daemons.pager]\nto = "theirs"\n')
    assert only(project, "read").where == str(project.path / "pipeline.toml")
    project.change('name = "alerts"', 'name = "alerts"\noutputs = ["theirs"]')
    assert not [*checks.examine(project.load())]


def test_an_input_that_nobody_writes(project: Project) -> None:
    project.change('to = "parser"', "")
    finding = only(project, "written")
    assert (finding.where, finding.warning) == ("parser", True)
    project.change('name = "alerts"', 'name = "alerts"\ninputs = ["parser"]')
    assert not [*checks.examine(project.load())]


def test_a_loop(project: Project) -> None:
    project.change("[daemons.pager]\n", '[daemons.pager]\nto = "parser"\n')
    what = only(project, "loop").what
    assert what.startswith("a loop: ")
    assert {*what.partition(": ")[2].partition(":")[0].split(" → ")} == {"parser", "router", "pager"}


def test_two_daemons_that_read_one_queue(project: Project) -> None:
    project.change("[daemons.pager]\n", '[daemons.pager]\nfrom = "rest"\n')
    project.change('["rest", "pager"]', '["rest"]')
    assert f"rest and pager read {project.queue('rest')}" in only(project, "readers").what


def test_a_daemon_that_says_otherwise_where_its_messages_go(project: Project) -> None:
    project.configure("parser", '{"queue_out_dir": "rest"}')
    finding = only(project, "queues")
    assert finding.where == "parser"
    assert f"parser.conf says queue_out_dir {project.queue('rest')}, and pipeline.toml says" in finding.what
    project.configure("parser", '{"queue_out_dir": "router"}')
    assert not [*checks.examine(project.load())]


def test_a_configuration_that_is_wrong_in_the_daemons_own_words(project: Project) -> None:
    project.configure("parser", '{"queue_in_wiat": 3}')
    finding = only(project, "daemon")
    assert "unknown key queue_in_wiat; did you mean queue_in_wait?" in finding.what
    assert finding.mend == f"${{EDITOR:-vi}} {quote(str(project.path / 'etc' / 'parser.conf'))}"


def test_a_daemon_that_is_not_there(project: Project) -> None:
    (project.path / ".venv/bin/parser").unlink()
    assert "has no program parser; is it one of its daemons?" in only(project, "daemon").what


def test_a_source_that_several_instances_would_fetch_from(project: Project) -> None:
    project.change("[daemons.reader]\n", "[daemons.reader]\ninstances = 2\n")
    assert "so would each of its 2 instances" in only(project, "instances").what


def test_queues_on_two_file_systems(project: Project, elsewhere: Path) -> None:
    DirectoryQueue(elsewhere / "queue").close()
    DirectoryQueue(project.queue("parser")).close()
    project.change("[daemons.router]\n", f'[daemons.router]\nfrom = "{elsewhere / "queue"}"\n')
    project.change('to = "router"', f'to = "{elsewhere / "queue"}"')
    finding = only(project, "file systems")
    assert (finding.where, finding.warning) == ("parser", True)


def test_messages_that_do_not_have_the_format_of_their_daemon(project: Project) -> None:
    with DirectoryQueue(project.queue("router")) as queue:
        for contents in ("no JSON", '{"type": "x"}', b"\xff"):
            queue.enqueue(contents)
    finding = only(project, "formats")
    assert "2 of the first 3 messages that wait for it are not json, its message_format" in finding.what
    assert finding.mend.startswith("piperctl queue show ")


def test_a_queue_that_was_left_behind_with_messages(project: Project) -> None:
    with DirectoryQueue(project.queue("old")) as queue:
        queue.enqueue("a")
        queue.claim()
        assert not found(project, "left behind"), "an instance works on it, which may be another pipeline's"
    finding = only(project, "left behind")
    assert finding.what == "it holds 1 message, and no daemon of this pipeline reads it"
    assert finding.mend == f"piperctl queue mv {quote(str(project.queue('old')))} QUEUE --part incoming --all"


def test_a_queue_that_an_operator_has_paused(project: Project) -> None:
    DirectoryQueue(project.queue("rest")).close()
    Operator(project.queue("rest"), "jane").pause(None, "the disk is moved")
    finding = only(project, "paused")
    assert (finding.what, finding.warning) == ("jane has paused the queue: the disk is moved", True)
    assert finding.mend == f"piperctl queue resume {quote(str(project.queue('rest')))}"


def test_messages_that_went_where_the_file_does_not_say(project: Project) -> None:
    with DirectoryQueue(project.queue("router")) as queue:
        for target in ("rest", "old"):
            line = {"t": 1, "id": "x", "what": "dispatched", "to": str(project.queue(target))}
            queue.note([json.dumps(line).encode() + b"\n"])
    finding = only(project, "flows")
    assert f"1 of its messages have gone to {project.queue('old')}" in finding.what


def test_queues_of_one_account_for_daemons_of_another(project: Project) -> None:
    """The accounts are in their configuration, as for a daemon that root starts."""
    need("root", os.geteuid() == 0, "to give a queue to somebody")
    project.configure("rest", '{"user": "nobody"}')
    project.configure("pager", '{"user": "daemon", "group": "daemon"}')
    project.configure("router", '{"user": "nobody", "routes": {"alert": "pager"}}')
    DirectoryQueue(project.queue("rest")).close()
    words = [finding.what for finding in found(project, "accounts")]
    assert f"its queue {project.queue('rest')} belongs to root, and it runs as nobody" in words
    assert any("they have no group in common" in each for each in words)


def test_root_runs_nothing_of_somebody_elses_project(project: Project, piperctl: Piperctl) -> None:
    need("root", os.geteuid() == 0, "to be root")
    os.chown(project.path, 65534, 65534)
    (project.path / "cases.toml").write_text('[[tests]]\nname = "a"\ninputs = [{ into = "parser", text = "a: b" }]\n')
    for command in (["check"], ["run"], ["drain"], ["resume"], ["test", "cases.toml"]):
        done = piperctl("pipeline", *command)
        assert done.returncode == 69, command
        assert "root runs nothing of somebody else's" in done.stderr, command


def test_programs_get_json(project: Project, piperctl: Piperctl) -> None:
    project.change('to = "router"', 'to = "ruoter"')
    facts = json.loads(piperctl("pipeline", "check", "--json").stdout)
    assert (facts["pipeline"], facts["daemons"]) == ("alerts", ["reader", "parser", "router", "rest", "pager"])
    assert {each["check"] for each in facts["findings"]} == {"read", "written"}


def test_installed_daemons_have_to_know_their_queues(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which their units' configuration tells them."""
    monkeypatch.setenv("PATH", f"{project.path / '.venv/bin'}:{os.environ['PATH']}")
    home = tmp_path / "elsewhere"
    home.mkdir()
    text = (project.path / "pipeline.toml").read_text()
    (home / "pipeline.toml").write_text(f'spool = "{project.path}/var/spool"\n{text}')
    pipeline = description.load(home / "pipeline.toml")
    words = [each for each in checks.examine(pipeline) if each.check == "queues"]
    assert {each.where for each in words} == {"reader", "parser", "router"}
    assert "its units are older, or not there" in words[0].what
    assert words[0].mend.startswith("sudo piperctl pipeline units --to /")
