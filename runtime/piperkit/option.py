"""`Option` says a configuration key's type, default, unit and meaning, once, and where its value is read.

A component declares its own as attributes:

    class Greeter(Component):
        greeting = Option(str, "Hello", help="what each message begins with")

        def process(self, message: Message) -> Outcome:
            return message.commit(f"{self.greeting}, {message.text}")
"""

from __future__ import annotations

import argparse
import builtins
import copy
import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, Never, NoReturn, Self, TypeVar, get_args, get_origin, overload

from piperkit.errors import ConfigError

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


#: What a kind is to Python, for the options that say which kind of a type they want.
_TYPES: dict[Any, Any] = {"path": str, "account": str, "mode": int}
#: What the members of a list or an object are called.
_MANY = {
    str: "texts",
    int: "whole numbers",
    float: "numbers",
    bool: "true or false each",
    list: "lists",
    dict: "objects",
    Any: "anything",
}

V = TypeVar("V")
if TYPE_CHECKING:
    from typing_extensions import TypeVar as _TypeVar

    T = _TypeVar("T", default=Any)  # so that `Option` alone is a type, as before; Python itself has that from 3.13 on
else:
    T = TypeVar("T")
TextKind = Literal["path", "account"]


@dataclasses.dataclass(frozen=True, init=False)
class Option(Generic[T]):
    """One configuration key, and the command line option `--key-with-dashes`.

    In the body of a component's class:  limit = Option(int, 100, help="...", unit="lines", minimum=1)
    The attribute's name is the key, unless `key` is given, and the component reads the value as `self.limit`; after a
    reload it is the new one. It cannot be assigned, and cannot be read before the component is in a daemon.

    type: str, int, float, bool, list or dict, also with what they hold, as in dict[str, int].
    default: in a text, {name} and the daemon's paths ({cfg}, {var}, {log}, {run}, {tmp}) are filled in; None: not set.
    kind: "path" or "account" (a user or group) for a text, "mode" for a whole number that is an octal mode.

    Elsewhere, such as in `PiperDaemon(options=...)`, the key comes first:  Option("limit", int, 100, "help", "lines")
    and the value is read with `daemon.c("limit")`; the type may be a kind.

    Raises TypeError, ValueError for a description that makes no sense, such as a default that is none of the choices.
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

    @overload
    def __init__(
        self,
        type: builtins.type[T],
        default: T,
        /,
        *,
        help: str,
        key: str = ...,
        kind: TextKind | Literal["mode"] | None = ...,
        unit: str = ...,
        choices: tuple[T, ...] = ...,
        minimum: float | None = ...,
        maximum: float | None = ...,
        cli_only: bool = ...,
        fixed: bool = ...,
        secret: bool = ...,
        group: str = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: Option[V | None],
        type: builtins.type[V],
        default: None,
        /,
        *,
        help: str,
        key: str = ...,
        kind: TextKind | Literal["mode"] | None = ...,
        unit: str = ...,
        choices: tuple[V, ...] = ...,
        minimum: float | None = ...,
        maximum: float | None = ...,
        cli_only: bool = ...,
        fixed: bool = ...,
        secret: bool = ...,
        group: str = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: Option[Any],
        key: str,
        type: Any,
        default: Any,
        help: str,
        unit: str = ...,
        choices: tuple[Any, ...] = ...,
        minimum: float | None = ...,
        maximum: float | None = ...,
        cli_only: bool = ...,
        fixed: bool = ...,
        secret: bool = ...,
        group: str = ...,
    ) -> None: ...
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        key_first = not args or isinstance(args[0], str)
        fields = {field.name: field.default for field in dataclasses.fields(self)}
        names = list(fields) if key_first else ["type", "default"]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        if not key_first:
            given = {"key": "", **given}
        kind = given.pop("kind", None)
        wrong = {*given} - {*fields} or {key for key in ("key", "type", "default", "help") if key not in given}
        if wrong or len(args) > len(names):
            raise TypeError(f"Option: {', '.join(sorted(wrong)) or 'too many arguments'}: see help(piperkit.Option)")
        for name in fields:
            object.__setattr__(self, name, given.get(name, fields[name]))
        self._check_type(kind)
        if not key_first and self.default is not None:
            self._check_default()

    def _check_type(self, kind: str | None) -> None:
        if kind is not None:
            if kind not in _TYPES or self.type is not _TYPES[kind]:
                raise TypeError(f"{self._name}: kind={kind!r} is for {_TYPES.get(kind, 'no type')}, not {self.type!r}")
            object.__setattr__(self, "type", kind)
        if not _is_type(self.type):
            raise TypeError(f"{self._name}: {self.type!r} is not a type of an option; it must be one of {list(KINDS)}")

    def _check_default(self) -> None:
        if not _is_value(self.default, self.type):
            raise TypeError(f"{self._name}: the default is {self.default!r:.80}; it must be {self.expected}")
        if not self._in_range(self.default):
            raise ValueError(f"{self._name}: the default is {self.default!r:.80}; it must be {self.expected}")

    @property
    def _name(self) -> str:
        return f"option {self.key}" if self.key else f"an option ({self.help!r:.80})"

    # -- as an attribute of a component ----------------------------------------------------------------------

    def __set_name__(self, owner: builtins.type[Any], name: str) -> None:
        if not self.key:
            object.__setattr__(self, "key", name)

    @overload
    def __get__(self, instance: None, owner: Any) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: Any) -> T: ...
    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return self
        host = getattr(instance, "_piper", None)
        if host is None:
            raise AttributeError(
                f"{type(instance).__name__} is in no daemon yet, so its configuration key {self.key} has no value;"
                " read it from setup(daemon) on, not in __init__"
            )
        return host.c(self.key)

    def __set__(self, instance: object, value: Never) -> NoReturn:
        raise AttributeError(
            f"{type(instance).__name__} cannot assign {self.key}: it is an option, and its value comes from the"
            " configuration; choose another name for what the component itself remembers"
        )

    # -- its values ------------------------------------------------------------------------------------------

    @property
    def flag(self) -> str:
        return "--verbose" if self.key == "verbosity" else "--" + self.key.replace("_", "-")

    @property
    def expected(self) -> str:
        """Completes "must be ..."."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        text = self._kind.name
        if get_args(self.type):
            text += f" of {_many(get_args(self.type)[-1])}"
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
        if self.type == "account" and isinstance(value, int) and not isinstance(value, bool):
            found = str(value)
        if self.type == "mode" and isinstance(value, str):
            try:
                found = _octal(value)
            except ValueError:
                pass  # it stays a text, which is not a mode
        if not _is_value(found, self.type) or not self._in_range(found):
            shown = HIDDEN if self.secret else json.dumps(value, default=str)
            raise ConfigError(f"{where}: {self.key} is {shown}; it must be {self.expected}")
        return found

    def parse(self, text: str) -> Any:
        """The value of this option from the command line. Raises argparse.ArgumentTypeError."""
        try:
            value = self._kind.parse(text)
            if _is_value(value, self.type) and self._in_range(value):
                return value
        except (ValueError, KeyError):
            pass
        raise argparse.ArgumentTypeError(f"{HIDDEN if self.secret else repr(text)}; it must be {self.expected}")

    @property
    def metavar(self) -> str:
        """What stands for a value in `--help`."""
        return self._kind.metavar

    @property
    def _kind(self) -> Kind:
        return KINDS[get_origin(self.type) or self.type]

    def _in_range(self, value: Any) -> bool:
        return not (
            (self.choices and value not in self.choices)
            or (self.minimum is not None and value < self.minimum)
            or (self.maximum is not None and value > self.maximum)
        )

    def fill(self, places: Mapping[str, str]) -> Any:
        """The default, with names and paths filled in; a list or object is the caller's own."""
        return self.default.format_map(places) if isinstance(self.default, str) else copy.deepcopy(self.default)

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


