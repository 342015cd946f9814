"""Configuration is described once: an `Option` says a key's type, default, unit and meaning.

From the options come the command line, `--help`, the checks of configuration files and the commented configuration
file of a new project. An application and its components declare their own in the same way, and then they are
options too.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from piperkit.errors import ConfigError, ExitStatus

#: What is shown instead of a secret.
HIDDEN = '"..."'


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A type of value: how it is called, how text becomes one, and which JSON values are one."""

    name: str  #: completes "must be ..."
    parse: Callable[[str], Any]
    accepts: Callable[[Any], bool]
    metavar: str


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _octal(text: str) -> int:
    value = int(text.lower().removeprefix("0o"), 8)
    if not 0 <= value <= 0o7777:
        raise ValueError(text)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


KINDS: dict[Any, Kind] = {
    str: Kind("a text", str, lambda value: isinstance(value, str), "TEXT"),
    "path": Kind("a path", str, lambda value: isinstance(value, str), "PATH"),
    int: Kind("a whole number", int, lambda value: isinstance(value, int) and not isinstance(value, bool), "NUMBER"),
    float: Kind("a number", _number, _is_number, "NUMBER"),
    bool: Kind("true or false", lambda text: {"true": True, "false": False}[text], lambda v: isinstance(v, bool), ""),
    list: Kind("a list", json.loads, lambda value: isinstance(value, list), "JSON"),
    dict: Kind("an object", json.loads, lambda value: isinstance(value, dict), "JSON"),
    "mode": Kind(
        'an octal mode such as "0o770"', _octal, lambda v: isinstance(v, int) and not isinstance(v, bool), "MODE"
    ),
    "account": Kind(
        "a name or a number",
        str,
        lambda value: isinstance(value, str | int) and not isinstance(value, bool),
        "NAME",
    ),
    "count": Kind("a whole number", int, lambda v: isinstance(v, int) and not isinstance(v, bool), ""),
}


@dataclasses.dataclass(frozen=True)
class Option:
    """One configuration key, and the command line option `--key-with-dashes`.

    type: str, int, float, bool, list or dict; "path", "mode" for octal modes, "account" for users and groups.
    default: in a text, {name} and the daemon's paths ({cfg}, {var}, {log}, {run}, {tmp}) are filled in.
    """

    key: str
    type: Any
    default: Any
    help: str
    unit: str = ""
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    cli_only: bool = False  #: makes no sense in a file
    fixed: bool = False  #: a running daemon cannot change it
    secret: bool = False  #: its value is never shown
    group: str = "options of this daemon"

    def __post_init__(self) -> None:
        if self.type not in KINDS:
            raise TypeError(f"{self.key}: {self.type!r} is no type of an option; it must be one of {list(KINDS)}")

    @property
    def flag(self) -> str:
        return "--verbose" if self.key == "verbosity" else "--" + self.key.replace("_", "-")

    @property
    def expected(self) -> str:
        """Completes "must be ..."."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        text = KINDS[self.type].name
        if self.unit:
            text += f" of {self.unit}"
        if self.minimum is not None:
            text += f", {self.minimum:g} or more"
        if self.maximum is not None:
            text += f", {self.maximum:g} at most"
        return text

    def check(self, value: Any, where: str) -> Any:
        """The value of this key from a configuration file. Raises ConfigError, which names `where` it stands."""
        found = value
        if self.type == "mode" and isinstance(value, str):
            try:
                found = _octal(value)
            except ValueError:
                pass  # it stays a text, which is no mode
        if not KINDS[self.type].accepts(found) or not self._in_range(found):
            shown = HIDDEN if self.secret else json.dumps(value, default=str)
            raise ConfigError(f"{where}: {self.key} is {shown}; it must be {self.expected}")
        return found

    def parse(self, text: str) -> Any:
        """The value of this option from the command line. Raises argparse.ArgumentTypeError."""
        try:
            value = KINDS[self.type].parse(text)
            if KINDS[self.type].accepts(value) and self._in_range(value):
                return value
        except (ValueError, KeyError):
            pass
        raise argparse.ArgumentTypeError(f"{HIDDEN if self.secret else repr(text)}; it must be {self.expected}")

    def _in_range(self, value: Any) -> bool:
        return not (
            (self.choices and value not in self.choices)
            or (self.minimum is not None and value < self.minimum)
            or (self.maximum is not None and value > self.maximum)
        )

    def fill(self, places: Mapping[str, str]) -> Any:
        """The default, with names and paths filled in."""
        return self.default.format_map(places) if isinstance(self.default, str) else self.default

    def shown_default(self, places: Mapping[str, str]) -> str:
        """The default as it would be written in a configuration file."""
        return self.shown(self.fill(places))

    def shown(self, value: Any) -> str:
        """A value as it may be shown to anybody, in the form of a configuration file."""
        if self.secret and value is not None:
            return HIDDEN
        if self.type == "mode" and value is not None:
            value = f"0o{value:03o}"
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return json.dumps(value, default=str)


class Parser(argparse.ArgumentParser):
    """An argument parser that takes no abbreviations and answers a mistake with one line."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(allow_abbrev=False, usage="%(prog)s [OPTION]...", **arguments)

    def error(self, message: str) -> NoReturn:
        self.exit(ExitStatus.USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")

    def parse_all(self, argv: list[str] | None) -> dict[str, Any]:
        """Parse everything; what is unknown is a mistake, and the nearest known option is named."""
        known, unknown = self.parse_known_args(argv)
        if unknown:
            name = unknown[0].partition("=")[0]
            if not name.startswith("-"):
                self.error(f"unexpected argument {name!r}")
            self.error(f"unknown option {name}{nearest(name, self._option_string_actions)}")
        return vars(known)

    def add_options(self, options: Iterable[Option], places: Mapping[str, str]) -> None:
        """Add options, under the heading of their group."""
        groups: dict[str, argparse._ArgumentGroup] = {}
        for option in options:
            if option.group not in groups:
                groups[option.group] = self.add_argument_group(option.group)
            _add_option(groups[option.group], option, places)


def _add_option(group: argparse._ArgumentGroup, option: Option, places: Mapping[str, str]) -> None:
    text = option.help
    if option.default not in (None, False, 0) or option.type in (int, float):
        text += f" (default: {option.shown_default(places)})"
    arguments: dict[str, Any] = {"dest": option.key, "default": None, "help": text.replace("%", "%%")}
    if option.type is bool:
        arguments["action"] = argparse.BooleanOptionalAction if option.default else "store_true"
    elif option.type == "count":
        arguments["action"] = "count"
    else:
        arguments["type"] = option.parse
        arguments["metavar"] = (option.unit or KINDS[option.type].metavar).upper()
        if option.choices:
            arguments["metavar"] = "|".join(map(str, option.choices))
    group.add_argument(option.flag, **arguments)


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean X?" for a name that is nearly known; nothing for others."""
    found = difflib.get_close_matches(name, list(known), 1, 0.6)
    return f"; did you mean {found[0]}?" if found else ""


def load_file(path: str) -> dict[str, Any]:
    """Read a configuration file: a JSON object, where lines that begin with # or // are comments.

    Raises FileNotFoundError, and ConfigError for what cannot be read or is no such object.
    """
    try:
        with open(path, encoding="utf-8") as file:
            # Comments become empty lines, so that the parser's line numbers are the file's.
            text = "".join("\n" if line.lstrip().startswith(("#", "//")) else line for line in file)
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if not text.strip():
        return {}
    try:
        found = json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, path))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {error.lineno}: {error.msg}; it must be JSON") from None
    if not isinstance(found, dict):
        raise ConfigError(f'{path}: must be a JSON object: {{"key": value, ...}}')
    return found


