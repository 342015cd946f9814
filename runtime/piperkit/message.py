"""A message, what becomes of it, and the two ways to say that it could not be processed.

These are plain values: they know neither files nor brokers nor daemons. A message is frozen; a component
answers with an `Outcome`, or raises `Reject` or `Retry`.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from piperkit.errors import PiperError

#: What contents may be given as: text is written as UTF-8, a dict or list as one line of JSON.
Contents = bytes | str | Mapping[str, Any] | Sequence[Any]


def encode(contents: Contents) -> bytes:
    """The bytes to store for `contents`. Raises TypeError for what is none of the kinds of `Contents`."""
    if isinstance(contents, bytes):
        return contents
    if isinstance(contents, str):
        return contents.encode()
    if isinstance(contents, bytearray | memoryview):
        return bytes(contents)
    if isinstance(contents, dict | list | tuple):
        return json.dumps(contents, ensure_ascii=False, separators=(",", ":")).encode()
    raise TypeError(f"contents must be str, bytes, or a dict or list for JSON, not {type(contents).__name__}")


class Reject(PiperError):
    """The message cannot be processed, now or later: to `errors`, with this reason beside it."""


class Retry(PiperError):
    """The message cannot be processed now: put it off.

    delay: seconds until the next attempt; None leaves it to the daemon's retry policy.
    """

    def __init__(self, reason: str = "put off by the component", delay: float | None = None) -> None:
        super().__init__(reason)
        if delay is not None and not delay >= 0:
            raise ValueError(f"delay must be a number of seconds, 0 or more, not {delay!r}")
        self.delay = delay


class Format(enum.Enum):
    """What a daemon's messages hold, and so what its component is given."""

    TEXT = "text"  #: UTF-8 text; a message that is not UTF-8, or blank, is banished as such
    BYTES = "bytes"  #: anything, empty ones too
    JSON = "json"  #: one JSON value; a message that is none is banished as such


class Action(enum.StrEnum):
    """What becomes of a message that was processed."""

    COMMIT = "commit"  #: to the output queue; deleted where there is none
    CANCEL = "cancel"  #: deleted
    DISPATCH = "dispatch"  #: to a queue that the component names


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a message; made by `Message.commit`, `.cancel` and `.dispatch`."""

    action: Action
    content: bytes | None = None  #: the new contents; None: as it came
    target: str | None = None  #: DISPATCH: the queue, by the rule of `queue_out_dir`
    copies: tuple[str, ...] = ()  #: queues that get a copy first

    def duplicate(self, queue: str) -> Self:
        """The same, and a copy of the message as it came goes to `queue` first."""
        return dataclasses.replace(self, copies=(*self.copies, queue))


_COMMIT = Outcome(Action.COMMIT)
_CANCEL = Outcome(Action.CANCEL)


@dataclasses.dataclass(frozen=True, init=False)
class Message:
    """One message, claimed by this daemon until its outcome is known."""

    id: str
    data: bytes = dataclasses.field(repr=False)
    attempt: int  #: which attempt at this message this is, counted from 1
    arrived: float  #: when the message was written, in seconds since the epoch

    def __init__(self, id: str, data: bytes, attempt: int = 1, arrived: float = 0.0) -> None:
        # In one step: that of a frozen dataclass takes several times as long, and there is one for each message.
        vars(self).update(id=id, data=data, attempt=attempt, arrived=arrived)

    @functools.cached_property
    def text(self) -> str:
        """The contents as text, every byte of them (no newline is changed). Raises Reject if not UTF-8."""
        try:
            return self.data.decode()
        except UnicodeDecodeError as error:
            raise Reject(f"not valid UTF-8: {error.reason} at byte {error.start}") from None

    @functools.cached_property
    def json(self) -> Any:
        """The contents as a JSON value. Raises Reject if they are none."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError) as error:
            raise Reject(f"not valid JSON: {error}") from None

    def commit(self, contents: Contents | None = None) -> Outcome:
        """Finished: pass it on to the output queue, with `contents` if given; delete it where there is none."""
        return _COMMIT if contents is None else Outcome(Action.COMMIT, encode(contents))

    def cancel(self) -> Outcome:
        """Finished: delete it, even where there is an output queue."""
        return _CANCEL

    def dispatch(self, queue: str, contents: Contents | None = None) -> Outcome:
        """Finished: move it to `queue` (a name or path, as `queue_out_dir`) instead of the output queue."""
        return Outcome(Action.DISPATCH, None if contents is None else encode(contents), queue)


class UnreadMessage(Message):
    """A message whose data is read when somebody asks for it, which may fail with OSError.

    text: the same as text, where that is there already.
    """

    def __init__(
        self, id: str, read: Callable[[], bytes], attempt: int, arrived: float, text: str | None = None
    ) -> None:
        vars(self).update(id=id, attempt=attempt, arrived=arrived, _read=read)
        if text is not None:
            vars(self)["text"] = text  # what the cached property would find out

    @functools.cached_property
    def data(self) -> bytes:
        """The contents."""
        data: bytes = vars(self)["_read"]()
        return data


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Why a message could not be processed; stored beside it in `errors` and in its history."""

    reason: str
    exception: str | None = None  #: the exception's type
    traceback: str | None = None

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """What to keep of an exception; a `Reject` or `Retry` is a statement, so it needs no traceback."""
        name = type(error).__name__
        if isinstance(error, Reject | Retry):
            return cls(str(error), name)
        text = "".join(traceback.format_exception(error))
        return cls(f"{name}: {error}" if str(error) else name, name, text)
