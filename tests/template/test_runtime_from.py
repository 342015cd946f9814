"""Where a project gets its runtime from: the default for each kind of source, and each of the four kinds of answer."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from _pytest.mark import ParameterSet

from checkout import ALL, VERSION
from installing import BUILD, UV, with_uv
from piperkit.versions import runtime_range
from repository import commit_all, git
from template_project import Generate, answers, run_copier

GITHUB = "https://github.com/org/piper-template.git"


@pytest.fixture
def hub(template: Path, tmp_path: Path, bare_environment: dict[str, str]) -> dict[str, str]:
    """An environment where git finds github.com/org/piper-template, and an example.org, on this machine."""
    git(tmp_path, "clone", "--quiet", "--bare", str(template), "hub.git")
    # pip clones from git in parts, which a repository has to allow.
    git(tmp_path / "hub.git", "config", "uploadpack.allowFilter", "true")
    configuration = tmp_path / "gitconfig"
    address = f'[url "file://{tmp_path}/hub.git"]'
    addresses = (GITHUB, "https://gitlab.com/org/it.git", "https://example.org/it.git", "ssh://git@example.org/it.git")
    lines = [f"{address}\n\tinsteadOf = {each}\n" for each in (*addresses, "git@example.org:it.git")]
    configuration.write_text("".join(lines), encoding="utf-8")
    return {**bare_environment, "GIT_CONFIG_GLOBAL": str(configuration), "COPIER_CACHE_DIR": str(tmp_path / "cache")}


def release(hub: dict[str, str], tmp_path: Path, template: Path) -> None:
    """Tag the hub's state v0.1.0, and add a commit."""
    clone = tmp_path / "releasing"
    git(tmp_path, "clone", "--quiet", str(tmp_path / "hub.git"), str(clone))
    git(clone, "tag", "v0.1.0")
    commit_all(clone, "More")
    git(clone, "push", "--quiet", "--tags", "origin", "main")


def variable(project: Path) -> str:
    """The Makefile's RUNTIME_FROM."""
    lines = (project / "Makefile").read_text(encoding="utf-8").splitlines()
    return next(line.removeprefix("RUNTIME_FROM ?= ") for line in lines if line.startswith("RUNTIME_FROM ?= "))


def more(source: str, runtime: str) -> ParameterSet:
    """A row that is left out by `make test-fast`."""
    return pytest.param(source, runtime, marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "runtime"),
    [
        ("gh:org/piper-template", f"git+{GITHUB}"),
        more("gh:org/piper-template.git", f"git+{GITHUB}"),
        more("gl:org/it", "git+https://gitlab.com/org/it.git"),
        more(GITHUB, f"git+{GITHUB}"),
        more(f"git+{GITHUB}", f"git+{GITHUB}"),
        more("https://example.org/it.git", "git+https://example.org/it.git"),
        more("git@example.org:it.git", "git+ssh://git@example.org/it.git"),
        more("ssh://git@example.org/it.git", "git+ssh://git@example.org/it.git"),
    ],
)
def test_a_template_from_a_git_host_brings_its_runtime(
    hub: dict[str, str], tmp_path: Path, source: str, runtime: str
) -> None:
    project = tmp_path / "it"
    run_copier("copy", "--defaults", source, project, env=hub)
    recorded = answers(project)
    assert recorded["runtime_from"] == runtime
    # The same version as the template's: an answer without one, so that an update brings both up to date.
    assert variable(project) == f"{runtime}@{recorded['_commit']}"


@pytest.mark.slow
def test_a_released_template_brings_its_release(hub: dict[str, str], tmp_path: Path, template: Path) -> None:
    release(hub, tmp_path, template)
    run_copier("copy", "--defaults", "gh:org/piper-template", tmp_path / "it", env=hub)
    assert variable(tmp_path / "it") == f"git+{GITHUB}@v0.1.0"


