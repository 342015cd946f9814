"""Imports run one way, from what users see down to plain values; and a queue needs the standard library only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import piperkit

RUNTIME = Path(piperkit.__file__).parent

#: From top to bottom. A module may import from its own layer and from those below it.
LAYERS = (
    ("cli", "demo", "testing", "crashwalk"),
    ("project",),
    ("daemon",),
    ("filer",),
    ("batch", "component", "source"),
    ("config",),
    ("option",),
    ("dirq",),
    ("queue",),
    ("pause", "retry", "versions"),
    ("message",),
    ("errors", "zenkit"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def modules() -> list[Path]:
    return [path for path in sorted(RUNTIME.rglob("*.py")) if path.parent != RUNTIME or path.stem != "__init__"]


def imported(path: Path) -> set[str]:
    """The layers of piperkit that a module imports at run time, wherever in it."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("piperkit."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "piperkit":
            names |= {alias.name for alias in node.names} & LEVEL.keys()
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(RUNTIME)))
def test_imports_run_one_way(path: Path) -> None:
    layer = path.relative_to(RUNTIME).parts[0].removesuffix(".py")
    assert layer in LEVEL, f"{path.name} belongs to no layer"
    upwards = {name for name in imported(path) if LEVEL[name] < LEVEL[layer]}
    assert not upwards


def test_every_public_name_is_there() -> None:
    namespace: dict[str, object] = {}
    exec("from piperkit import *", namespace)
    assert namespace.keys() >= set(piperkit.__all__)
    assert piperkit.__all__ == sorted(piperkit.__all__)


def test_queue_imports_only_the_standard_library() -> None:
    check = (
        "import sys, piperkit.dirq.view, piperkit.retry; from piperkit import DirectoryQueue, Message, Unavailable;"
        "print(*{name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names) - {'__main__'})"
    )
    done = subprocess.run([sys.executable, "-S", "-c", check], capture_output=True, text=True, check=True,
                          env={"PYTHONPATH": str(RUNTIME.parent)})  # fmt: skip
    assert done.stdout.split() == ["piperkit"]
