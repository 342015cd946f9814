"""Which messages are passed on. `piper` gives each test queues of its own."""

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
        default_pattern="^(warning|error):",
    )


def test_passes_on_what_matches_and_drops_the_rest(piper: Piper) -> None:
    piper.put("error: disk full", "info: all is well", "warning: disk nearly full", "no error: either")
    piper.run(build)
    assert piper.out == [b"error: disk full", b"warning: disk nearly full"]
    assert piper.errors == []


def test_a_message_that_takes_for_ever_costs_itself_only(piper: Piper) -> None:
    piper.put("x" * 40 + "!", "error: disk full")
    piper.run(build, "--pattern=^(x+x+)+y|error", "--pattern-time=0.01")
    assert piper.out == [b"error: disk full"]
    assert [reason for _, reason in piper.errors] == ["to look for the pattern took longer than 0.01 s"]


def test_a_wrong_pattern_ends_the_start(piper: Piper) -> None:
    piper.put("error: disk full")
    assert piper.run(build, "--pattern=(") != 0
    assert piper.counts()["incoming"] == 1


@pytest.mark.slow
def test_loses_nothing_wherever_it_is_killed(piper: Piper) -> None:
    piper.crash_walk(build, "error: disk full", "info: all is well")
