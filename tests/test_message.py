"""A message is a plain value, and what can be wrong with an answer to one is said where it is given."""

from __future__ import annotations

import copy
import json
import math
from collections import ChainMap
from types import MappingProxyType
from typing import Any

import pytest

from piperkit.message import ClaimedMessage, Failure, Message, Reject, Retry, Unavailable, encode


class Claim:
    """A claim of a queue, which counts how often its age is asked for."""

    id, attempt = "a", 2

    def __init__(self) -> None:
        self.looks = 0

    @property
    def arrived(self) -> float:
        self.looks += 1
        return 5.0


# -- the value -----------------------------------------------------------------------------------------------


def test_messages_of_the_same_values_are_equal() -> None:
    assert Message("a", b"x") == Message("a", b"x", 1, 0.0)
    assert len({Message("a", b"x"), Message("a", b"x")}) == 1
    for other in (Message("b", b"x"), Message("a", b"y"), Message("a", b"x", 2), Message("a", b"x", 1, 1.0), "a"):
        assert Message("a", b"x") != other


def test_replace_makes_another_message_with_contents_of_its_own() -> None:
    message = Message("a", b"[1]", 2, 3.0)
    assert message.json == [1]
    assert message.replace(data=b"[2]") == Message("a", b"[2]", 2, 3.0)
    assert message.replace(data=b"[2]").json == [2]
    assert message.replace(id="b", attempt=1, arrived=0.0) == Message("b", b"[1]")
    with pytest.raises(TypeError, match="colour"):
        message.replace(colour="blue")


@pytest.mark.parametrize("name", ["id", "data", "attempt", "arrived", "text", "json", "anything"])
def test_a_message_does_not_change(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Message("a", b"x"), name, "y")


def test_a_message_can_be_copied_and_shows_nothing_of_its_contents() -> None:
    message = Message("a", b"secret")
    assert copy.deepcopy(message) == message
    assert repr(message) == "Message(id='a', attempt=1)"


def test_a_claimed_message_looks_up_only_what_is_asked_for_and_once() -> None:
    claim, reads = Claim(), []

    def read(id: str) -> bytes:
        reads.append(id)
        return b"contents"

    message = ClaimedMessage(claim, read)
    assert (message.id, message.attempt) == ("a", 2)
    assert (reads, claim.looks) == ([], 0)
    assert message == Message("a", b"contents", 2, 5.0) == message
    assert message.text == "contents"
    assert (reads, claim.looks) == (["a"], 1)
    assert ClaimedMessage(claim, read, "known").data == b"known"
    assert len(reads) == 1


# -- JSON ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "contents",
    [
        b"NaN",
        b'{"v": -Infinity}',
        b"[1e400]",  # valid, but it would become Infinity
        b"1" * 5000,  # more digits than Python turns into a number
        b"[" * 100_000,
        b"",
        b"\xef\xbb\xbf{}",
        b"\xff",
    ],
)
def test_what_is_no_json_is_rejected_with_a_reason(contents: bytes) -> None:
    with pytest.raises(Reject, match="not valid"):
        _ = Message("a", contents).json


@pytest.mark.parametrize("contents", [b'"\\ud800"', b'{"k\\udfff":["\\ud800","\xc3\xa9"]}', b"null", b"[1.5,0,true]"])
def test_every_json_value_that_comes_in_can_go_out_again(contents: bytes) -> None:
    value = Message("a", contents).json
    assert json.loads(encode([value])) == [value]


def test_what_is_no_object_is_rejected_as_such() -> None:
    assert Message("a", b'{"v": [1]}').json_object == {"v": [1]}
    for contents in (b"[1]", b"null", b"1"):
        with pytest.raises(Reject, match="not a JSON object"):
            _ = Message("a", contents).json_object


@pytest.mark.parametrize("value", [math.nan, math.inf, {"v": [math.nan]}, {math.inf: 1}])
def test_what_json_has_no_form_for_is_not_written(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Message("a", b"x").commit([value])


@pytest.mark.parametrize("contents", [1, 1.5, object(), {1, 2}, iter("ab"), [b"bytes"], [object()], {"k": {1}}])
def test_contents_of_other_types_are_refused(contents: Any) -> None:
    with pytest.raises(TypeError):
        encode(contents)


@pytest.mark.parametrize(
    ("contents", "stored"),
    [
        (MappingProxyType({"a": (1, 2)}), b'{"a":[1,2]}'),
        ([ChainMap({"a": 1})], b'[{"a":1}]'),
        (range(3), b"[0,1,2]"),
        (bytearray(b"ab"), b"ab"),
    ],
)
def test_contents_are_what_their_type_says(contents: Any, stored: bytes) -> None:
    assert encode(contents) == stored


# -- answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("queue", "error"),
    [(None, TypeError), (5, TypeError), (b"q", TypeError), ("", ValueError), ("a\0b", ValueError)],
)
def test_a_queue_that_can_be_none_is_refused_where_it_is_named(queue: Any, error: type[Exception]) -> None:
    message = Message("a", b"x")
    with pytest.raises(error, match="queue"):
        message.dispatch(queue)
    with pytest.raises(error, match="queue"):
        message.commit().duplicate(queue)


@pytest.mark.parametrize("kind", [Retry, Unavailable])
@pytest.mark.parametrize(
    ("delay", "error"),
    [
        ("5", TypeError),
        (True, TypeError),
        ([], TypeError),
        (-1, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
    ],
)
def test_a_delay_that_is_no_time_is_refused_where_it_is_given(kind: Any, delay: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="number of seconds"):
        kind("later", delay)


@pytest.mark.parametrize("delay", [None, 0, 2.5])
def test_a_delay_is_kept(delay: float | None) -> None:
    assert Retry("later", delay).delay == delay
    assert Unavailable("later", delay).delay == delay


# -- failures ------------------------------------------------------------------------------------------------


class TextRaises(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class TextIsANumber(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # noqa: PLE0307


@pytest.mark.parametrize(
    "error", [TextRaises(), TextIsANumber(), Reject(TextRaises()), KeyError("\ud800"), SystemExit()]
)
def test_a_failure_is_made_of_whatever_was_raised(error: BaseException) -> None:
    failure = Failure.of(error)
    assert failure.exception == type(error).__name__
    assert failure.reason


def test_a_failure_keeps_a_bounded_text() -> None:
    failure = Failure.of(ValueError("x" * 1_000_000))
    assert len(failure.reason) < 3000
    assert failure.traceback is not None
    assert len(failure.traceback) <= 20_000
