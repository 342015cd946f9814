"""What is added to each message. `piper` gives each test queues of its own."""

import json

import pytest
from piperkit import PiperDaemon
from piperkit.testing import Piper

from mydaemon.component import Mydaemon


def build(argv: list[str]) -> PiperDaemon:
    """A daemon with this component alone."""
    return PiperDaemon(
        name="mydaemon",
        argv=argv,
        components=[Mydaemon()],
        default_message_format="json",
        default_facts={"db1": {"site": "north", "owner": "Jane"}},
    )


def test_adds_what_is_known(piper: Piper) -> None:
    piper.put({"host": "db1", "load": 3}, {"host": "db2"}, {"host": None}, {"load": 1})
    piper.run(build)
    assert [json.loads(contents) for contents in piper.out] == [
        {"host": "db1", "load": 3, "site": "north", "owner": "Jane"},
        {"host": "db2"},
        {"host": None},
        {"load": 1},
    ]


def test_what_the_message_says_itself_stands(piper: Piper) -> None:
    piper.put({"host": "db1", "owner": "Joe"})
    piper.run(build)
    assert [json.loads(contents)["owner"] for contents in piper.out] == ["Joe"]


def test_sets_aside_what_is_no_object(piper: Piper) -> None:
    piper.put("[1, 2]", "{ this is not JSON")
    piper.run(build)
    assert piper.out == []
    assert [contents for contents, _ in piper.errors] == [b"[1, 2]", b"{ this is not JSON"]


@pytest.mark.slow
def test_loses_nothing_wherever_it_is_killed(piper: Piper) -> None:
    piper.crash_walk(build, {"host": "db1"})
