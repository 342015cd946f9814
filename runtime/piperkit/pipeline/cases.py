"""The file of tests of a pipeline: messages in, and what has to come out at each end; `trial` runs them.

[[tests]]
name = "an alert goes to the pager"

[[tests.inputs]]
into = "parser"                         # a daemon
text = "alert: disk full"               # or json = ..., or base64 = "..."

[tests.outputs]
pager = [{ type = "alert", text = "disk full" }]    # a text, or a value of JSON
archive = []

[tests.errors]
parser = ["not JSON"]                   # dead letters of a daemon, each by a part of its reason
"""

from __future__ import annotations

import base64
import dataclasses
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from piperkit.config import nearest
from piperkit.errors import ConfigError
from piperkit.pipeline import graph
from piperkit.pipeline.description import Pipeline

_CONTENTS = ("text", "json", "base64")


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One test."""

    name: str
    inputs: tuple[tuple[str, bytes], ...]  #: daemons, each with a message for it
    outputs: dict[str, list[Any]]  #: by end: texts and values of JSON
    errors: dict[str, list[str]]  #: by daemon: a part of the reason of each dead letter


def load(path: Path, pipeline: Pipeline) -> list[Case]:
    """The tests of a file, or of all *.toml in a directory. Raises ConfigError, which names the key."""
    files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
    if not files:
        raise ConfigError(f"{path} has no tests: there is no *.toml in it")
    return [case for file in files for case in _load(file, pipeline)]


def ends(pipeline: Pipeline) -> dict[str, str]:
    """The queues where messages come out, each by the name of what reads it."""
    drawn = graph.of(pipeline)
    found = {name: pipeline.member(name).source for name in drawn.ends() if drawn.tails(name)}
    return found | {edge.head: edge.queue for edge in drawn.edges if edge.head in drawn.queues}


def _load(file: Path, pipeline: Pipeline) -> list[Case]:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error
    tests = values.get("tests")
    if not isinstance(tests, list) or not tests or values.keys() != {"tests"}:
        raise ConfigError(f"{file}: must have [[tests]], and nothing else at its top")
    return [_case(f"{file}: tests[{number}]", each, pipeline) for number, each in enumerate(tests)]


def _case(where: str, given: Any, pipeline: Pipeline) -> Case:
    _keys(where, given, ("name", "inputs", "outputs", "errors"))
    name = given.get("name")
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{where}.name must be a text")
    daemons = [member.name for member in pipeline.members]
    inputs = given.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise ConfigError(f"{where}.inputs must be [[tests.inputs]], one for each message")
    messages = tuple(_message(f"{where}.inputs[{at}]", each, daemons) for at, each in enumerate(inputs))
    outputs, errors = given.get("outputs", {}), given.get("errors", {})
    _keys(f"{where}.outputs", outputs, [*ends(pipeline)])
    for end, values in outputs.items():
        if not isinstance(values, list):
            raise ConfigError(f"{where}.outputs.{end} must be a list of messages")
    _keys(f"{where}.errors", errors, daemons)
    for daemon, reasons in errors.items():
        if not isinstance(reasons, list) or not all(isinstance(reason, str) for reason in reasons):
            raise ConfigError(f"{where}.errors.{daemon} must be a list of texts")
    return Case(name, messages, outputs, errors)


def _message(where: str, given: Any, daemons: list[str]) -> tuple[str, bytes]:
    _keys(where, given, ("into", *_CONTENTS))
    into = given.get("into")
    if into not in daemons:
        raise ConfigError(f"{where}.into is {into!r}; it must be one of {', '.join(daemons)}")
    kinds = [kind for kind in _CONTENTS if kind in given]
    if len(kinds) != 1:
        raise ConfigError(f"{where} must have one of {', '.join(_CONTENTS)}")
    value = given[kinds[0]]
    if kinds[0] == "json":
        try:
            return into, json.dumps(value, ensure_ascii=False).encode()
        except TypeError as error:
            raise ConfigError(f"{where}.json is not JSON: {error}") from None
    if not isinstance(value, str):
        raise ConfigError(f"{where}.{kinds[0]} must be a text")
    if kinds[0] == "text":
        return into, value.encode()
    try:
        return into, base64.b64decode(value, validate=True)
    except ValueError as error:
        raise ConfigError(f"{where}.base64 is not base64: {error}") from None


def _keys(where: str, given: Any, known: Sequence[str]) -> None:
    if not isinstance(given, dict):
        raise ConfigError(f"{where} must be a table")
    for key in given:
        if key not in known:
            raise ConfigError(f"{where}.{key} is unknown{nearest(key, known)}; there are {', '.join(known)}")