@pytest.mark.slow
def test_a_version_that_the_answer_names_is_kept(hub: dict[str, str], tmp_path: Path) -> None:
    answer = f"runtime_from=git+{GITHUB}@main"
    run_copier("copy", "--defaults", "--data", answer, "gh:org/piper-template", tmp_path / "it", env=hub)
    assert variable(tmp_path / "it") == f"git+{GITHUB}@main"


def test_another_address_than_the_templates_gets_no_version(generate: Generate) -> None:
    assert variable(generate(runtime_from="git+ssh://git@example.org/fork.git")) == "git+ssh://git@example.org/fork.git"


def test_a_checkout_brings_itself(generate: Generate, template: Path) -> None:
    assert variable(generate(source=template)) == str(template)


def test_a_bare_repository_is_cloned_from(generate: Generate, template: Path, tmp_path: Path) -> None:
    repository = tmp_path / "a bare one.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(template), str(repository))
    git(repository, "tag", "v0.1.0")
    project = generate(source=repository)
    assert variable(project) == f"git+file://{quote(str(repository))}@v0.1.0"
    address = variable(project).removeprefix("git+").removesuffix("@v0.1.0")
    assert git(tmp_path, "ls-remote", "--tags", address).endswith("refs/tags/v0.1.0")


# -- installing it -----------------------------------------------------------------------------------------------

#: A part of a project's tests that does not take long, where it is not the tests that matter.
FAST = "ARGS=tests/test_daemon.py"


