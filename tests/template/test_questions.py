"""What the template asks, what it takes for an answer, and what it keeps."""

from __future__ import annotations

import json
import keyword
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from checkout import ROOT
from needs import need
from repository import commit_all, git
from template_project import Generate, answers, run_copier

COPIER = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))
ASKED = {
    key: question for key, question in COPIER.items() if not key.startswith("_") and question.get("when") is not False
}


def test_it_asks_few_questions_and_each_has_a_help_and_a_default() -> None:
    assert list(ASKED) == [
        "part",
        "daemon_name",
        "component_name",
        "kind",
        "messages",
        "description",
        "author",
        "licence",
        "database",
        "systemd",
        "network",
        "metrics",
        "web",
        "container",
        "debian",
        "email",
        "ci",
        "runtime_from",
    ]
    assert all("help" in question and "default" in question for question in ASKED.values())


@pytest.mark.slow
def test_every_answer_is_recorded_and_nothing_else(generate: Generate, template: Path) -> None:
    found = answers(generate(source=template))
    assert found == {
        "_commit": git(template, "rev-parse", "--short", "HEAD").strip(),
        "_src_path": str(template),
        "daemon_name": "mydaemon",
        "description": "Passes each message on",
        "author": "The mydaemon developers",
        "licence": "MIT",
        "kind": "transform",
        "messages": "text",
        "database": "",
        "systemd": True,
        "network": False,
        "metrics": True,
        "web": False,
        "container": False,
        "debian": False,
        "ci": "none",
        "runtime_from": str(template),
    }


@pytest.mark.slow
def test_copying_needs_no_trust(template: Path, tmp_path: Path) -> None:
    """Extensions and tasks would ask for it; the migration does only where an update comes past it."""
    assert not {"_tasks", "_jinja_extensions"} & COPIER.keys()
    done = run_copier("copy", "--defaults", template, tmp_path / "it")
    assert "it is ready in" in done.stderr
    assert (tmp_path / "it" / "pyproject.toml").exists()


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("mydaemon", "mydaemon"),
        ("Mail Parser", "mail-parser"),
        ("mail_parser.v2", "mail-parser-v2"),
        ("2nd--try-", "nd-try"),
        ("queue", "queue-daemon"),  # a module of Python
        ("class", "class-daemon"),  # a keyword
        ("42", "mydaemon"),  # nothing is left of it
        ("Grüße", "gr-e"),
        ("a" * 30 + "-b", "a" * 30),
        ("x" * 40, "x" * 31),
    ],
)
@pytest.mark.slow
def test_the_name_is_by_default_made_of_the_folders(generate: Generate, folder: str, name: str) -> None:
    assert answers(generate(folder))["daemon_name"] == name


