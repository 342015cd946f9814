"""Configuration is described once, by `Option`s, and all else follows from that.

From the options come the command line, `--help`, the checks of configuration files and the commented configuration
file of a new project. An application and its components declare their own in the same way, and then they are
options too.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from piperkit.errors import ConfigError, ExitStatus
from piperkit.option import Option as Option  # which is also known by this module's name


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
        arguments["metavar"] = (option.unit or option.metavar).upper()
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
        raise ConfigError(f"{path}, line {error.lineno}: {error.msg}; {_hint(text, error.pos)}") from None
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


def _hint(text: str, position: int) -> str:
    """What is meant by what the parser of JSON has met at a position."""
    before, here = text[:position].rstrip(), text[position : position + 1]
    last = text[position + 1 :].lstrip()[:1] in ("}", "]")
    if (here in ("}", "]") and before.endswith(",")) or (here == "," and last):  # the latter from Python 3.13 on
        line = before.count("\n") + 1
        return f"the comma at the end of line {line} is one too many: JSON has none after the last entry"
    if here == "'":
        return 'texts and keys need double quotes: "..."'
    number = re.search(r"\b0[oO]?$", before)
    octal = number and re.match(r"[oO]?[0-7]+", text[position:])
    if number and octal:
        found = number[0] + octal[0]
        return f'{found} is not a number in JSON; write a mode as "{found}"'
    if here == '"' and text[:position].count("\n") > before.count("\n"):
        return f"a comma is missing at the end of line {before.count(chr(10)) + 1}"
    return "it must be JSON"


def _check_mode(value: Any, where: str, option: Option) -> None:
    """Raises ConfigError for a number that looks like the digits of a mode, and would be another one."""
    if option.type == "mode" and re.fullmatch(r"[0-7]{3,4}", json.dumps(value)):
        raise ConfigError(
            f'{where}: {option.key} is {value}, which as a number is the mode 0o{value:o}; write "0o{value}", or'
            f' "0o{value:o}" if that is meant'
        )


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
        if option is not None:
            _check_mode(value, where, option)
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
