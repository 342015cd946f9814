"""`pipeline.toml`: which daemons a pipeline has, and which queues they read and write.

    name = "alerts"                     # and so alerts.target; by default the directory's name

    [daemons.reader]                    # reads the queue of its own name
    to = "parser"                       # its next queue, which what it commits goes to

    [daemons.parser]
    to = "router"

    [daemons.router]
    to = ["archive", "pager"]           # its next queue, and those that its component sends to

    [daemons.archive]
    instances = 2                       # by default 1; 0: not run for the time being

    [daemons.pager]
    from = "pager-in"                   # its input queue, by default its own name
    config = "etc/pager.conf"           # its configuration file, by default that of its name

Queues are named as in the daemons' configuration: a bare name is one in the spool, which is var/spool of the project
that the file is in, or else /var/spool, or what the key `spool` says: a directory, or postgresql://HOST/DATABASE. The
keys `inputs` and `outputs` name queues that others, outside of the pipeline, write to and read from.

A daemon's own configuration says nothing of its queues, or the same; see `checks`.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from piperkit import engines
from piperkit.config import nearest
from piperkit.engines import Address
from piperkit.errors import ConfigError, ExitStatus, PiperError

FILE = "pipeline.toml"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_KEYS = ("name", "spool", "inputs", "outputs", "daemons")
_MEMBER_KEYS = ("from", "to", "instances", "config")
_INSTANCES_MAX = 1000


class NoPipeline(PiperError):
    """There is no pipeline.toml where one is needed."""

    exit_status = ExitStatus.NO_INPUT


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A daemon of a pipeline. Queues are absolute paths or addresses."""

    name: str
    source: str  #: its input queue
    targets: tuple[str, ...]  #: its next queue, and then those that its component sends to
    instances: int
    config: Path | None = None  #: its configuration file; None: at its place by default

    @property
    def next_queue(self) -> str | None:
        """What it commits goes there; None: it is deleted."""
        return self.targets[0] if self.targets else None


