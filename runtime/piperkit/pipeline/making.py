"""A project whose daemons are a chain, and its `pipeline.toml`: made from a few answers, and added to.

The chain that is made works as it is: a source, a parser that makes objects of what comes, a router by their `type`,
and sinks, with a test of all of it. The file is the user's from then on; what is added to it leaves all else as it
stands, comments too.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from piperkit.errors import ConfigError, UsageError
from piperkit.pipeline.description import FILE
from piperkit.project import add
from piperkit.project import new as making
from piperkit.project.answers import Answers
from piperkit.text import harmless

TESTS = "tests/pipeline.toml"
SOURCES = ("source", "source-socket", "source-amqp")
SINKS = ("sink", "sink-postgresql", "sink-amqp")
_NETWORKED = ("source-amqp", "sink-amqp", "sink-postgresql")
_NAME_MAX = 31
_TYPE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
#: The name of the sink for all that has no sink of its own.
REST = "rest"

_READS, _PARSES = "Brings messages in", "Turns each line into an object"
_ROUTES, _STORES = "Sends each message to the sink for its type", "Stores messages"


def make(
    target: Path,
    name: str,
    answers: Mapping[str, Any],
    *,
    source: str,
    sink: str,
    types: Sequence[str],
    told: Callable[[str], None] = lambda daemon: None,
    **more: Any,
) -> Answers:
    """Make the project; returns what its first daemon remembers. more: as `new.make` takes it. told: of each daemon.

    name: of the pipeline, which the names of its daemons begin with. source, sink: kinds of components. types: of
    messages that have a sink of their own. Raises UsageError, and as `new.make`; then nothing is left.
    """
    for each in types:
        if not _TYPE.fullmatch(each) or each == REST:
            words = f"must be small letters, digits and single dashes between them, and not {REST}"
            raise UsageError(f"a type of messages, {each!r}: {words}")
    if len({*types}) != len(types):
        raise UsageError(f"a type of messages is given twice: {', '.join(types)}")
    if source not in SOURCES or sink not in SINKS:
        wrong, known = (source, SOURCES) if source not in SOURCES else (sink, SINKS)
        raise UsageError(f"{wrong} is none of {', '.join(known)}")
    sinks = {each: f"{name}-{each}" for each in (REST, *types)}
    reader, parser, router = (f"{name}-{each}" for each in ("reader", "parser", "router"))
    too_long = max((reader, parser, router, *sinks.values()), key=len)
    if len(too_long) > _NAME_MAX:
        raise UsageError(
            f"{too_long} is not a daemon's name: it has more than {_NAME_MAX} letters; choose a shorter one"
        )
    main = {**answers, "daemon_name": reader, "kind": source, "description": _READS, **_network(source)}
    new = not target.exists()
    found = making.make(target, main, **more)
    told(reader)
    try:
        for daemon, kind, description in (
            (parser, "parse", _PARSES),
            (router, "router", _ROUTES),
            *((daemon, sink, _STORES + ("" if each == REST else f" of type {each}")) for each, daemon in sinks.items()),
        ):
            given = {"kind": kind, "description": description, **_network(kind)}
            added = add.daemon(target, daemon, given, version=more.get("version"))
            if added.needs:
                _need(target / "pyproject.toml", added.needs)
            told(daemon)
        _need(target / "pyproject.toml", "piperkit[top,web]")  # to look at it, where it is installed, too
        if types:
            _configure(target / "etc" / f"{router}.conf", "routes", {each: sinks[each] for each in types})
        database = found.values.get("database")
        (target / FILE).write_text(_described(name, database, reader, parser, router, sinks), encoding="utf-8")
        (target / TESTS).write_text(_tests(parser, sinks), encoding="utf-8")
    except BaseException:
        for path in [target] if new else [*target.iterdir()]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise
    return found


def _network(kind: str) -> dict[str, bool]:
    """The answer to whether its unit lets it use the network, where it has to."""
    return {"network": True} if kind in _NETWORKED else {}


def _described(name: str, database: str | None, reader: str, parser: str, router: str, sinks: Mapping[str, str]) -> str:
    spool = f"# Its queues are in a database.\nspool = {json.dumps(database)}\n" if database else ""
    to = "[" + ", ".join(f'"{daemon}"' for daemon in sinks.values()) + "]"
    return (
        "# Its daemons, and which queues they read and write: nothing else says so.\n"
        "# piperctl pipeline check, graph, run, ps, drain, test, and units for systemd, go by it.\n"
        f'name = "{name}"\n{spool}\n'
        f'[daemons.{reader}]\nto = "{parser}"\n\n'
        f'[daemons.{parser}]\nto = "{router}"\n\n'
        f"[daemons.{router}]\n"
        f"# The first gets all that has no route; the routes are in etc/{router}.conf.\n"
        f"to = {to}\n\n" + "\n".join(f"[daemons.{daemon}]\n" for daemon in sinks.values())
    )


def _tests(parser: str, sinks: Mapping[str, str]) -> str:
    """A test for each sink."""
    head = "# What goes into the pipeline, and what has to come out where: piperctl pipeline test tests/pipeline.toml\n"
    tests = [
        f'\n[[tests]]\nname = "what is of type {each} goes to {daemon}"\n'
        f'inputs = [{{ into = "{parser}", text = "{each}: disk full" }}]\n'
        f'outputs = {{ {daemon} = [{{ type = "{each}", text = "disk full" }}] }}\n'
        for each, daemon in sinks.items()
    ]
    return head + "".join(tests)


def insert(project: Path, daemon: str, after: str) -> list[str]:
    """Put a daemon into the project's chain, after another one; returns, for people, what was changed.

    What that one passed on to, the new one passes on to now; where it sends to several, the new one is one more.
    Without a pipeline.toml, one is made with both. All else in the file stays as it is. Raises ConfigError, UsageError.
    """
    path = project / FILE
    if not path.exists():
        name = project.resolve().name
        name = name if name not in (daemon, after) else f"{name}-pipeline"
        path.write_text(
            f'name = "{name}"\n\n[daemons.{after}]\nto = "{daemon}"\n\n[daemons.{daemon}]\n', encoding="utf-8"
        )
        return [f"{FILE} is made: {after} → {daemon}"]
    try:
        document = tomlkit.parse(path.read_text(encoding="utf-8"))
        daemons = document["daemons"]
        before = daemons[after]
    except TOMLKitError as error:
        if isinstance(error, KeyError):
            raise UsageError(f"{path} has no daemon {harmless(after)}") from None
        raise ConfigError(f"{path} is not TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(daemons, Table) or not isinstance(before, Table):
        raise ConfigError(f"{path}: daemons.{after} is not a table")
    if daemon in daemons:
        raise UsageError(f"{path} has a daemon {daemon} already")
    new = tomlkit.table()
    to = before.get("to")
    if isinstance(to, list) and len(to) > 1:
        to.append(daemon)
        said = [f"{after} sends to {daemon}, too"]
    else:
        if to is not None:
            new["to"] = to.unwrap() if hasattr(to, "unwrap") else to
        before["to"] = daemon
        following = new.get("to")
        following = following[0] if isinstance(following, list) and following else following
        said = [f"{after} → {daemon}{f' → {following}' if following else ''}"]
    new.add(tomlkit.nl())
    daemons.append(daemon, new)
    path.write_text(tomlkit.dumps(document), encoding="utf-8")
    return said


def _need(path: Path, requirement: str) -> None:
    """Have the project depend on that. Raises ConfigError."""
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    dependencies: Any = document["project"]["dependencies"]
    if requirement not in dependencies:
        dependencies.append(requirement)
        path.write_text(tomlkit.dumps(document), encoding="utf-8")


def _configure(path: Path, key: str, value: object) -> None:
    """Give a key of a configuration file that is as the template made it a value, in its own place."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    (at,) = (number for number, line in enumerate(lines) if line.startswith(f'    # "{key}": '))
    lines[at] = f'    "{key}": {json.dumps(value)}\n'
    others = [number for number, line in enumerate(lines) if line.startswith('    "') and number != at]
    for number in others:
        if number < at:
            lines[number] = lines[number].rstrip("\n") + ",\n"
        else:
            lines[at] = lines[at].rstrip("\n") + ",\n"
    path.write_text("".join(lines), encoding="utf-8")
