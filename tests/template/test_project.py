"""What a generated project holds, and that it passes its own checks."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

import pairwise
from checkout import ALL, ROOT, VERSION
from piperkit.versions import runtime_range
from template_project import Generate

#: What messages of each kind hold; a transform has the choice.
MESSAGES = {
    "filter": "text",
    "parse": "text",
    "router": "json",
    "enrich": "json",
    "sink": "text",
    "sink-postgresql": "text",
    "source": "bytes",
    "source-socket": "bytes",
    "sink-amqp": "bytes",
    "source-amqp": "bytes",
}
KINDS = list(MESSAGES)
FACTORS: dict[str, list[Any]] = {
    "daemon_name": ["mydaemon", "a", "a1-daemon-with-a-name-of-31-char"[:31]],
    "description": ["Passes each message on", "Doesn't lose 50 % of {{ anything }}, “really”", "x" * 80],
    "author": ["The developers", "Åsa O'Neil & Søn"],
    "licence": ["MIT", "BSD-3-Clause", "ISC", "none"],
    "component": ["transform-text", "transform-bytes", "transform-json", *KINDS],
    "systemd": [True, False],
    "network": [True, False],
    "metrics": [True, False],
    "web": [False, True],
    "container": [False, True],
    "debian": [False, True],
    "ci": ["none", "github", "gitlab"],
    "runtime_from": ["piperkit>=0.1,<0.2", "/a path/with it's spaces", "git+https://example.org/it.git@v0.1.0"],
}
NAMES = {"daemon_name", "package_name", "module_name", "class_name"}
ALWAYS = {
    ".copier-answers.yml",
    ".gitattributes",
    ".gitignore",
    ".pre-commit-config.yaml",
    "Makefile",
    "README.md",
    "pyproject.toml",
}


#: Every two answers meet in one of them; where much time is given (make test-all), every three.
ROWS = pairwise.rows(FACTORS, 3 if ALL else 2)
#: Of those answers that make a difference to Python, each at least once.
CODE = {name: FACTORS[name] for name in ("daemon_name", "description", "component", "network", "metrics")}
CHECKED = ROWS if ALL else pairwise.rows(CODE, 1)
NOT_KILLED = ("-k", "not wherever_it_is_killed")


def named(row: dict[str, Any]) -> str:
    return "-".join(str(row[name]) for name in ("component", "licence", "ci") if name in row)


def given(row: dict[str, Any]) -> dict[str, Any]:
    """The answers of a row, which has kind and messages in one."""
    answers = {key: value for key, value in row.items() if key != "component"}
    if row["component"] in KINDS:
        return {**answers, "kind": row["component"]}
    return {**answers, "kind": "transform", "messages": row["component"].removeprefix("transform-")}


@pytest.fixture
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server for the tests of the components that need one: `kind`, or what is in `row`, says which."""
    parameters = request.node.callspec.params
    if "sink-postgresql" in (parameters.get("kind"), parameters.get("row", {}).get("component")):
        monkeypatch.setenv("TEST_DATABASE", request.getfixturevalue("database"))


def files(project: Path) -> set[str]:
    return {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()}


