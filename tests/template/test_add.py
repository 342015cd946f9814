"""`piperctl add`: a component or a daemon more, beside what the user wrote, which updates by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from installing import with_uv
from repository import commit_all, git
from template_project import answers, run_copier

pytestmark = pytest.mark.slow

Piperctl = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def origin(template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A released template, and a project made from it that its owner has worked on."""
    source = tmp_path_factory.mktemp("released") / "template"
    shutil.copytree(template, source, symlinks=True)
    git(source, "tag", "v0.2.0")
    directory = tmp_path_factory.mktemp("made") / "mydaemon"
    run_copier("copy", "--defaults", "--data", "metrics=false", source, directory)
    git(directory, "init", "--quiet", "--initial-branch", "main")
    commit_all(directory, "New")
    for path in (directory / "src" / "mydaemon" / "component.py", directory / "Makefile", directory / "README.md"):
        with open(path, "a", encoding="utf-8") as file:
            file.write("\n\n# the owner's\n")
    commit_all(directory, "Work")
    return source, directory


@pytest.fixture
def source(origin: tuple[Path, Path]) -> Iterator[Path]:
    """The project's template, for later versions of it; it is as it was afterwards."""
    yield origin[0]
    git(origin[0], "reset", "--quiet", "--hard", "v0.2.0")
    for tag in set(git(origin[0], "tag", "--list").split()) - {"v0.2.0"}:
        git(origin[0], "tag", "--delete", tag)


@pytest.fixture
def project(origin: tuple[Path, Path], tmp_path: Path) -> Path:
    """The test's own copy of the project."""
    directory = tmp_path / "mydaemon"
    shutil.copytree(origin[1], directory, symlinks=True)
    return directory


def changed(project: Path) -> list[str]:
    """What git sees: new files, and those that are not as they were."""
    return git(project, "status", "--porcelain", "--untracked-files=all").splitlines()


def passes(project: Path, *command: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(project / "src")}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_component_is_a_module_and_its_test_and_nothing_else_is_touched(piperctl: Piperctl, project: Path) -> None:
    done = piperctl("add", "component", "strip-tags", "--kind", "filter", cwd=project)
    assert done.returncode == 0, done.stderr
    assert changed(project) == [
        "?? .copier-answers.strip-tags.yml",
        "?? src/mydaemon/strip_tags.py",
        "?? tests/test_strip_tags.py",
    ]
    assert "from mydaemon.strip_tags import StripTags" in done.stdout
    assert "components=[..., StripTags()]" in done.stdout


def test_a_daemon_has_a_package_and_all_that_the_first_one_has(piperctl: Piperctl, project: Path) -> None:
    done = piperctl("add", "daemon", "mail-sink", "--kind=sink", "--project", project)
    assert done.returncode == 0, done.stderr
    assert changed(project) == [
        " M pyproject.toml",
        "?? .copier-answers.mail-sink.yml",
        "?? etc/mail-sink.conf",
        *(
            f"?? src/mail_sink/{name}"
            for name in ("__init__.py", "__main__.py", "component.py", "daemon.py", "py.typed")
        ),
        *(f"?? systemd/mail-sink{unit}" for unit in (".service", ".target", "@.service")),
        *(f"?? systemd/{kind}.d/mail-sink.conf" for kind in ("sysusers", "tmpfiles")),
        *(f"?? tests/test_mail_sink_{part}.py" for part in ("component", "daemon")),
    ]
    assert [line for line in git(project, "diff", "--unified=0").splitlines() if line[:1] in "+-"][2:] == [
        '+mail-sink = "mail_sink.daemon:main"'
    ]
    assert "make run DAEMON=mail-sink" in done.stdout


@pytest.mark.slow
def test_what_was_added_passes_the_projects_own_checks_and_runs(
    piperctl: Piperctl, project: Path, tmp_path: Path
) -> None:
    assert piperctl("add", "daemon", "mail-sink", "--kind=sink", cwd=project).returncode == 0
    assert piperctl("add", "component", "only-mail", "--kind=filter", "--daemon=mydaemon", cwd=project).returncode == 0
    daemon = project / "src" / "mydaemon" / "daemon.py"
    text = daemon.read_text(encoding="utf-8")
    text = text.replace("components=[Mydaemon()]", "components=[OnlyMail(), Mydaemon()]")
    daemon.write_text(text.replace("import Mydaemon\n", "import Mydaemon\nfrom mydaemon.only_mail import OnlyMail\n"))
    environment = {**os.environ, "PYTHONPATH": str(project / "src")}
    configuration = project / "etc" / "mydaemon.conf"
    with open(configuration, "w", encoding="utf-8") as file:
        command = [sys.executable, "-m", "mydaemon", "--action", "config-template"]
        subprocess.run(command, env=environment, stdout=file, check=True)
    passes(project, "ruff", "check", "--no-cache")
    passes(project, "ruff", "format", "--check", "--no-cache")
    passes(project, "mypy", "--strict", "--cache-dir", str(tmp_path / "mypy"))
    passes(project, "pytest", "-q", "-p", "no:cacheprovider", "-k", "not wherever_it_is_killed")


