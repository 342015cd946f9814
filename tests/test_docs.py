"""The documents' examples run, and the tests that they name exist."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from piperkit import Component, PiperDaemon
from piperkit.cli import cli
from piperkit.daemon.options import OPTIONS
from piperkit.dirq.view import QueueView
from piperkit.testing import Piper

ROOT = Path(__file__).parents[1]


def examples(path: str) -> list[str]:
    """The Python examples of a document."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / path).read_text(), re.DOTALL | re.MULTILINE)


def component(namespace: dict[str, Any]) -> type[Component]:
    """The component that an example defines."""
    classes = [each for each in namespace.values() if isinstance(each, type) and issubclass(each, Component)]
    (own,) = (each for each in classes if each.__module__ == "example")
    return own


def run(code: str, **given: Any) -> dict[str, Any]:
    namespace = {"__name__": "example", **given}
    exec(compile(code, "example", "exec"), namespace)
    return namespace


def test_readme_example_passes_its_own_test(piper: Piper) -> None:
    daemon, test = examples("README.md")
    own = component(run(daemon))

    def build(argv: list[str]) -> PiperDaemon:
        return PiperDaemon(name="mydaemon", argv=argv, components=[own()])

    run(test, build=build, Piper=Piper)["test_turns_text_into_upper_case"](piper)


@pytest.mark.slow
def test_guide_examples_do_what_it_says(piper: Piper, monkeypatch: pytest.MonkeyPatch) -> None:
    weigher, archive, datagrams, bound, producer = examples("docs/guide.md")
    monkeypatch.chdir(piper.directory)

    def build(code: str, **more: Any) -> Any:
        own = component(run(code))
        return lambda argv: PiperDaemon(name="mydaemon", argv=argv, components=[own()], **more)

    piper.put({"mass": 3}, {}, {"mass": None})
    piper.run(build(weigher, default_message_format="json"), "--scale=lb")
    assert piper.out == [b'{"mass":3,"weight":"3 lb"}']
    assert piper.errors == [(b"{}", "it has no mass")]
    assert piper.contents("in", "deferred") == [b'{"mass":null}']

    piper.put("a", "b")
    piper.run(build(archive), f"--work-dir={piper.directory}")
    assert (piper.directory / "archive").read_text() == "a\nb\n"

    assert piper.run(build(datagrams), "--address=socket") == 0
    assert os.path.exists("socket")
    assert run(bound)["total"] == 499500

    os.mkdir("spool")
    run(producer)
    assert len(QueueView("spool/mydaemon").entries("incoming")) == 1001


@pytest.mark.parametrize(("document", "least"), [("what-happens-when.md", 20), ("growing.md", 10), ("security.md", 30)])
def test_every_row_of_the_tables_of_faults_names_a_test_that_exists(document: str, least: int) -> None:
    lines = (ROOT / "docs" / document).read_text().splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("|---")]
    heads = [number - 1 for number in rules]
    rows = [line for number, line in enumerate(lines) if line.startswith("|") and number not in (*rules, *heads)]
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(rows) >= least
    for row in rows:
        names = re.findall(r"`(test_\w+)`", row.split("|")[3])
        assert names, row
        for name in names:
            assert f"def {name}(" in tests, name


PAGES = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md")),
]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_is_shown_exists_with_its_options(page: str) -> None:
    text, piperctl = (ROOT / page).read_text(), get_command(cli)
    shown = re.findall(r"^(?: {4}|\$ )?(piperctl [^\n]+?)(?: {3,}.*)?$|`(piperctl [^`]+)`", text, re.MULTILINE)
    for block, inline in shown:
        words = re.split(r"[|;&<>#]|\s--\s", block or inline)[0].split()[1:]
        command, context = piperctl, typer.Context(piperctl)
        while words and isinstance(command, typer.core.TyperGroup) and not words[0].startswith("-"):
            known = command.get_command(context, words[0])
            assert known is not None, block or inline
            command, words = known, words[1:]
        options = {name for each in command.get_params(context) for name in (*each.opts, *each.secondary_opts)}
        for word in words:
            name = word.partition("=")[0].rstrip(",.")
            assert not re.match("--?[a-z]", name) or name in options, f"{block or inline}: {name}"


def test_nothing_that_a_test_needs_can_be_missing_where_the_ci_runs() -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    needed = set(re.findall(r'\bneed\(\s*"([a-z]+)"', tests))
    required = re.search(r"PIPER_REQUIRE=(\S+)", (ROOT / ".ci/run").read_text())
    assert required is not None
    assert needed == set(required[1].split(","))


def test_compose_file_is_one() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*check, ROOT / "docs/compose.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


#: What those who pass piperkit on need not think about.
PERMISSIVE = re.compile(r"MIT|BSD|Apache-2\.0|ISC|PSF-2\.0|MPL-2\.0|0BSD|Unlicense|CC0")


def test_dependencies_are_listed_with_their_licences(monkeypatch: pytest.MonkeyPatch) -> None:
    """If not: .venv/bin/python tools/dependencies.py; what comes with a dependency may change from day to day."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    dependencies = importlib.import_module("dependencies")
    page = dependencies.TARGET.read_text()
    for packages in dependencies.tables().values():
        for name, more in packages.items():
            assert f"| {name} | {dependencies.licence(name)} |" in page
            for each in more:
                assert PERMISSIVE.search(dependencies.licence(each)) or f"{each} ({dependencies.licence(each)})" in page


def test_reference_is_what_the_runtime_knows_of_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """If not: .venv/bin/python tools/reference.py"""
    monkeypatch.syspath_prepend(ROOT / "tools")
    reference = importlib.import_module("reference")
    text = reference.TARGET.read_text()
    assert text == reference.render()
    for option in OPTIONS:
        assert option.help.replace("|", "\\|") in text


@pytest.mark.parametrize("path", PAGES)
def test_links_lead_somewhere(path: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / path).read_text()):
        assert (ROOT / path).parent.joinpath(target).exists(), target