def _once(pairs: list[tuple[str, Any]], path: str) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ConfigError(f"{path}: {twice} stands there twice; remove one of the two")
    return found


def load_directory(path: str) -> list[tuple[str, dict[str, Any]]]:
    """The files NAME.json.conf of a configuration directory, in the order of their names. Raises as `load_file`."""
    names = sorted(name for name in os.listdir(path) if name.endswith(".json.conf"))
    paths = [os.path.join(path, name) for name in names]
    return [(file, load_file(file)) for file in paths if os.path.isfile(file)]


def check_all(
    found: Mapping[str, Any], where: str, options: Mapping[str, Option], known: Iterable[str]
) -> dict[str, Any]:
    """Check the keys and values of one source; null stands for "not set". Raises ConfigError.

    known: further keys, of applications that declare theirs in pyzenkit's way, of which no type is known.
    """
    checked = {}
    names = {*options, *known}
    for key, value in found.items():
        if key not in names:
            raise ConfigError(f"{where}: unknown key {key}{nearest(key, names)}")
        option = options.get(key)
        if option is not None and option.cli_only:
            raise ConfigError(f"{where}: {key} is for the command line only: {option.flag}")
        if value is not None:
            checked[key] = value if option is None else option.check(value, where)
    return checked


def render_file(options: Iterable[Option], places: Mapping[str, str], title: str) -> str:
    """A configuration file that explains every key and sets none: each line of it is a comment, but for the braces."""
    lines = [f"# {title}", "#", "# JSON, where lines that begin with # are comments. What is not set has the default"]
    lines += ["# that is shown. Separate entries with commas; put none after the last."]
    lines += ["# <var>, <log> and <run> stand for the directories that the daemon was built with.", "{"]
    group = ""
    for option in options:
        if option.cli_only:
            continue
        if option.group != group:
            group = option.group
            lines += ["", f"    # --- {group} ---"]
        lines += ["", f"    # {option.help} ({option.expected})"]
        lines += [f'    # "{option.key}": {option.shown_default(places)}']
    return "\n".join([*lines, "}", ""])
