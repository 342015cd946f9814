"""A message, what happens to it, and the ways to say that it could not be processed.

These are plain values that know nothing of files, brokers or daemons. A component answers a message with an `Outcome`,
or raises `Reject`, `Retry` or `Unavailable`.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol, Self

from piperkit.errors import ExitStatus, PiperError

#: What contents may be given as: text is written as UTF-8, a dict or list as one line of JSON.
Contents = bytes | str | Mapping[str, Any] | Sequence[Any]


def encode(contents: Contents) -> bytes:
    """The bytes to store for `contents`.

    Raises TypeError for a type that `Contents` does not include, and ValueError for a value that UTF-8 or JSON cannot
    represent, such as NaN.
    """
    if isinstance(contents, bytes):
        return bytes(contents)  # the same object, unless it is of a subclass
    if isinstance(contents, str):
        return contents.encode()
    if isinstance(contents, bytearray | memoryview):
        return bytes(contents)
    if isinstance(contents, _STRUCTURES):
        try:
            return _ENCODER.encode(contents).encode()
        except UnicodeEncodeError:  # half a surrogate pair, for which JSON has an escape, and UTF-8 nothing
            return _ESCAPING_ENCODER.encode(contents).encode()
    raise TypeError(f"contents must be str, bytes, or a dict or list for JSON, not {type(contents).__name__}")


def _plain(value: Any) -> dict[Any, Any] | list[Any]:
    """What json(3) cannot write by itself, as what it can."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text:.80} is too large a number")
    return value


# Made once: json.dumps and json.loads make one for each call that has arguments.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
_ESCAPING_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_plain)
_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant)
#: What becomes JSON; the usual types first, since they are quickly recognised.
_STRUCTURES = (dict, list, tuple, Mapping, Sequence)
#: In place of a JSON value that nobody has asked for yet.
_NOT_READ = object()


class Reject(PiperError):
    """The message cannot be processed, now or later: it goes to `errors`, with this reason beside it."""


class Retry(PiperError):
    """The message cannot be processed now: it is deferred.

    delay: seconds until the next attempt; None leaves it to the daemon's retry policy.
    """

    def __init__(self, reason: str = "put off by the component", delay: float | None = None) -> None:
        super().__init__(reason)
        self.delay = _seconds(delay)


class Unavailable(PiperError):
    """The fault is not the message's: something that the component depends on is not available now.

    All messages go back into the queue, and none is charged with a failed attempt; the daemon waits and tries again.
    delay: seconds until then; None leaves it to the daemon.
    """

    exit_status = ExitStatus.TEMPORARY

    def __init__(self, reason: str, delay: float | None = None) -> None:
        super().__init__(reason)
        self.delay = _seconds(delay)


def _seconds(delay: float | None) -> float | None:
    """A delay, checked where a component gives it, so that it is known whose mistake it is."""
    wanted = f"delay must be a number of seconds, 0 or more, or None, not {delay!r:.80}"
    if isinstance(delay, bool) or not isinstance(delay, int | float | None):
        raise TypeError(wanted)
    if delay is not None and not 0 <= delay < math.inf:
        raise ValueError(wanted)
    return delay


class Format(enum.Enum):
    """What a daemon's messages contain, and so what its component gets."""

    TEXT = "text"  #: UTF-8 text; a message that is blank or not UTF-8 is banished
    BYTES = "bytes"  #: anything, even nothing
    JSON = "json"  #: one JSON value; any other message is banished


