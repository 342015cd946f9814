"""Template and runtime that do not go together: a daemon says so at its start, with the command that mends it."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import shutil
import site
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import copier
import pytest
from packaging.specifiers import SpecifierSet

import piperkit
from checkout import ROOT, copy_parts
from installing import with_uv
from piperkit import versions
from upgrade_project import TEMPLATE

RUNTIME = Path(piperkit.__file__).parent


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project made from the working tree."""
    source = tmp_path / "template"
    copy_parts(source)
    copier.run_copy(str(source), tmp_path / "birds", {"daemon_name": "birds"}, defaults=True, quiet=True)
    return tmp_path / "birds"


@pytest.fixture
def runtime(tmp_path: Path) -> Callable[[str], Path]:
    """The runtime, installed in a directory of its own under another version."""

    def install(version: str) -> Path:
        site = tmp_path / version
        shutil.copytree(RUNTIME, site / "piperkit", ignore=shutil.ignore_patterns("__pycache__"))
        facts = site / f"piperkit-{version}.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: piperkit\nVersion: {version}\n")
        return site

    return install


def start(code: Path, *runtime: Path) -> subprocess.CompletedProcess[str]:
    """Start the daemon, which ends when it has nothing to do."""
    environment = {**os.environ, "PYTHONPATH": ":".join(map(str, [*runtime, code]))}
    command = [sys.executable, "-c", "from birds.daemon import build; import sys; sys.exit(build([]).run_until_idle())"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/")


@pytest.mark.slow
def test_versions_that_go_together_start(project: Path, runtime: Callable[[str], Path]) -> None:
    major, minor = versions.series(importlib.metadata.version("piperkit"))
    assert start(project / "src").returncode == 0
    assert start(project / "src", runtime(f"{major}.{minor}.99")).returncode == 0


@pytest.mark.parametrize(("version", "word", "mend"), [
    ("0.0.7", "older", "make -C {} clean test"),
    ("99.0.0", "newer", "piperctl upgrade {}"),
])  # fmt: skip
@pytest.mark.slow
def test_others_end_the_start_with_78_and_the_command(
    project: Path, runtime: Callable[[str], Path], version: str, word: str, mend: str
) -> None:
    (project / "etc" / "birds.conf").write_text('{"key_of_another_version": 1}')  # is not what it complains of
    done = start(project / "src", runtime(version))
    assert done.returncode == 78
    assert f"runs with piperkit {version}, which is {word}" in done.stderr
    assert done.stderr.rstrip().endswith(f"mend that with: {mend.format(shlex.quote(str(project)))}")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_command_mends_it(project: Path, runtime: Callable[[str], Path]) -> None:
    """In the virtual environment of a project, with make."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", project / ".venv"], check=True)
    (packages,) = (project / ".venv" / "lib").glob("python*/site-packages")
    places = [runtime("0.0.7"), project / "src", *site.getsitepackages()]
    (packages / "places.pth").write_text("".join(f"{place}\n" for place in places))
    (project / ".venv" / ".runtime").touch()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "PYTHON"))}
    python = project / ".venv" / "bin" / "python"
    code = "from birds.daemon import build; import sys; sys.exit(build([]).run_until_idle())"
    done = subprocess.run([python, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    command = done.stderr.rpartition("mend that with: ")[2]
    # Its tests are not the matter here.
    shorter = {**with_uv(environment), "PYTEST_ADDOPTS": "-k 'not wherever_it_is_killed'"}
    subprocess.run(command, shell=True, env=shorter, stdout=subprocess.DEVNULL, check=True)
    assert subprocess.run([python, "-c", code], env=environment, check=False).returncode == 0


@pytest.mark.slow
def test_installed_it_says_where_to_do_it(project: Path, runtime: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(project / "src", tmp_path / "a" / "b" / "site")
    done = start(tmp_path / "a" / "b" / "site", runtime("99.0.0"))
    assert done.returncode == 78
    assert done.stderr.rstrip().endswith("in its project: piperctl upgrade && make wheels && sudo make install")


@pytest.mark.slow
def test_an_action_still_answers(project: Path, runtime: Callable[[str], Path]) -> None:
    """Whoever looks into the trouble needs them."""
    environment = {**os.environ, "PYTHONPATH": f"{runtime('99.0.0')}:{project / 'src'}"}
    command = [sys.executable, "-m", "birds", "--action", "config-check"]
    assert subprocess.run(command, env=environment, check=False).returncode == 0


@pytest.mark.parametrize(
    ("template", "good", "bad"),
    [
        ("0.1", ("0.1.0", "0.1.9", "0.1.2.dev1"), ("0.0.9", "0.2.0", "1.1.0")),  # before 1.0, every minor may break
        ("1.2", ("1.2.0", "1.3.0", "1.10.0"), ("1.1.9", "2.0.0", "0.9.0")),  # then only a major one
    ],
)
def test_a_runtime_goes_with_the_templates_of_its_series(
    template: str, good: tuple[str, ...], bad: tuple[str, ...]
) -> None:
    for version in good:
        versions.check(template, version, None)
    for version in bad:
        with pytest.raises(versions.VersionMismatch):
            versions.check(template, version, None)


@pytest.mark.parametrize(
    ("template", "good", "bad"),
    [
        ("0.5.0", ("0.5.0", "0.5.7"), ("0.4.9", "0.6.0", "1.0.0")),
        (
            "1.0.0rc1",
            ("1.0.0rc1", "1.0.0rc2", "1.0.0", "1.3.0"),
            ("0.9.0", "2.0.0"),
        ),  # pip leaves out others' candidates
        ("1.2.0", ("1.2.0", "1.9.0"), ("1.1.0", "1.2.0rc1", "2.0.0")),
    ],
)
def test_the_range_that_a_project_asks_for_holds_what_goes_with_it(
    template: str, good: tuple[str, ...], bad: tuple[str, ...]
) -> None:
    asked = SpecifierSet(versions.runtime_range(template))
    assert [version for version in (*good, *bad) if version in asked] == [*good]
    versions.check(versions.runtime_range(template)[2:].partition(",")[0], good[0], None)


def test_every_generated_daemon_says_which_template_made_it() -> None:
    daemons = [path for path in TEMPLATE.rglob("*.jinja") if "anchor=__file__" in path.read_text(encoding="utf-8")]
    assert daemons
    for path in daemons:
        assert 'template="{{ template_version }}"' in path.read_text(encoding="utf-8"), path.relative_to(ROOT)