@pytest.mark.slow
def test_the_name_of_the_current_folder_counts_too(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    run_copier("copy", "--defaults", template, ".", cwd=tmp_path / "here")
    assert answers(tmp_path / "here")["daemon_name"] == "here"


NAME = "must begin with a letter and hold only lower-case letters"
TAKEN = "is taken: by Python, a package, a command or a system account"
LINE = "must be one line without double quotes or backslashes, and without a full stop at its end"
PERSON = "must be one name of 80 characters at most"
RUNTIME = "must be a version range such as piperkit>=0.1.2, the absolute path"


@pytest.mark.parametrize(
    ("key", "answer", "complaint"),
    [
        ("daemon_name", "", NAME),
        ("daemon_name", "MyDaemon", NAME),
        ("daemon_name", "my_daemon", NAME),
        ("daemon_name", "my daemon", NAME),
        ("daemon_name", "2nd", NAME),
        ("daemon_name", "-x", NAME),
        ("daemon_name", "x-", NAME),
        ("daemon_name", "a--b", NAME),
        ("daemon_name", "x\n", NAME),
        ("daemon_name", "größe", NAME),
        ("daemon_name", "a" * 32, NAME),  # useradd(8) takes no more than 31 of a group's name
        ("daemon_name", "import", TAKEN),  # could not be imported
        ("daemon_name", "json", TAKEN),  # would hide the module, or be hidden
        ("daemon_name", "piperkit", TAKEN),
        ("daemon_name", "pre-commit", TAKEN),  # the package pre_commit
        ("daemon_name", "www-data", TAKEN),  # an account that is there already
        ("description", "", "must not be empty"),
        ("description", " x", "must not be empty, nor begin or end with a space"),
        ("description", "x" * 81, "must have 80 characters at most, it has 81"),
        ("description", 'says "hello"', LINE),
        ("description", "a\\b", LINE),
        ("description", "a\nb", LINE),
        ("description", "Ends with a stop.", LINE),
        ("author", "", PERSON),
        ("author", "Jane <jane@example.org>", PERSON),
        ("author", 'The "best"', PERSON),
        ("licence", "GPL-3.0", "Invalid choice for 'licence'"),
        ("kind", "pipe", "Invalid choice for 'kind'"),
        ("messages", "xml", "Invalid choice for 'messages'"),
        ("ci", "jenkins", "Invalid choice for 'ci'"),
        ("runtime_from", "", RUNTIME),
        ("runtime_from", "0.1", RUNTIME),
        ("runtime_from", "pyzenkit>=0.1", RUNTIME),
        ("runtime_from", "piperkit>=0.1; rm -r x", RUNTIME),
        ("runtime_from", "relative/path", RUNTIME),  # would depend on where make is called
        ("runtime_from", "/with/$HOME", RUNTIME),  # make and the shell would read it
        ("runtime_from", "/with/`id`", RUNTIME),
        ("runtime_from", '/with/"quotes"', RUNTIME),
        ("runtime_from", "git+https://example.org/a b.git", RUNTIME),
    ],
)
@pytest.mark.slow
def test_a_wrong_answer_is_refused_with_its_reason(
    generate: Generate, tmp_path: Path, key: str, answer: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        generate(**{key: answer})
    assert not (tmp_path / "mydaemon").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("daemon_name", "a"),
        ("daemon_name", "a" * 31),
        ("daemon_name", "x2-y3-z4"),
        ("description", "Doesn't lose 50 % of {{ anything }}, “really”"),
        ("description", "x" * 80),
        ("author", "Åsa O'Neil & Søn"),
        ("runtime_from", "piperkit"),
        ("runtime_from", "piperkit>=0.1.2,<0.2"),
        ("runtime_from", "piperkit ~= 0.1.2"),
        ("runtime_from", "/a path/with it's spaces"),
        ("runtime_from", "git+ssh://git@example.org/group/it.git@v1.0"),
    ],
)
def test_a_right_answer_is_recorded_as_it_is(generate: Generate, key: str, answer: str) -> None:
    assert answers(generate(**{key: answer}))[key] == answer


def test_no_name_of_a_python_module_or_keyword_is_free() -> None:
    """For the Python that runs this; later ones are added as they come."""
    reserved = set(COPIER["reserved_names"]["default"].split())
    taken = {name.replace("_", "-") for name in {*sys.stdlib_module_names, *keyword.kwlist}}
    assert {name for name in taken if re.fullmatch(r"[a-z][a-z0-9-]*", name)} <= reserved


def test_no_command_of_the_system_is_free() -> None:
    """Installed in /usr/local/bin, a daemon would be what everybody gets who calls it."""
    reserved = set(COPIER["reserved_names"]["default"].split())
    assert {"ls", "cat", "sort", "test", "systemctl", "mount", "su", "git", "make", "tar", "ps"} <= reserved
    assert {"systemd", "modules", "ssl"} <= reserved  # directories of others in /usr/lib