def make(project: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make there with this Python; what it prints is one text."""
    command = ["make", "-C", str(project), f"PYTHON={sys.executable}", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.run(command, env=environment, text=True, check=False, **pipes)  # type: ignore[call-overload]


@pytest.fixture(params=["pip", "uv"] if ALL or not UV.exists() else ["uv"])
def installs(request: pytest.FixtureRequest) -> Callable[[dict[str, str]], dict[str, str]]:
    """An environment for each of the programs that can make .venv."""
    return with_uv if request.param == "uv" else dict


def installed(project: Path) -> str:
    """How pip names the runtime that is installed."""
    command = [sys.executable, "-m", "pip", "--python", project / ".venv" / "bin" / "python", "freeze", "--quiet"]
    lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return next(line for line in lines if "piperkit" in line and not line.startswith("#"))


def wheels(template: Path, directory: Path) -> Path:
    """A folder with a wheel of the runtime."""
    command = [*BUILD, "--wheel", "--outdir", directory, template]
    subprocess.run(command, check=True, capture_output=True, env=with_uv(os.environ))
    return directory


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_make_test_and_lint_work_with_the_runtime_of_the_checkout(
    tmp_path: Path, template: Path, bare_environment: dict[str, str]
) -> None:
    """The whole way of a user, from a clone without tags, with an empty home and a space in the path."""
    clone = tmp_path / "a checkout"
    git(tmp_path, "clone", "--quiet", "--no-tags", str(template), str(clone))
    project = tmp_path / "my daemon"
    run_copier("copy", "--defaults", "--vcs-ref", "HEAD", clone, project)
    done = make(project, bare_environment, "test", "lint")
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout
    assert "All checks passed!" in done.stdout
    assert (project / ".venv" / "bin" / "my-daemon").exists()
    assert "Making .venv" not in make(project, bare_environment, "test", FAST).stdout
    done = make(project, bare_environment, "wheels")
    assert done.returncode == 0, done.stdout
    assert {f"piperkit-{VERSION}-py3-none-any.whl", "my_daemon-0.1.0-py3-none-any.whl"} <= set(
        os.listdir(project / "dist")
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_make_test_works_after_copying_from_github(
    hub: dict[str, str], tmp_path: Path, template: Path, installs: Callable[[dict[str, str]], dict[str, str]]
) -> None:
    release(hub, tmp_path, template)
    project = tmp_path / "mydaemon"
    run_copier("copy", "--defaults", "gh:org/piper-template", project, env=hub)
    environment = installs(hub)
    done = make(project, environment, "test", FAST)
    assert done.returncode == 0, done.stdout
    made_by_uv = "\nuv = " in (project / ".venv" / "pyvenv.cfg").read_text()
    assert made_by_uv == ("UV" in environment)
    released = git(tmp_path / "hub.git", "rev-parse", "v0.1.0").strip()
    assert installed(project) == f"piperkit @ git+{GITHUB}@{released}"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_folder_of_wheels_and_a_version_range_can_be_installed_from(
    generate: Generate,
    tmp_path: Path,
    template: Path,
    bare_environment: dict[str, str],
    installs: Callable[[dict[str, str]], dict[str, str]],
) -> None:
    """And another source than before makes .venv anew."""
    environment = installs(bare_environment)
    folder = wheels(template, tmp_path / "wheels with a space")
    project = generate(runtime_from=str(folder))
    done = make(project, environment, "test", FAST)
    assert done.returncode == 0, done.stdout
    assert installed(project).startswith("piperkit @ file://")

    # The folder stands for the package index here; an index that has no such package does not matter.
    index = wheels(template, tmp_path / "index")
    for variable, separator in (("PIP_FIND_LINKS", " "), ("UV_FIND_LINKS", ",")):
        environment[variable] = separator.join(filter(None, [environment.get(variable), str(index)]))
    wanted = f"piperkit{runtime_range(VERSION)}"
    done = make(project, environment, "test", FAST, f"RUNTIME_FROM={wanted}")
    assert done.returncode == 0, done.stdout
    assert f"Making .venv, with the runtime from {wanted}" in done.stdout
    assert installed(project) == f"piperkit=={VERSION}"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_runtime_out_of_range_is_refused_with_a_clear_word(
    generate: Generate, unpacked: Path, tmp_path: Path, bare_environment: dict[str, str]
) -> None:
    project = generate()
    described = unpacked / "pyproject.toml"
    other = tmp_path / "other"
    subprocess.run(["cp", "-r", str(unpacked), str(other)], check=True)
    text = described.read_text(encoding="utf-8")
    (other / "pyproject.toml").write_text(
        text.replace(f'version = "{VERSION}"', 'version = "99.0.0"'), encoding="utf-8"
    )
    done = make(project, bare_environment, "test", f"RUNTIME_FROM={other}")
    assert done.returncode != 0
    assert "Cannot install" in done.stdout
    assert "piperkit 99.0.0" in done.stdout
    assert "conflicting dependencies" in done.stdout
    assert not (project / ".venv" / ".runtime").exists()


@pytest.mark.slow
def test_a_path_without_a_runtime_is_named(
    generate: Generate, tmp_path: Path, bare_environment: dict[str, str]
) -> None:
    project = generate()
    done = make(project, bare_environment, "test", f"RUNTIME_FROM={tmp_path}/none")
    assert done.returncode != 0
    assert f"{tmp_path}/none holds no checkout and no wheel of piperkit" in done.stdout


@pytest.mark.parametrize(
    ("runtime", "source"),
    [
        ("piperkit>=0.1.2", None),
        ("/opt/piperkit", {"path": "/opt/piperkit"}),
        (f"git+{GITHUB}@v0.4.0", {"git": GITHUB, "rev": "v0.4.0"}),
        ("git+ssh://git@example.org/it.git", {"git": "ssh://git@example.org/it.git"}),
        ("git+ssh://git@example.org/it.git@abc", {"git": "ssh://git@example.org/it.git", "rev": "abc"}),
    ],
)
@pytest.mark.slow
def test_uv_finds_the_runtime_where_make_does(generate: Generate, runtime: str, source: dict[str, str] | None) -> None:
    project = tomllib.loads((generate(runtime_from=runtime) / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"].get("uv", {}).get("sources", {}).get("piperkit") == source
