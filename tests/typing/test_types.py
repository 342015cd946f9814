"""The public interface has the types that users count on, for mypy and for pyright, both strict; so has what they get.

basedpyright is pyright, with the Node.js that it needs as a package.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import copier
import pytest

from checkout import ROOT, copy_parts

HERE = Path(__file__).parent
#: The answers that each kind of component comes from.
KINDS: dict[str, dict[str, str]] = {
    **{
        path.name: {"kind": path.name}
        for path in (ROOT / "template" / "kinds").iterdir()
        if not path.name.startswith("transform-")
    },
    **{messages: {"messages": messages} for messages in ("text", "bytes", "json")},
}


def passes(*command: str, directory: Path) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def pyright(*sources: Path, directory: Path) -> None:
    """Check with the rules that pyright calls strict, and refuse needless comments."""
    rules = {
        "typeCheckingMode": "strict",
        "enableTypeIgnoreComments": False,
        "reportUnnecessaryTypeIgnoreComment": True,
    }
    configuration = directory / "pyright.json"
    configuration.write_text(json.dumps({**rules, "include": [str(source) for source in sources]}))
    passes("basedpyright", "--project", str(configuration), "--pythonpath", sys.executable, directory=directory)


def mypy(*sources: Path, directory: Path) -> None:
    passes("mypy", "--strict", "--config-file=", *map(str, sources), directory=directory)


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which mypy has checked the interface, and so knows the runtime."""
    directory = tmp_path_factory.mktemp("mypy")
    mypy(HERE / "right.py", HERE / "wrong.py", directory=directory)
    return directory


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A project with each kind of component."""
    directory = tmp_path_factory.mktemp("projects")
    copy_parts(directory / "template")  # without git, and so with what is not committed
    for name, answers in KINDS.items():
        copier.run_copy(str(directory / "template"), directory / f"my{name}", answers, defaults=True, quiet=True)
    return [directory / f"my{name}" for name in KINDS]


@pytest.mark.slow
def test_mypy_sees_the_types_and_the_mistakes(checked: Path) -> None:
    assert (checked / ".mypy_cache").exists()


@pytest.mark.slow
def test_pyright_sees_the_types_and_the_mistakes(tmp_path: Path) -> None:
    pyright(HERE / "right.py", HERE / "wrong.py", directory=tmp_path)


@pytest.mark.slow
def test_mypy_is_content_with_every_kind_of_project(projects: list[Path], checked: Path) -> None:
    for project in projects:
        shutil.copytree(checked / ".mypy_cache", project / ".mypy_cache")
        mypy(Path("src"), Path("tests"), directory=project)


@pytest.mark.slow
def test_pyright_is_content_with_every_kind_of_project(projects: list[Path]) -> None:
    for project in projects:
        pyright(Path("src"), Path("tests"), directory=project)