@pytest.mark.parametrize(
    "email", ["", "jane", "jane@localhost", "Jane <jane@example.org>", "jane@example.org, joe@x.org"]
)
def test_a_maintainer_has_one_mail_address(generate: Generate, email: str) -> None:
    with pytest.raises(ValueError, match="must be a mail address"):
        generate(debian=True, email=email)


def test_no_class_that_components_and_their_tests_use_is_a_free_name() -> None:
    """The component of the daemon `file-source` would be a class FileSource, and hide what it is made from."""
    reserved = set(COPIER["reserved_names"]["default"].split())
    used: set[str] = set()
    for path in (ROOT / "template" / "kinds").rglob("*.py.jinja"):
        for names in re.findall(r"^(?:from \S+ )?import (.*)", path.read_text(), re.MULTILINE):
            used |= set(names.split(", "))
    for name in used:
        daemon = re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
        if "".join(word.capitalize() for word in daemon.split("-")) == name:
            assert daemon in reserved
    assert {"FileSource", "PiperDaemon"} <= used


@pytest.mark.slow
def test_a_clone_without_tags_can_be_copied_at_head(template: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--no-tags", str(template), str(clone))
    run_copier("copy", "--defaults", "--vcs-ref", "HEAD", clone, tmp_path / "it")
    assert answers(tmp_path / "it")["runtime_from"] == str(clone)


def test_a_copy_without_git_can_be_copied(generate: Generate, unpacked: Path) -> None:
    found = answers(generate(source=unpacked))
    assert found["runtime_from"] == str(unpacked)
    assert "_commit" not in found


@pytest.mark.slow
def test_changes_that_are_not_committed_are_in_a_copy_of_head(template: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(template), str(clone))
    with open(clone / "template" / "project" / "Makefile.jinja", "a", encoding="utf-8") as file:
        file.write("# changed\n")
    run_copier("copy", "--defaults", "--vcs-ref", "HEAD", clone, tmp_path / "it")
    assert (tmp_path / "it" / "Makefile").read_text(encoding="utf-8").endswith("# changed\n")


@pytest.mark.slow
def test_a_relative_source_is_recorded_so_that_an_update_finds_it(template: Path, tmp_path: Path) -> None:
    relative = os.path.relpath(template, tmp_path)
    run_copier("copy", "--defaults", relative, "it", cwd=tmp_path)
    found = answers(tmp_path / "it")
    assert found["_src_path"] == found["runtime_from"] == str(template)
    git(tmp_path / "it", "init", "--quiet")
    commit_all(tmp_path / "it", "New")
    run_copier("update", "--defaults", cwd=tmp_path / "it")


@pytest.mark.slow
@pytest.mark.parametrize(
    "description",
    [
        "Mail: takes headers apart",
        "100% of %n and %%",
        "Costs $HOME or $(x) `y`",
        "{{ braces }} {% x %} {0}",
        "it's 'so'",
        "# not; a comment",
        "Grüße, 日本",
        "- a list",
        "[a] <b> & c",
        "ends with:",
    ],
)
def test_description_of_any_words_is_taken_by_all_who_read_it(generate: Generate, description: str) -> None:
    project = generate(description=description, systemd=True, metrics=True, debian=True)
    assert tomllib.loads((project / "pyproject.toml").read_text())["project"]["description"] == description
    (package,) = (project / "src").iterdir()
    for module in package.glob("*.py"):
        compile(module.read_text(), module.name, "exec")
    assert description in (project / "README.md").read_text()
    (dashboard,) = (project / "monitoring").glob("*.dashboard.json")
    assert json.loads(dashboard.read_text())["description"] == description
    need("systemd", shutil.which("systemd-sysusers") is not None, "systemd-sysusers")
    (account,) = (project / "systemd" / "sysusers.d").glob("*.conf")
    done = subprocess.run(["systemd-sysusers", "--dry-run", account], capture_output=True, text=True, check=False)
    assert "not a valid" not in done.stderr
    assert done.returncode == 0, done.stderr
