"""What the component makes of messages. `piper` gives each test queues of its own."""

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
    )


def test_passes_each_message_on_in_order(piper: Piper) -> None:
    piper.put({"number": 1})
    piper.put({"number": 2})
    piper.run(build)
    assert [json.loads(contents) for contents in piper.out] == [{"number": 1}, {"number": 2}]
    assert piper.errors == []


def test_sets_aside_what_is_no_object(piper: Piper) -> None:
    piper.put("[1, 2]")
    piper.put("{ this is not JSON")
    piper.put({"number": 1})
    piper.run(build)
    assert [json.loads(contents) for contents in piper.out] == [{"number": 1}]
    assert [contents for contents, _ in piper.errors] == [b"[1, 2]", b"{ this is not JSON"]


@pytest.mark.slow
def test_loses_nothing_wherever_it_is_killed(piper: Piper) -> None:
    piper.crash_walk(build, {"number": 1})