def _is_type(type: Any) -> bool:
    """Whether an option can have this type: one of `KINDS`, also with what is in the list or object."""
    if get_origin(type) not in (list, dict):
        return type in KINDS
    *keys, inner = get_args(type)
    return keys in ([], [str]) and (inner is Any or _is_type(inner))


def _is_value(value: Any, type: Any) -> bool:
    """Whether a value, and what is in it, is of a type."""
    if type is Any:
        return True
    *_, inner = get_args(type) or (Any,)
    members = value.values() if isinstance(value, dict) else value
    return KINDS[get_origin(type) or type].accepts(value) and (
        inner is Any or all(_is_value(each, inner) for each in members)
    )


def _many(type: Any) -> str:
    """What many values of a type are called."""
    args = get_args(type)
    return _MANY[get_origin(type) or type] + (f" of {_many(args[-1])}" if args else "")


def declared(component: object) -> tuple[Option, ...]:
    """The options of a component: its class's own first, then those that it inherits, unless they are its own too.

    They are attributes of the class, or in its `options`. Raises ConfigError for an attribute that hides what a class
    needs, and for two that share a key and are not the same.
    """
    found: dict[str, Option] = {}
    attributes: dict[str, str] = {}  #: keys, and the attributes that have them
    seen: set[str] = set()
    classes = type(component).__mro__
    listed = getattr(component, "__dict__", {}).get("options", ())
    for number, cls in enumerate(classes):
        for name, option in vars(cls).items():
            if isinstance(option, Option) and name not in seen:
                attribute = f"{cls.__name__}.{name}"
                _check_free(attribute, name, option.key, classes[number + 1 :])
                if option.key in attributes and found[option.key] != option:
                    raise ConfigError(
                        f"{attributes[option.key]} and {attribute} declare the key {option.key} differently"
                    )
                found.setdefault(option.key, option)
                attributes[option.key] = attribute
        seen.update(vars(cls))
        listed = listed or vars(cls).get("options", ())
        if isinstance(listed, list | tuple):
            for option in listed:
                found.setdefault(option.key, option)
        listed = ()
    return tuple(found.values())


def _check_free(attribute: str, name: str, key: str, bases: Iterable[type]) -> None:
    """Raises ConfigError where an attribute that is an option takes the place of something else."""
    for base in bases:
        if name in vars(base) and not isinstance(vars(base)[name], Option):
            raise ConfigError(
                f"the option {attribute} hides {base.__name__}.{name}; give the attribute another name,"
                f' and add key="{key}" to keep the configuration key'
            )


def combine(options: Mapping[str, Option], sources: Iterable[tuple[str, Iterable[Option]]]) -> dict[str, Option]:
    """Options by key: those that every daemon has, and those of each source, which is an application or component.

    Raises ConfigError for one without a key, and where two declare the same key differently.
    """
    combined = dict(options)
    owners: dict[str, str] = {}
    for source, its in sources:
        for option in its:
            if not option.key:
                raise ConfigError(f'{source} has an option without a key ("{option.help}"); add key="..."')
            if combined.get(option.key, option) != option:
                owner = owners.get(option.key, "every daemon")
                raise ConfigError(
                    f"{source} declares the key {option.key}, which {owner} has too; give it another name"
                )
            combined[option.key] = option
            owners[option.key] = source
    return combined