class Action(enum.StrEnum):
    """What happens to a message that was processed."""

    COMMIT = "commit"  #: moved to the output queue; deleted if there is none
    CANCEL = "cancel"  #: deleted
    DISPATCH = "dispatch"  #: moved to a queue that the component names
    KEEP = "keep"  #: stays in work: its component settles it later


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What happens to a message; made by `Message.commit`, `.cancel` and `.dispatch`."""

    action: Action
    content: bytes | None = None  #: the new contents; None: as it came
    target: str | None = None  #: DISPATCH: the queue, by the rule of `queue_out_dir`
    copies: tuple[str, ...] = ()  #: queues that get a copy first

    def duplicate(self, queue: str) -> Self:
        """The same outcome, but a copy of the message, as it came, goes to `queue` first."""
        return dataclasses.replace(self, copies=(*self.copies, _name(queue)))


#: The message stays in work, and the component settles it later, by `Messages.settle` of `piperkit.host`.
KEPT = Outcome(Action.KEEP)
_COMMIT = Outcome(Action.COMMIT)
_CANCEL = Outcome(Action.CANCEL)


class Message:
    """One message, claimed by this daemon until its outcome is known.

    It is an immutable value: two messages are equal if their ids, contents, attempts and times are. `replace` makes a
    changed copy.
    """

    __slots__ = ("_arrived", "_attempt", "_data", "_id", "_json", "_text")

    def __init__(self, id: str, data: bytes, attempt: int = 1, arrived: float = 0.0) -> None:
        self._id = id
        self._data: bytes | None = data
        self._attempt: int | None = attempt
        self._arrived: float | None = arrived
        self._text: str | None = None
        self._json: Any = _NOT_READ

    @property
    def id(self) -> str:
        """The message's name in its queue."""
        return self._id

    @property
    def attempt(self) -> int:
        """Which attempt at this message this is, counted from 1."""
        assert self._attempt is not None, "a message is tried"
        return self._attempt

    @property
    def data(self) -> bytes:
        """The contents."""
        assert self._data is not None, "a message has contents"
        return self._data

    @property
    def arrived(self) -> float:
        """When it was written, in seconds since the epoch."""
        assert self._arrived is not None, "a message has arrived"
        return self._arrived

    @property
    def text(self) -> str:
        """The contents as text, every byte of them (no newline is changed). Raises Reject if they are not UTF-8."""
        if self._text is None:
            self._text = decode(self.data)
        return self._text

    @property
    def json(self) -> Any:
        """The contents as a JSON value, parsed once. Raises Reject if they are not JSON, as NaN and Infinity are not,
        or have a number too large for a float.
        """
        if self._json is _NOT_READ:
            try:
                self._json = _DECODER.decode(self.text)
            except (ValueError, RecursionError) as error:
                raise Reject(f"not valid JSON: {error}") from None
        return self._json

    @property
    def json_object(self) -> dict[str, Any]:
        """The contents as a JSON object. Raises Reject if they are not one."""
        if not isinstance(self.json, dict):
            raise Reject("not a JSON object")
        return self.json

    def replace(self, **changes: Any) -> Message:
        """A copy with other values for any of id, data, attempt and arrived."""
        kept = {name: getattr(self, name) for name in ("id", "data", "attempt", "arrived") if name not in changes}
        return Message(**kept, **changes)

    __replace__ = replace

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return (
            self.id == other.id
            and self.attempt == other.attempt
            and self.arrived == other.arrived
            and self.data == other.data
        )

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self._id!r}, attempt={self._attempt})"

    def commit(self, contents: Contents | None = None) -> Outcome:
        """Finished: pass it on to the output queue, with new `contents` if given; delete it if there is none."""
        return _COMMIT if contents is None else Outcome(Action.COMMIT, encode(contents))

    def cancel(self) -> Outcome:
        """Finished: delete it, even if there is an output queue."""
        return _CANCEL

    def dispatch(self, queue: str, contents: Contents | None = None) -> Outcome:
        """Finished: move it to `queue` (a name or path, as `queue_out_dir`) instead of the output queue.

        Raises TypeError or ValueError for what cannot be the name of a queue.
        """
        return Outcome(Action.DISPATCH, None if contents is None else encode(contents), _name(queue))


class ClaimedMessage(Message):
    """A message of a queue. Its contents, attempt and age are looked up when asked for; that may raise OSError.

    claim: the queue's claim to it. read: gives the contents by its id. text: the contents, if already decoded.
    """

    __slots__ = ("_claim", "_read")

    def __init__(self, claim: _Claim, read: Callable[[str], bytes], text: str | None = None) -> None:
        self._id = claim.id
        self._attempt = self._data = self._arrived = None
        self._text = text
        self._json = _NOT_READ
        self._claim = claim
        self._read = read

    @property
    def attempt(self) -> int:
        if self._attempt is None:
            self._attempt = self._claim.attempt
        return self._attempt

    @property
    def data(self) -> bytes:
        if self._data is None:
            self._data = self._read(self._id) if self._text is None else self._text.encode()
        return self._data

    @property
    def arrived(self) -> float:
        if self._arrived is None:
            self._arrived = self._claim.arrived
        return self._arrived


class _Claim(Protocol):
    """As in `piperkit.queue`."""

    @property
    def id(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def arrived(self) -> float: ...


def decode(data: bytes) -> str:
    """Contents as text. Raises Reject if they are not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Reject(f"not valid UTF-8: {error.reason} at byte {error.start}") from None


def text_of(data: bytes) -> str:
    """Contents as a text that says something. Raises Reject if they are not UTF-8, empty or blank."""
    text = decode(data)
    if not text or text.isspace():
        raise Reject("the message is blank" if text else "the message is empty")
    return text


def _name(queue: str) -> str:
    """The name of a queue, checked where a component gives it, so that it is known whose mistake it is."""
    if not isinstance(queue, str):
        raise TypeError(f"a queue is named by a str, not by {type(queue).__name__}")
    if not queue or "\0" in queue:
        raise ValueError(
            f"{queue[:80]!r} is not the name of a queue; it must be a path, or a bare name for one under var/spool"
        )
    return queue


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Why a message could not be processed; stored beside it in `errors` and in its history."""

    reason: str
    exception: str | None = None  #: the exception's type
    traceback: str | None = None

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """What to keep of an exception; raises nothing. What a component states on purpose needs no traceback."""
        name = type(error).__name__
        text = _text_of(error)
        if isinstance(error, Reject | Retry | Unavailable):
            return cls(text, name)
        try:
            trace = "".join(traceback.format_exception(error))[-_TRACEBACK_MAX:]
        except BaseException:
            trace = None
        return cls(f"{name}: {text}" if text else name, name, trace)


#: Characters that are kept of an exception's text, and of its traceback's end.
_TEXT_MAX, _TRACEBACK_MAX = 2000, 20_000


def _text_of(error: BaseException) -> str:
    """The text of an exception; some have none, and raise another one when they are asked for it."""
    try:
        text = str(error)
    except BaseException as another:
        return f"(it has no text: {type(another).__name__})"
    return text if len(text) <= _TEXT_MAX else text[:_TEXT_MAX] + "..."
