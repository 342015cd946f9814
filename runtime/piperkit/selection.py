"""Which messages: one language for every command that looks at messages or acts on them.

A `Selection` holds where all its criteria hold. Those that cost nothing come first: the contents are read only for a
message that meets all others, and only where a member of JSON is asked for.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from piperkit.errors import UsageError

_AGE = re.compile(r"(\d+(?:\.\d+)?)(s|min|m|h|d|w)?")
_SECONDS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_MEMBER = re.compile(r"(?P<path>[^=]+?)(?P<how>=~|=)(?P<value>.*)", re.DOTALL)


class Found(Protocol):
    """A message as it is found in a queue."""

    @property
    def id(self) -> str: ...
    @property
    def arrived(self) -> float: ...
    @property
    def attempts(self) -> int: ...
    @property
    def reason(self) -> str | None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A member of a JSON message, by the path of its names and indexes, that is this value or matches this pattern.

    Of an object or a list inside of a message, the value is its JSON.
    """

    path: tuple[str, ...]
    value: str
    pattern: re.Pattern[str] | None = None

    @classmethod
    def parse(cls, text: str) -> Member:
        """PATH=VALUE, or PATH=~REGEX; a path is such as Source.0.IP4. Raises UsageError."""
        found = _MEMBER.fullmatch(text)
        if found is None:
            raise UsageError(f"--where {text}: must be such as Source.0.IP4=192.0.2.7, or host=~^db")
        pattern = expression("--where", found["value"]) if found["how"] == "=~" else None
        return cls(tuple(found["path"].split(".")), found["value"], pattern)

    def holds(self, contents: Any) -> bool:
        """Whether it holds for a message's value."""
        found, contents = member(contents, self.path)
        if not found:
            return False
        text = contents if isinstance(contents, str) else json.dumps(contents)
        return text == self.value if self.pattern is None else self.pattern.search(text) is not None


def member(contents: Any, path: Sequence[str]) -> tuple[bool, Any]:
    """Whether a value has a member of that path of names and indexes, and that."""
    for step in path:
        if isinstance(contents, dict) and step in contents:
            contents = contents[step]
        elif isinstance(contents, list) and step.isdecimal() and int(step) < len(contents):
            contents = contents[int(step)]
        else:
            return False, None
    return True, contents


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """Criteria; one that is not set holds for every message."""

    ids: Collection[str] = ()  #: which are looked for, so that no message has to be compared with them
    older: float | None = None  #: seconds since the message arrived, at least
    newer: float | None = None  #: seconds since the message arrived, less than
    attempts: int | None = None  #: at least
    reason: re.Pattern[str] | None = None  #: found in why the last attempt failed
    members: Sequence[Member] = ()

    @property
    def everything(self) -> bool:
        """Whether there is no criterion."""
        criteria = (self.older, self.newer, self.attempts, self.reason)
        return not self.ids and not self.members and all(each is None for each in criteria)

    def holds(self, message: Found, now: float, read: Callable[[], bytes]) -> bool:
        """Whether a message is meant. read: its contents; may raise FileNotFoundError, where it has moved on."""
        age = now - message.arrived
        return (
            (self.older is None or age >= self.older)
            and (self.newer is None or age < self.newer)
            and (self.attempts is None or message.attempts >= self.attempts)
            and (self.reason is None or self.reason.search(message.reason or "") is not None)
            and (not self.members or self._members_hold(read()))
        )

    def _members_hold(self, data: bytes) -> bool:
        try:
            contents = json.loads(data)
        except (ValueError, RecursionError):
            return False
        return all(member.holds(contents) for member in self.members)


def seconds(option: str, text: str) -> float:
    """A length of time: 90s, 5min, 2h, 3d, 1w; without a unit, seconds. Raises UsageError."""
    found = _AGE.fullmatch(text)
    if found is None:
        raise UsageError(f"{option} {text}: must be a length of time such as 90s, 5min, 2h, 3d, 1w")
    return float(found[1]) * _SECONDS[found[2] or "s"]


def expression(option: str, text: str) -> re.Pattern[str]:
    """A regular expression. Raises UsageError."""
    try:
        return re.compile(text)
    except re.error as error:
        raise UsageError(f"{option} {text}: is not a regular expression: {error}") from None
