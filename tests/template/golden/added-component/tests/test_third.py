"""What the component makes of messages. `piper` gives each test queues of its own."""

import pytest
from piperkit import PiperDaemon
from piperkit.testing import Piper

from mydaemon.third import Third


def build(argv: list[str]) -> PiperDaemon:
    """A daemon with this component alone."""
    return PiperDaemon(
        name="mydaemon",
        argv=argv,
        components=[Third()],
        default_message_format="text",
    )


def test_passes_each_message_on_in_order(piper: Piper) -> None:
    piper.put("hello")
    piper.put("Grüße\r\n")
    piper.run(build)
    assert piper.out == [b"hello", "Grüße\r\n".encode()]
    assert piper.errors == []


def test_sets_aside_what_is_not_text(piper: Piper) -> None:
    piper.put(b"\xff\xfe")
    piper.put("hello")
    piper.run(build)
    assert piper.out == [b"hello"]
    assert [contents for contents, _ in piper.errors] == [b"\xff\xfe"]


@pytest.mark.slow
def test_loses_nothing_wherever_it_is_killed(piper: Piper) -> None:
    piper.crash_walk(build, "hello")
