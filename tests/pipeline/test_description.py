"""`pipeline.toml` says which daemons there are, and an error names the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_project import CHAIN, Project
from piperkit.errors import ConfigError
from piperkit.pipeline import description
from piperkit.pipeline.description import NoPipeline


def test_queues_have_the_daemons_names_in_the_projects_spool(project: Project) -> None:
    pipeline = project.load()
    assert pipeline.name == "alerts"
    reader, _, router, rest, _ = pipeline.members
    spool = project.path / "var" / "spool"
    assert (reader.source, reader.targets) == (f"{spool}/reader", (f"{spool}/parser",))
    assert router.next_queue == f"{spool}/rest"
    assert router.targets == (f"{spool}/rest", f"{spool}/pager")
    assert (rest.targets, rest.next_queue, rest.instances, rest.config) == ((), None, 1, None)


def test_installed_a_projects_pipeline_means_the_queues_of_the_machine(project: Project) -> None:
    pipeline = description.load(project.path / "pipeline.toml", installed=True)
    assert pipeline.project is None
    assert pipeline.members[0].source == "/var/spool/reader"


def test_outside_of_a_project_queues_are_in_the_machines_spool_and_the_directory_names_it(tmp_path: Path) -> None:
    (tmp_path / "alerts").mkdir()
    (tmp_path / "alerts" / "pipeline.toml").write_text(
        "[daemons.a]\nto = '../elsewhere/b'\n[daemons.b]\nfrom='/srv/b'\n"
    )
    pipeline = description.load(tmp_path / "alerts" / "pipeline.toml")
    assert pipeline.name == "alerts"
    assert pipeline.queues() == ["/var/spool/a", "/srv/b", f"{tmp_path}/elsewhere/b"]


def test_a_spool_may_be_a_database(project: Project) -> None:
    project.describe('spool = "postgresql://db1/spool"\n' + CHAIN)
    assert project.load().members[0].next_queue == "postgresql://db1/spool?queue=parser"


def test_the_file_is_found_from_below_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.path / "etc")
    assert description.find() == project.path / "pipeline.toml"
    assert description.find(project.path) == project.path / "pipeline.toml"
    with pytest.raises(NoPipeline, match="there is no such file"):
        description.find(project.path / "etc")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "daemons must have a table for each daemon"),
        ("daemons = 1", "daemons must have a table for each daemon"),
        ("name = 'a b'\n[daemons.a]", "name is 'a b'; a name must begin with a letter"),
        ("name = 'a'\n[daemons.a]", "name is a, as one of its daemons is"),
        (
            "[daemons.a]\ntoo = 'b'",
            "daemons.a.too is not a key; did you mean to?; there are from, to, instances, config",
        ),
        ("demons = {}\n[daemons.a]", "demons is not a key; did you mean daemons?"),
        ("[daemons.a]\nto = 'a'", "daemons.a.to has 'a', its own input queue"),
        ("[daemons.a]\nto = ['b', 'b']", "daemons.a.to is ['b', 'b'], which has a queue twice"),
        ("[daemons.a]\nto = 3", "daemons.a.to is 3; it must be the name of a queue, or a list of names"),
        ("[daemons.a]\nto = ''", "daemons.a.to is ''; it must be the name of a queue"),
        ("[daemons.a]\nto = '..'", "daemons.a.to is '..', which is not a queue"),
        ("[daemons.a]\nto = 'postgresql://db1/spool'", "daemons.a.to is not an address"),
        ("[daemons.a]\ninstances = true", "daemons.a.instances is True; it must be a whole number up to"),
        ("[daemons.a]\ninstances = -1", "daemons.a.instances is -1; it must be a whole number up to"),
        ("[daemons.a]\nconfig = 3", "daemons.a.config is 3; it must be the path of a file"),
        ("[daemons]\na = 3", "daemons.a must be a table: [daemons.a]"),
        ("[daemons.'a/b']", "daemons.a/b is 'a/b'; a name must begin with a letter"),
        ("spool = 3\n[daemons.a]", "spool is 3; it must be a directory, or postgresql://HOST/DATABASE"),
        ("outputs = [3]\n[daemons.a]", "outputs is 3; it must be the name of a queue"),
        ("[daemons.a", "is not TOML"),
    ],
)
def test_what_is_wrong_names_the_key_and_what_is_right(project: Project, text: str, complaint: str) -> None:
    project.describe(text)
    with pytest.raises(ConfigError) as caught:
        project.load()
    assert complaint in str(caught.value)
    assert str(project.path / "pipeline.toml") in str(caught.value)
