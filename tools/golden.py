"""Write what the template makes into tests/template/golden/, so that a change to it shows in full: `make golden`.

The folder `transform` holds all of a project with the answers that nobody has to give. Each other folder has another
answer, or is added to such a project, and holds only the files that are not the same there, but for the daemon's name.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import copier

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "template" / "golden"
NAME = "mydaemon"
BASE = "transform"
#: All but a transform, whose folders there are for what its messages hold.
KINDS = sorted(path.name for path in (ROOT / "template" / "kinds").iterdir() if not path.name.startswith("transform-"))
PARTS: dict[str, dict[str, Any]] = {
    BASE: {},
    "transform-bytes": {"messages": "bytes"},
    "transform-json": {"messages": "json"},
    **{kind: {"kind": kind} for kind in KINDS},
    "everything": {
        "web": True,
        "network": True,
        "container": True,
        "debian": True,
        "email": "jane@example.org",
        "ci": "github",
    },
    "as-little-as-possible": {"licence": "none", "systemd": False, "metrics": False, "ci": "gitlab"},
    "added-daemon": {"part": "daemon", "daemon_name": "second"},
    "added-component": {"part": "component", "component_name": "third"},
}


def render() -> dict[str, str]:
    """What stands in each file, by its path in GOLDEN; NOT-THERE names those of the base that are missing."""
    base = _made(PARTS[BASE])
    found = {}
    for name, answers in PARTS.items():
        files = base if name == BASE else _made(answers)
        known = {} if name == BASE else _renamed(base, answers.get("daemon_name", NAME))
        gone = sorted(known.keys() - files.keys())
        if gone and "part" not in answers:
            files = {**files, "NOT-THERE": "".join(f"{path}\n" for path in gone)}
        found |= {f"{name}/{path}": text for path, text in files.items() if known.get(path) != text}
    return found


def _renamed(files: dict[str, str], name: str) -> dict[str, str]:
    """The files as they are for a daemon of another name."""

    def replace(text: str) -> str:
        return text.replace(NAME, name).replace(NAME.capitalize(), name.capitalize())

    return {replace(path): replace(text) for path, text in files.items()}


def _made(answers: dict[str, Any]) -> dict[str, str]:
    """The files of a project, by path, without what depends on this machine."""
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # copier's, of what is not committed
        source = Path(directory, "template")  # without git, there is no version in it
        source.mkdir()
        shutil.copy(ROOT / "copier.yml", source)
        shutil.copytree(ROOT / "template", source / "template", symlinks=True)
        data = {"daemon_name": NAME, "runtime_from": "piperkit", "description": "Does one thing", **answers}
        if "part" in answers:
            del data["runtime_from"]
        target = Path(directory, NAME)
        copier.run_copy(str(source), target, data, defaults=True, quiet=True)
        paths = [path for path in sorted(target.rglob("*")) if path.is_file()]
        texts = [path.read_text(encoding="utf-8").replace(str(source), "/path/of/the/template") for path in paths]
        return {str(path.relative_to(target)): text for path, text in zip(paths, texts, strict=True)}


def main() -> None:
    shutil.rmtree(GOLDEN, ignore_errors=True)
    for name, text in render().items():
        path = GOLDEN / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    print(f"{GOLDEN} is written; git diff shows what has changed in it")


if __name__ == "__main__":
    main()
