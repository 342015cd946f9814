"""`piperctl new`: a project, made with good manners."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from repository import git
from template_project import answers

pytestmark = pytest.mark.slow

Piperctl = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def new(piperctl: Piperctl, unpacked: Path) -> Piperctl:
    """Call `piperctl new` with the template of this checkout, and without questions."""
    return lambda *arguments, **more: piperctl("new", "--template", unpacked, "--defaults", *arguments, **more)


def test_it_makes_a_project_and_says_what_comes_next(new: Piperctl, tmp_path: Path) -> None:
    done = new("birds", "--kind", "filter", "--description", "Keeps birds", "-d", "licence=ISC")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "birds is made in birds" in done.stdout
    assert "cd birds" in done.stdout
    assert "make test" in done.stdout
    assert "src/birds/component.py" in done.stdout
    recorded = answers(tmp_path / "birds")
    assert {"kind": "filter", "description": "Keeps birds", "licence": "ISC"}.items() <= recorded.items()
    assert "git init" in done.stdout
    assert not (tmp_path / "birds" / ".git").exists()


def test_an_empty_directory_will_do_and_the_current_one_too(new: Piperctl, tmp_path: Path) -> None:
    (tmp_path / "birds").mkdir()
    assert new(".", cwd=tmp_path / "birds").returncode == 0
    assert answers(tmp_path / "birds")["daemon_name"] == "birds"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prepare", "target", "complaint"),
    [
        ("mkdir birds; touch birds/x", "birds", "birds is not empty; name a directory that is not there yet"),
        (
            "mkdir birds; touch birds/.copier-answers.yml",
            "birds",
            "is a project already; for a newer template:",
        ),
        ("touch birds", "birds", "birds is there already, and is not a directory"),
        ("ln -s nowhere birds", "birds", "birds is there already, and is not a directory"),
        ("true", "none/birds", "none is not a directory; make it first: mkdir -p"),
        ("git init --quiet", "birds", "birds is inside the git repository"),
        ("mkdir birds; git init --quiet", "birds", "birds is inside the git repository"),
    ],
)
def test_what_is_in_the_way_is_said_and_nothing_is_made(
    new: Piperctl, tmp_path: Path, prepare: str, target: str, complaint: str
) -> None:
    subprocess.run(prepare, shell=True, cwd=tmp_path, check=True)
    before = sorted(tmp_path.rglob("[!.]*"))
    done = new(target)
    assert done.returncode == 73
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("[!.]*")) == before


def test_inside_makes_it_a_part_of_the_repository_around_it(new: Piperctl, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    done = new("birds", "--inside")
    assert done.returncode == 0, done.stderr
    assert "git init" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-d", "licens=MIT"], "the template does not ask for 'licens'; did you mean licence?"),
        (["-d", "class_name=X"], "the template does not ask for 'class_name'"),  # it is derived
        (["-d", "xyz=1"], "the template does not ask for 'xyz'; it asks for part, daemon_name"),
        (["-d", "licence"], "it must be KEY=VALUE"),
        (["--kind", "sink", "-d", "kind=source"], "kind is given twice: 'sink' and 'source'"),
        (["--kind", "pipe"], "Invalid choice for 'kind': 'pipe' is not in ['transform', 'filter', 'parse', 'router'"),
        (["--name", "My Daemon"], "must begin with a letter and hold only lower-case letters"),
        (
            ["--kind", "filter", "--messages", "bytes"],
            "the messages of a filter are text",
        ),
        (["--git", "--inside"], "--git and --inside exclude each other"),
    ],
)
def test_a_wrong_answer_is_an_error_that_says_what_would_be_right(
    new: Piperctl, tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    done = new("birds", *arguments, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 64
    assert complaint in done.stderr
    assert not (tmp_path / "birds").exists()


@pytest.mark.slow
def test_a_template_that_is_none_is_named(piperctl: Piperctl, tmp_path: Path) -> None:
    done = piperctl("new", "birds", "--defaults", "--template", tmp_path / "nowhere")
    assert done.returncode == 69
    assert f"the template {tmp_path}/nowhere cannot be reached" in done.stderr
    assert "--template ADDRESS" in done.stderr
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "copier.yml").write_text("name: {type: str}\n")
    done = piperctl("new", "birds", "--defaults", "--template", "other")
    assert done.returncode == 69
    assert "is not the template of a piper daemon" in done.stderr


@pytest.mark.slow
def test_a_version_of_the_template_can_be_named(piperctl: Piperctl, template: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    git(tmp_path, "clone", "--quiet", str(template), str(source))
    git(source, "tag", "v0.9.0")
    arguments = ["--defaults", "--template", str(source)]
    assert piperctl("new", "one", *arguments).returncode == 0
    assert answers(tmp_path / "one")["_commit"] == "v0.9.0"
    assert piperctl("new", "two", *arguments, "--vcs-ref", "v0.9.0").returncode == 0
    done = piperctl("new", "three", *arguments, "--vcs-ref", "v7")
    assert done.returncode == 64
    assert "has no version v7; it has: v0.9.0" in done.stderr


def test_git_makes_a_repository_with_its_first_commit_by_the_user(
    new: Piperctl, tmp_path: Path, bare_environment: dict[str, str]
) -> None:
    (tmp_path / "home" / ".gitconfig").write_text("[user]\nname = Jane Doe\nemail = jane@example.org\n")
    done = new("birds", "--git", env=bare_environment)
    assert done.returncode == 0, done.stderr
    commit = git(tmp_path / "birds", "log", "--format=%an <%ae>: %s")
    assert commit == "Jane Doe <jane@example.org>: birds, from its template"
    assert git(tmp_path / "birds", "status", "--porcelain") == ""
    assert "does not know who you are" not in done.stdout


def test_git_works_without_an_identity_and_says_how_to_set_it_right(
    new: Piperctl, tmp_path: Path, bare_environment: dict[str, str]
) -> None:
    done = new("birds", "--git", env=bare_environment)
    assert done.returncode == 0, done.stderr
    assert git(tmp_path / "birds", "log", "--format=%an <%ae>") == "piperctl <piperctl@localhost>"
    assert "git does not know who you are, so that commit is by piperctl <piperctl@localhost>" in done.stdout
    assert "commit --amend --reset-author" in done.stdout


def test_without_a_terminal_and_defaults_it_says_that_it_cannot_ask(piperctl: Piperctl, unpacked: Path) -> None:
    done = piperctl("new", "birds", "--template", unpacked)
    assert done.returncode == 64
    assert "there is no terminal to ask questions on" in done.stderr


@pytest.mark.slow
def test_on_a_terminal_it_asks_for_what_was_not_said(unpacked: Path, tmp_path: Path) -> None:
    """Enter takes each default."""
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "piperkit.cli", "new", "birds", "--template", str(unpacked), "--kind", "sink"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=child, stdout=child, stderr=child, close_fds=True) as process:
        os.close(child)
        seen = b""
        answered = 0
        while True:
            try:
                seen += os.read(parent, 65536)
            except OSError:
                break
            if seen.count("🎤".encode()) > answered:
                answered = seen.count("🎤".encode())
            os.write(parent, b"\r")
    os.close(parent)
    assert process.returncode == 0, seen.decode(errors="replace")
    assert b"Name of the daemon" in seen
    assert b"What the component does" not in seen
    assert answers(tmp_path / "birds")["kind"] == "sink"


@pytest.mark.parametrize("arguments", [["--help"], ["queue", "--help"], ["new", "--help"], ["add", "--help"]])
def test_help_does_not_wait_for_copier(arguments: list[str]) -> None:
    code = "import sys, piperkit.cli\ntry: piperkit.cli.app()\nexcept SystemExit: pass\n"
    code += "sys.exit('copier' in sys.modules or 'yaml' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.DEVNULL)


def test_no_address_of_a_template_is_built_in(piperctl: Piperctl, unpacked: Path, tmp_path: Path) -> None:
    bare = {key: value for key, value in os.environ.items() if key != "PIPER_TEMPLATE"}
    done = piperctl("new", "--defaults", "birds", env=bare)
    assert done.returncode == 64
    assert "--template" in done.stderr
    assert "PIPER_TEMPLATE" in done.stderr
    assert not (tmp_path / "birds").exists()
    done = piperctl("new", "--defaults", "birds", env={**bare, "PIPER_TEMPLATE": str(unpacked)})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "birds").exists()
