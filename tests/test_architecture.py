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
    ("cli", "demo", "testing", "crashwalk", "top", "web"),
    ("feed",),
    ("pipeline",),
    ("doctor",),
    ("upgrade",),
    ("project",),
    ("daemon",),
    ("filer",),
    ("amqp", "sources"),
    ("batch", "component", "source"),
    ("config",),
    ("option",),
    ("overview",),
    ("engines", "flow"),
    ("dirq", "postgres"),
    ("host",),
    ("queue", "record"),
    ("operating", "selection"),
    ("pause", "retry", "versions"),
    ("message", "naming"),
    ("errors", "statistics", "text", "timelimit", "zenkit"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def modules() -> list[Path]:
    return [path for path in sorted(RUNTIME.rglob("*.py")) if path.parent != RUNTIME or path.stem != "__init__"]


def names_of_modules() -> dict[str, Path]:
    """Every module of piperkit by its full name."""
    found = {}
    for path in RUNTIME.rglob("*.py"):
        parts = path.relative_to(RUNTIME.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = names_of_modules()


def imported(path: Path) -> set[str]:
    """The modules of piperkit that a module imports, wherever in it, and be it for types only."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "piperkit":
            names |= {f"{node.module}.{alias.name}" for alias in node.names if f"{node.module}.{alias.name}" in MODULES}
            if not all(f"{node.module}.{alias.name}" in MODULES for alias in node.names):
                names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name in MODULES}
    return names


def layers(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if "." in name}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(RUNTIME)))
def test_imports_run_one_way(path: Path) -> None:
    layer = path.relative_to(RUNTIME).parts[0].removesuffix(".py")
    assert layer in LEVEL, f"{path.name} belongs to no layer"
    upwards = {name for name in layers(imported(path)) if LEVEL[name] < LEVEL[layer]}
    assert not upwards


def test_no_modules_import_one_another_in_a_circle() -> None:
    left = {name: imported(path) - {name, "piperkit"} for name, path in MODULES.items() if name != "piperkit"}
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    assert not left, "each of these imports another one of them"


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
