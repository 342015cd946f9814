"""Workflows, of this repository and of the projects that the template makes: valid, safe, and their pins known."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from checkout import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
TEMPLATE = ROOT / "template" / "project"
SCHEMA = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
ZIZMOR = [Path(sys.executable).parent / "zizmor", "--quiet", "--offline", "--no-progress"]


def complaint(*command: str | Path) -> str:
    """What a tool finds wrong; empty: nothing."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout if done.returncode else ""


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_valid_and_safe(path: Path) -> None:
    assert complaint(*SCHEMA, "vendor.github-workflows", path) == ""
    assert complaint(*ZIZMOR, "--pedantic", path) == ""


def test_what_is_unsafe_is_found(tmp_path: Path) -> None:
    (tmp_path / "it.yml").write_text("on: pull_request_target\njobs: {it: {runs-on: x, steps: [{uses: a/b@v1}]}}\n")
    assert "a/b@v1" in complaint(*ZIZMOR, tmp_path / "it.yml")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_job_has_the_rights_that_it_needs_and_no_more(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    writes = {(name, right) for name, job in workflow["jobs"].items() for right, how in job["permissions"].items()
              if how == "write"}  # fmt: skip
    expected = {
        "test": set(),
        "docs": {("publish", "pages"), ("publish", "id-token")},
        "release": {("pypi", "id-token"), ("github", "contents")},
    }
    assert writes == expected[path.stem]


def test_every_supported_python_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    supported = [each.rpartition(" ")[2] for each in project["classifiers"] if re.search(r":: 3\.\d+$", each)]
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    assert workflow["jobs"]["fast"]["strategy"]["matrix"]["python"] == supported
    assert project["requires-python"] == f">={supported[0]}"


@pytest.mark.parametrize("project", ["transform", "everything"])
def test_the_workflow_of_a_project_is_safe_too(project: str) -> None:
    paths = list((ROOT / "tests/template/golden" / project).glob(".github/workflows/*.yml"))
    assert bool(paths) is (project == "everything")
    for path in paths:
        assert complaint(*ZIZMOR, path) == ""


def test_whoever_keeps_dependencies_up_finds_every_pin() -> None:
    """Renovate's expressions are JavaScript's; those that are used here mean the same to Python, but for the names."""
    assert complaint(*SCHEMA, "vendor.renovate", ROOT / ".github/renovate.json") == ""
    managers = json.loads((ROOT / ".github/renovate.json").read_text())["customManagers"]
    pins = re.compile(r"==\d[\d.]*|@[0-9a-f]{40}|(?:image|name): \w+:\d+")
    found = 0
    for path in [*filter(Path.is_file, TEMPLATE.rglob("*")), ROOT / ".pre-commit-config.yaml"]:
        name, text = str(path.relative_to(ROOT)), path.read_text()
        known = [
            match
            for manager in managers
            if any(re.search(pattern.strip("/"), name) for pattern in manager["managerFilePatterns"])
            for expression in manager["matchStrings"]
            for match in re.finditer(expression.replace("(?<", "(?P<"), text)
        ]
        for pin in pins.finditer(text):
            found += 1
            assert any(match.start() <= pin.start() and pin.end() <= match.end() for match in known), (
                f"{name}: {pin[0]}"
            )
    assert found >= 6