@pytest.mark.slow
def test_what_was_added_updates_by_itself_and_keeps_what_its_owner_wrote(
    piperctl: Piperctl, source: Path, project: Path
) -> None:
    assert piperctl("add", "daemon", "mail-sink", "--kind=sink", cwd=project).returncode == 0
    assert piperctl("add", "component", "only-mail", "--kind=filter", "--daemon=mail-sink", cwd=project).returncode == 0
    own = [project / "src" / "mail_sink" / name for name in ("component.py", "only_mail.py")]
    own += [project / "tests" / f"test_{name}.py" for name in ("mail_sink_component", "only_mail")]
    for path in own:
        path.write_text("# rewritten\n", encoding="utf-8")
    own.pop().unlink()
    commit_all(project, "Added, and rewritten")
    for path, old in {
        source / "template" / "daemon" / "src" / "{{ package_name }}" / "daemon.py.jinja": '"""The daemon:',
        source / "template" / "kinds" / "sink" / "component.py.jinja": '"""Where',
        source / "template" / "kinds" / "filter" / "component.py.jinja": '"""Which',
        source / "template" / "kinds" / "filter" / "test_component.py.jinja": '"""Which',
    }.items():
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, f"{old} (new)"), encoding="utf-8")
    commit_all(source, "More", "v0.3.0")

    run_copier("update", "--defaults", "--answers-file", ".copier-answers.mail-sink.yml", project)
    assert changed(project) == [" M .copier-answers.mail-sink.yml", " M src/mail_sink/daemon.py"]
    commit_all(project, "Updated")
    run_copier("update", "--defaults", "--answers-file", ".copier-answers.only-mail.yml", project)
    assert changed(project) == [" M .copier-answers.only-mail.yml"]
    assert {path.read_text() for path in own} == {"# rewritten\n"}


@pytest.mark.slow
def test_what_it_imports_is_said_until_pyproject_names_it(piperctl: Piperctl, project: Path) -> None:
    done = piperctl("add", "component", "first-sink", "--kind", "sink-postgresql", cwd=project)
    assert 'among the dependencies in pyproject.toml:\n\n    "psycopg[binary]>=3.2,<4",\n' in done.stdout, done.stderr
    described = project / "pyproject.toml"
    described.write_text(
        described.read_text().replace("dependencies = [", 'dependencies = ["psycopg[binary]>=3.2,<4", ', 1)
    )
    assert "pyproject" not in piperctl("add", "component", "next-sink", "--kind", "sink-postgresql", cwd=project).stdout


def test_it_is_the_version_of_the_template_that_the_project_is_at(
    piperctl: Piperctl, source: Path, project: Path
) -> None:
    commit_all(source, "More", "v0.3.0")
    assert piperctl("add", "component", "strip-tags", cwd=project).returncode == 0
    for name in (".copier-answers.yml", ".copier-answers.strip-tags.yml"):
        assert "_commit: v0.2.0\n" in (project / name).read_text()


@pytest.mark.slow
def test_a_component_says_which_daemon_where_there_are_several(piperctl: Piperctl, project: Path) -> None:
    assert piperctl("add", "daemon", "second", cwd=project).returncode == 0
    done = piperctl("add", "component", "strip-tags", cwd=project)
    assert done.returncode == 64
    assert "say which one gets it: --daemon mydaemon|second" in done.stderr
    done = piperctl("add", "component", "strip-tags", "--daemon=secnod", cwd=project)
    assert "this project has no daemon secnod; did you mean second?" in done.stderr
    assert piperctl("add", "component", "strip-tags", "--daemon=second", cwd=project).returncode == 0
    assert (project / "src" / "second" / "strip_tags.py").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["component", "daemon"], 64, "daemon is taken"),  # the module daemon.py
        (["component", "component"], 64, "component is taken"),
        (["component", "message"], 64, "message is taken"),  # would hide the class that it imports
        (["component", "Strip_Tags"], 64, "must begin with a letter and hold only lower-case letters"),
        (["component", "other"], 73, "src/mydaemon/other.py is there already, and would be replaced"),
        (["daemon", "mydaemon"], 73, "is there already, and would be replaced; choose another name"),
        (["daemon", "sqlite3"], 64, "sqlite3 is taken: by Python"),
        (["daemon", "second", "-d", "kidn=sink"], 64, "the template does not ask for 'kidn'; did you mean kind?"),
        (["component", "x", "--kind=sinc"], 64, "Invalid choice for 'kind': 'sinc'"),
    ],
)
def test_what_cannot_be_added_is_said_and_nothing_is_touched(
    piperctl: Piperctl, project: Path, arguments: list[str], status: int, complaint: str
) -> None:
    (project / "src" / "mydaemon" / "other.py").write_text("# the owner's\n")
    commit_all(project, "Another module")
    done = piperctl("add", *arguments, cwd=project)
    assert complaint in done.stderr
    assert done.returncode == status
    assert changed(project) == []


