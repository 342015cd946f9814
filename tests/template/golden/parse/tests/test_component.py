"""What is made of each line. `piper` gives each test queues of its own."""

import json

import pytest
from piperkit import PiperDaemon
from piperkit.testing import Piper

from mydaemon.component import Mydaemon


def build(argv: list[str]) -> PiperDaemon:
    """A daemon with this component alone."""
    return PiperDaemon(name="mydaemon", argv=argv, components=[Mydaemon()])


def test_makes_an_object_of_a_line(piper: Piper) -> None:
    piper.put("alert: disk full", "hello\n", "...")
    piper.run(build)
    assert [json.loads(contents) for contents in piper.out] == [
        {"type": "alert", "text": "disk full"},
        {"type": "hello", "text": ""},
        {"type": "", "text": ""},
    ]
    assert piper.errors == []


def test_a_group_that_took_no_part_is_left_out(piper: Piper) -> None:
    piper.put("a", "b2")
    piper.run(build, r"--pattern=(?P<letter>\w)(?P<digit>\d)?")
    assert [json.loads(contents) for contents in piper.out] == [{"letter": "a"}, {"letter": "b", "digit": "2"}]


def test_sets_aside_what_does_not_match(piper: Piper) -> None:
    piper.put("12", "no number", b"\xff")
    piper.run(build, r"--pattern=(?P<number>\d+)")
    assert [json.loads(contents) for contents in piper.out] == [{"number": "12"}]
    assert [contents for contents, _ in piper.errors] == [b"no number", b"\xff"]


def test_a_message_that_takes_for_ever_costs_itself_only(piper: Piper) -> None:
    piper.put("x" * 40 + "!", "y")
    piper.run(build, "--pattern=(?P<all>(x+x+)+y|y)", "--pattern-time=0.01")
    assert [json.loads(contents) for contents in piper.out] == [{"all": "y"}]
    assert [reason for _, reason in piper.errors] == ["to match it took longer than 0.01 s"]


@pytest.mark.parametrize("pattern", ["(", "no groups"])
def test_a_wrong_pattern_ends_the_start(piper: Piper, pattern: str) -> None:
    piper.put("alert: disk full")
    assert piper.run(build, f"--pattern={pattern}") != 0
    assert piper.counts()["incoming"] == 1


@pytest.mark.slow
def test_loses_nothing_wherever_it_is_killed(piper: Piper) -> None:
    piper.crash_walk(build, "alert: disk full", "info: all is well")
