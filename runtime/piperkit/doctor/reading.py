"""A daemon of a project as its files describe it: nothing of the project is executed.

Name, template and defaults are what its `daemon.py` gives to `PiperDaemon`, where that can be read off; the rest say
its configuration and its virtual environment. What only its program knows, such as the options of its components and
whether it can be imported, `NAME --action config-check` and the project's tests say.
"""

from __future__ import annotations

import ast
import difflib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from piperkit.batch import BatchComponent
from piperkit.config import Option
from piperkit.daemon import actions, process
from piperkit.daemon.configuration import Configuration
from piperkit.daemon.options import OPTIONS
from piperkit.daemon.paths import application_paths
from piperkit.daemon.runlog import VERSIONS
from piperkit.errors import ConfigError
from piperkit.source import Source
from piperkit.sources import FileSource, SocketSource

_CORE = {option.key: option for option in OPTIONS}
#: Keys for which an extra may be missing here, and which say nothing of queues.
_EXTRAS: dict[str, Any] = dict.fromkeys(("metrics_address", "metrics_file", "traces_endpoint"))
_DEFAULT = "default_"
#: How alike a key has to be to one of ours to be taken for that, with a mistake: another one may be a component's.
_ALIKE = 0.85


def describe(name: str, file: Path, project: Path) -> dict[str, Any]:
    """The facts that `--action describe` would print; file: its `daemon.py`. Raises ConfigError."""
    given = _given(file)
    defaults = {key.removeprefix(_DEFAULT): value for key, value in given.items() if key.startswith(_DEFAULT)}
    known = {key: value for key, value in defaults.items() if key in _CORE}
    configuration = Configuration(_CORE, [], known, start_dir=str(project))
    paths = {key.removeprefix("path_"): path for key, path in application_paths(str(file), name).items()}
    config, _ = _read(configuration, name, paths, lambda where, values: _of_daemons(where, values, project))
    shown = {key: json.loads(_CORE[key].shown(config[key])) for key in _CORE if key in config}
    configuration.accounts(config)
    queues = configuration.complete(config | _EXTRAS, os.path.join(paths["var"], "spool"))
    try:
        pids = list(actions.running(config).values())
    except process.NotAllowed:
        pids = None
    return {
        "name": name,
        "versions": _versions(project),
        "queue": queues["dir_queue"],
        "next_queue": queues["dir_next_queue"],
        "pids": pids,
        "origins": configuration.origins,
        "config": shown,
        "template": given.get("template"),
        "checkout": str(project),
    }


def queues(name: str, etc: Path, spool: str) -> dict[str, Any] | None:
    """The queues of an installed daemon, by its configuration in `etc` alone; None where it has none.

    spool: where queues are that are called by a bare name. Raises ConfigError.
    """
    configuration = Configuration(_CORE, [], start_dir="/")
    places = {"cfg": str(etc), "var": "/var", "log": "/var/log", "run": "/run"}
    config, found = _read(
        configuration, name, places, lambda where, values: ((key, values[key]) for key in values if key in _CORE)
    )
    return configuration.complete(config | _EXTRAS, spool) if found else None


def _read(
    configuration: Configuration,
    name: str,
    places: Mapping[str, str],
    known: Callable[[str, dict[str, Any]], Iterable[tuple[str, Any]]],
) -> tuple[dict[str, Any], bool]:
    """The values of all keys, and whether a file says anything. known: of a file's values, those that we know."""
    config = configuration.initial(name, places)
    found = [
        *configuration.load("directory", config["config_dir"], named=False),
        *configuration.load("file", config["config_file"], named=False),
    ]
    configuration.merge(config, [(where, dict(known(where, values))) for where, values in found], {}, "")
    return config, bool(found)


def _given(file: Path) -> dict[str, Any]:
    """The keywords of `PiperDaemon(...)` that are literals. Raises ConfigError."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}, the daemon's program, cannot be read: {error}") from error
    except SyntaxError as error:
        raise ConfigError(f"{file}, line {error.lineno}: {error.msg}") from error
    given: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("PiperDaemon"):
            for keyword in node.keywords:
                if keyword.arg is not None and isinstance(keyword.value, ast.Constant):
                    given[keyword.arg] = keyword.value.value
    return given


def _of_daemons(where: str, values: dict[str, Any], project: Path) -> Iterator[tuple[str, Any]]:
    """The keys that every daemon has. Raises ConfigError for one that is nearly such a key, and nobody's else."""
    for key, value in values.items():
        if key in _CORE:
            yield key, value
            continue
        alike = difflib.get_close_matches(key, _CORE, 1, _ALIKE)
        if alike and key not in _of_components() and not _is_named(key, project):
            raise ConfigError(f"{where}: unknown key {key}; did you mean {alike[0]}?")


def _of_components() -> set[str]:
    """The keys of the components that the runtime has."""
    found = set[str]()
    for cls in (BatchComponent, Source, FileSource, SocketSource):
        options = [*vars(cls).values(), *vars(cls).get("options", ())]
        found |= {option.key for option in options if isinstance(option, Option)}
    return found


def _is_named(key: str, project: Path) -> bool:
    """Whether the project's code has that word."""
    word = re.compile(rf"\b{re.escape(key)}\b".encode())
    return any(word.search(path.read_bytes()) for path in (project / "src").rglob("*.py") if path.is_file())


def _versions(project: Path) -> dict[str, str]:
    """What is installed in the project's virtual environment; without one, what runs us."""
    installed = {}
    for path in project.glob(".venv/lib/python*/site-packages/*.dist-info"):
        name, _, version = path.name.removesuffix(".dist-info").partition("-")
        if name in VERSIONS:
            installed[name] = version
    return installed if "piperkit" in installed else dict(VERSIONS)