@pytest.mark.slow
def test_the_same_name_twice_is_refused(piperctl: Piperctl, project: Path) -> None:
    assert piperctl("add", "component", "strip-tags", cwd=project).returncode == 0
    before = changed(project)
    done = piperctl("add", "component", "strip-tags", cwd=project)
    assert done.returncode == 73
    assert "the project has a strip-tags; choose another name" in done.stderr
    assert changed(project) == before


def test_outside_of_a_project_it_says_so(piperctl: Piperctl, tmp_path: Path) -> None:
    done = piperctl("add", "component", "strip-tags", cwd=tmp_path)
    assert done.returncode == 66
    assert "was not made from the template: it has no .copier-answers.yml" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scripts", "whole"),
    [
        ('[project.scripts]\nmydaemon = "mydaemon.daemon:main"\n\n[tool.x]\ny = 1\n', True),
        ('[project.scripts] # the commands\nmydaemon = "mydaemon.daemon:main"\n', False),  # not in a form that we know
        ('scripts = { mydaemon = "mydaemon.daemon:main" }\n', False),
        ("", False),
    ],
)
def test_a_pyproject_that_its_owner_has_arranged_otherwise_is_left_alone(
    piperctl: Piperctl, project: Path, scripts: str, whole: bool
) -> None:
    path = project / "pyproject.toml"
    path.write_text(f'[project]\nname = "mydaemon"\nversion = "1"\n{scripts}', encoding="utf-8")
    before = path.read_text()
    done = piperctl("add", "daemon", "second", cwd=project)
    assert done.returncode == 0
    if whole:
        found = tomllib.loads(path.read_text())
        assert found["project"]["scripts"] == {"mydaemon": "mydaemon.daemon:main", "second": "second.daemon:main"}
        assert found["tool"] == {"x": {"y": 1}}
    else:
        assert path.read_text() == before
        assert 'second = "second.daemon:main"' in done.stdout.partition("Left to do")[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_make_works_for_two_daemons(
    piperctl: Piperctl, project: Path, template: Path, tmp_path: Path, bare_environment: dict[str, str]
) -> None:
    """Install from wheels into a directory, run the second daemon's command from there, uninstall."""
    assert piperctl("add", "daemon", "mail-sink", "--kind=sink", cwd=project).returncode == 0
    root = tmp_path / "root"
    make = ["make", "-C", str(project), f"PYTHON={sys.executable}", f"RUNTIME_FROM={template}"]
    environment = with_uv(bare_environment)
    subprocess.run([*make, "install", f"DESTDIR={root}"], env=environment, check=True, stdout=subprocess.DEVNULL)
    for daemon in ("mydaemon", "mail-sink"):
        command = (root / "usr/local/bin" / daemon).read_text().replace('"/usr', f'"{root}/usr')
        run = [sys.executable, "-sP", "-c", command, "--action", "config-view"]
        assert f'= "{daemon}"  (default)' in subprocess.run(run, capture_output=True, text=True, check=True).stdout
        assert (root / "etc" / f"{daemon}.conf").exists()
        assert (root / "usr/local/lib/systemd/system" / f"{daemon}@.service").exists()
        assert (root / "usr/local/lib/sysusers.d" / f"{daemon}.conf").exists()
    subprocess.run([*make, "uninstall", f"DESTDIR={root}"], env=bare_environment, check=True, stdout=subprocess.DEVNULL)
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) == [
        "etc/mail-sink.conf",
        "etc/mydaemon.conf",
    ]


@pytest.mark.slow
def test_the_answers_of_a_daemon_follow_the_projects(piperctl: Piperctl, project: Path) -> None:
    assert piperctl("add", "daemon", "second", "--kind=source", cwd=project).returncode == 0
    assert answers(project)["metrics"] is False
    added = (project / ".copier-answers.second.yml").read_text()
    assert "metrics: false" in added
    assert "part: daemon" in added
    assert "licence" not in added