@dataclasses.dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline as its file describes it."""

    path: Path
    name: str
    spool: str  #: a directory or a database
    members: tuple[Member, ...]  #: in the file's order
    project: Path | None = None  #: that it is in; None where its daemons are installed
    inputs: frozenset[str] = frozenset()
    outputs: frozenset[str] = frozenset()

    def member(self, name: str) -> Member:
        """Raises NoPipeline where it has none of that name."""
        for member in self.members:
            if member.name == name:
                return member
        known = [member.name for member in self.members]
        raise NoPipeline(f"{self.path} has no daemon {name}{nearest(name, known)}; it has: {', '.join(known)}")

    def queues(self) -> list[str]:
        """All queues, each once: those that are read first."""
        found = [member.source for member in self.members]
        return [*dict.fromkeys([*found, *(target for member in self.members for target in member.targets)])]


def find(given: Path | None = None) -> Path:
    """The file that is meant: the one named, or in the directory named; by default the one here or above, or else the
    only one that is installed, /etc/NAME/pipeline.toml.

    Raises NoPipeline.
    """
    if given is not None:
        path = given / FILE if given.is_dir() else given
        if not path.is_file():
            raise NoPipeline(f"{path}: there is no such file; name a {FILE}, or a directory that has one")
        return path.absolute()
    here = Path.cwd()
    for directory in (here, *here.parents):
        if (directory / FILE).is_file():
            return directory / FILE
    known = sorted(Path("/etc").glob(f"*/{FILE}"))
    if len(known) == 1:
        return known[0]
    several = f"; installed are {', '.join(map(str, known))}" if known else ""
    raise NoPipeline(f"there is no {FILE} in {here}, nor above it{several}; name one: --pipeline FILE")


def load(path: Path, *, installed: bool = False) -> Pipeline:
    """Read the file. installed: of a project, mean the daemons and queues as they are once that is installed.

    Raises NoPipeline, and ConfigError, which names the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NoPipeline(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    return _Reader(path.absolute(), installed).pipeline(values)


class _Reader:
    """Checks values, and makes paths of names."""

    def __init__(self, path: Path, installed: bool) -> None:
        self._path = path
        self._home = path.parent
        self._project = self._home if not installed and (self._home / "pyproject.toml").is_file() else None
        self._spool = ""

    def pipeline(self, values: Mapping[str, Any]) -> Pipeline:
        self._known("", values, _KEYS)
        name = self._name("name", values.get("name", self._home.name))
        self._spool = self._spool_of(values.get("spool"))
        daemons = values.get("daemons")
        if not isinstance(daemons, dict) or not daemons:
            raise self._wrong("daemons", "must have a table for each daemon, such as [daemons.reader]")
        members = tuple(self._member(each, given) for each, given in daemons.items())
        if any(member.name == name for member in members):
            raise self._wrong("name", f"is {name}, as one of its daemons is; its target would be that daemon's, too")
        ends = {key: frozenset(self._queues(key, values.get(key, []))) for key in ("inputs", "outputs")}
        return Pipeline(self._path, name, self._spool, members, self._project, **ends)

    def _member(self, name: str, given: object) -> Member:
        key = f"daemons.{name}"
        self._name(key, name)
        if not isinstance(given, dict):
            raise self._wrong(key, f"must be a table: [daemons.{name}]")
        self._known(f"{key}.", given, _MEMBER_KEYS)
        targets = self._queues(f"{key}.to", given.get("to", []))
        source = self._queue(f"{key}.from", given.get("from", name))
        if source in targets:
            raise self._wrong(f"{key}.to", f"has {given['to']!r}, its own input queue")
        instances = given.get("instances", 1)
        if type(instances) is not int or not 0 <= instances <= _INSTANCES_MAX:
            raise self._wrong(f"{key}.instances", f"is {instances!r}; it must be a whole number up to {_INSTANCES_MAX}")
        config = given.get("config")
        if config is not None and (not isinstance(config, str) or not config):
            raise self._wrong(f"{key}.config", f"is {config!r}; it must be the path of a file")
        return Member(name, source, targets, instances, self._home / config if config else None)

    def _queues(self, key: str, given: object) -> tuple[str, ...]:
        if isinstance(given, str):
            given = [given]
        if not isinstance(given, list):
            raise self._wrong(key, f"is {given!r}; it must be the name of a queue, or a list of names")
        found = tuple(self._queue(key, each) for each in given)
        if len({*found}) != len(found):
            raise self._wrong(key, f"is {given!r}, which has a queue twice")
        return found

    def _queue(self, key: str, given: object) -> str:
        if not isinstance(given, str) or not given or "\0" in given:
            raise self._wrong(key, f"is {given!r}; it must be the name of a queue")
        if engines.is_address(given):
            return self._address(key, given)
        if os.path.basename(given) != given:
            return os.path.normpath(self._home / given)
        if given in (".", ".."):
            raise self._wrong(key, f"is {given!r}, which is not a queue")
        if engines.is_address(self._spool):
            return str(Address.parse(self._spool, needs_queue=False).of(given))
        return os.path.join(self._spool, given)

    def _spool_of(self, given: object) -> str:
        if given is None:
            return str(self._project / "var" / "spool") if self._project else "/var/spool"
        if not isinstance(given, str) or not given:
            raise self._wrong("spool", f"is {given!r}; it must be a directory, or postgresql://HOST/DATABASE")
        if engines.is_address(given):
            return self._address("spool", given, needs_queue=False)
        return os.path.normpath(self._home / given)

    def _address(self, key: str, given: str, *, needs_queue: bool = True) -> str:
        try:
            return str(Address.parse(given, needs_queue=needs_queue))
        except ConfigError as error:
            raise self._wrong(key, f"is not an address: {error}") from None

    def _name(self, key: str, given: object) -> str:
        if not isinstance(given, str) or not _NAME.fullmatch(given):
            words = f"is {given!r}; a name must begin with a letter, and hold letters, digits, '.-_'"
            raise self._wrong(key, words)
        return given

    def _known(self, prefix: str, values: Mapping[str, Any], known: Iterable[str]) -> None:
        for key in values:
            if key not in known:
                raise self._wrong(f"{prefix}{key}", f"is not a key{nearest(key, known)}; there are {', '.join(known)}")

    def _wrong(self, key: str, words: str) -> ConfigError:
        return ConfigError(f"{self._path}: {key} {words}")