def in_project(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of this virtual environment on a project, as if the project were installed."""
    environment = {**os.environ, "PYTHONPATH": str(project / "src")}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def passes(project: Path, *command: str) -> None:
    """It does, and no test is skipped for want of a server, since `server` has started one."""
    done = in_project(project, *command)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
    assert "needs a PostgreSQL server" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=named)
def test_it_holds_what_the_answers_say(generate: Generate, row: dict[str, Any]) -> None:
    project = generate(**given(row))
    name = row["daemon_name"]
    package = f"src/{name.replace('-', '_')}"
    expected = {
        *ALWAYS,
        f"etc/{name}.conf",
        *(f"{package}/{file}" for file in ("__init__.py", "__main__.py", "component.py", "daemon.py", "py.typed")),
        *(f"tests/test_{part}.py" for part in ("component", "daemon")),
    }
    if row["licence"] != "none":
        expected.add("LICENSE")
    if row["systemd"]:
        expected |= {f"systemd/{name}{unit}" for unit in (".service", "@.service", ".target")}
        expected |= {f"systemd/{kind}.d/{name}.conf" for kind in ("sysusers", "tmpfiles")}
        if row["web"]:
            expected.add(f"systemd/{name}-web.service")
    if row["metrics"]:
        expected |= {f"monitoring/{name}.{kind}" for kind in ("rules.yml", "dashboard.json")}
        if row["systemd"] and not row["network"]:
            expected.add(f"monitoring/{name}.loopback.conf")
    if row["container"]:
        expected |= {"Containerfile", ".dockerignore"}
    if row["debian"]:
        expected |= {f"debian/{file}" for file in ("changelog", "control", "copyright", "rules", "source/format")}
        expected |= {f"debian/{name}.{kind}" for kind in ("alternatives", "lintian-overrides")}
    expected |= {"github": {".github/workflows/test.yml"}, "gitlab": {".gitlab-ci.yml"}}.get(row["ci"], set())
    assert files(project) == expected

    texts = {file: (project / file).read_text(encoding="utf-8") for file in expected}
    assert not [file for file, text in texts.items() if re.search(r"{%|{#|\n\n\n\n|[^\n]\Z", text)]
    described = tomllib.loads(texts["pyproject.toml"])["project"]
    assert described["name"] == name
    assert described["description"] == row["description"]
    assert described["authors"] == [{"name": row["author"]}]
    assert described.get("license") == (None if row["licence"] == "none" else row["licence"])
    messages = MESSAGES.get(row["component"]) or row["component"].removeprefix("transform-")
    assert f'default_message_format="{messages}"' in texts[f"{package}/daemon.py"]
    assert f"RUNTIME_FROM ?= {row['runtime_from']}\n" in texts["Makefile"]
    if row["licence"] != "none":
        assert row["author"] in texts["LICENSE"]
    if row["systemd"]:
        assert f"Description={row['description'].replace('%', '%%')}\n" in texts[f"systemd/{name}.service"]
    yaml.safe_load(texts[".pre-commit-config.yaml"])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("row", CHECKED, ids=named)
def test_it_passes_its_own_checks_whatever_is_answered(
    generate: Generate, row: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = generate(**given(row))
    cache = tmp_path_factory.getbasetemp() / "mypy-cache"
    passes(project, "ruff", "check", "--no-cache")
    passes(project, "ruff", "format", "--check", "--no-cache")
    passes(project, "mypy", "--strict", "--cache-dir", str(cache))
    # What is killed at every crash point depends on the kind only.
    first = next(each for each in CHECKED if each["component"] == row["component"])
    passes(project, "pytest", "-q", "-p", "no:cacheprovider", *(() if row is first else NOT_KILLED))


def test_formatting_changes_nothing_and_nothing_is_to_be_fixed(generate: Generate) -> None:
    project = generate()
    before = {path: path.read_bytes() for path in project.rglob("*.py")}
    passes(project, "ruff", "check", "--fix", "--unsafe-fixes", "--no-cache")
    passes(project, "ruff", "format", "--no-cache")
    assert {path: path.read_bytes() for path in project.rglob("*.py")} == before


def test_generated_python_reads_as_python_in_the_template() -> None:
    """Names are substituted, choices are in file names; what is included is a file of its own, and all of it."""
    sources = [path for path in (ROOT / "template").rglob("*.jinja") if ".py" in path.name]
    assert len(sources) > 8
    for path in sources:
        text = path.read_text(encoding="utf-8")
        if re.fullmatch(r'{% include "template/kinds/" ~ stub ~ "/\w+.py.jinja" -%}\n', text):
            continue
        used = set(re.findall(r"{{ (.*?) }}", text))
        known = {
            "daemon_name",
            "package_name",
            "module_name",
            "class_name",
            "description",
            "messages",
            "template_version",
        }
        assert used <= known
        assert "{%" not in text
        assert "{#" not in text


def tool(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One of the programs in tools/, as a module."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    return importlib.import_module(name)


@pytest.mark.slow
def test_the_configuration_file_is_what_the_runtime_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    for path, text in tool("template_config", monkeypatch).render().items():
        assert path.read_text(encoding="utf-8") == text, "run: .venv/bin/python tools/template_config.py"


@pytest.mark.slow
def test_what_the_template_makes_is_what_its_golden_trees_show(monkeypatch: pytest.MonkeyPatch) -> None:
    golden = tool("golden", monkeypatch)
    shown = {
        str(path.relative_to(golden.GOLDEN)): path.read_text(encoding="utf-8")
        for path in golden.GOLDEN.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    made = golden.render()
    different = sorted(path for path in shown.keys() | made.keys() if shown.get(path) != made.get(path))
    assert not different, "the template makes something else now; run `make golden`, and look at what git diff shows"


@pytest.mark.slow
def test_its_test_notices_a_key_that_the_configuration_file_does_not_explain(generate: Generate) -> None:
    project = generate()
    component = project / "src" / "mydaemon" / "component.py"
    text = component.read_text(encoding="utf-8")
    text = text.replace("import Component, ", "import Component, Option, ").replace(
        "    def process", '    options = (Option("greeting", str, "hello", "what to say"),)\n\n    def process'
    )
    component.write_text(text, encoding="utf-8")
    done = in_project(project, "pytest", "-q", "-p", "no:cacheprovider", "tests/test_daemon.py")
    assert done.returncode == 1
    assert "FAILED tests/test_daemon.py::test_the_configuration_file_explains_every_key" in done.stdout
    printed = in_project(project, "mydaemon", "--action", "config-template").stdout
    (project / "etc" / "mydaemon.conf").write_text(printed, encoding="utf-8")
    passes(project, "pytest", "-q", "-p", "no:cacheprovider", "tests/test_daemon.py")


def test_its_runtime_is_pinned_to_the_range_of_this_version(generate: Generate) -> None:
    described = tomllib.loads((generate() / "pyproject.toml").read_text(encoding="utf-8"))
    assert described["project"]["dependencies"] == [f"piperkit{runtime_range(VERSION)}", "piperkit[metrics]"]


def test_its_tools_have_one_version_each(generate: Generate) -> None:
    """In its virtual environment and in the hooks; and it is the one that the checks here use."""
    project = generate()
    tools = tomllib.loads((project / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    hooks = yaml.safe_load((project / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    for hook in hooks[0]["hooks"]:
        assert set(hook.get("additional_dependencies", ())) <= set(tools)
    for tool in ("ruff", "mypy"):
        pinned = next(requirement for requirement in tools if requirement.startswith(tool))
        assert metadata.version(tool) == pinned.partition("==")[2], f"the template pins {pinned}; raise it, or this"


@pytest.mark.slow
def test_run_from_its_checkout_everything_is_under_var(generate: Generate, until: Callable[..., None]) -> None:
    project = generate()
    spool = project / "var" / "spool" / "mydaemon"
    process = subprocess.Popen(
        [sys.executable, "-m", "mydaemon", "--no-daemon", "--quiet", "--queue-out-dir", "next"],
        env={**os.environ, "PYTHONPATH": str(project / "src")},
        cwd="/",
    )
    try:
        until((project / "var" / "run" / "mydaemon.pid").exists, "the pid file")
        (spool / "tmp" / "one").write_text("hello")
        os.rename(spool / "tmp" / "one", spool / "incoming" / "one")
        until((project / "var" / "spool" / "next" / "incoming" / "one").exists, "the message")
        assert in_project(project, "mydaemon", "--action", "signal-term").returncode == 0
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert "The daemon has ended, with status 0" in (project / "var" / "log" / "mydaemon.log").read_text()
    assert {path.split("/")[0] for path in files(project)} <= {
        *ALWAYS,
        "LICENSE",
        "etc",
        "monitoring",
        "src",
        "systemd",
        "tests",
        "var",
    }


def test_a_mistake_in_its_configuration_file_ends_the_start_with_78(generate: Generate) -> None:
    """Which its unit does not answer with another start."""
    project = generate()
    (project / "etc" / "mydaemon.conf").write_text('{"queue_in_wiat": 3}')
    done = in_project(project, "mydaemon", "--no-daemon")
    assert done.returncode == 78
    assert "did you mean queue_in_wait?" in done.stderr
    unit = (project / "systemd" / "mydaemon.service").read_text()
    assert "RestartPreventExitStatus=64 78\n" in unit


@pytest.mark.slow
def test_ctrl_c_ends_a_daemon_in_the_foreground(generate: Generate, until: Callable[..., None]) -> None:
    project = generate()
    process = subprocess.Popen(
        [sys.executable, "-m", "mydaemon", "--no-daemon", "--quiet"],
        env={**os.environ, "PYTHONPATH": str(project / "src")},
        cwd=project,
    )
    try:
        log = project / "var" / "log" / "mydaemon.log"
        until(lambda: log.exists() and "The daemon starts" in log.read_text(), "the start")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
