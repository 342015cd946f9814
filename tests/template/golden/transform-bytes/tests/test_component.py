"""What the component makes of messages. `piper` gives each test queues of its own."""

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
        default_message_format="bytes",
    )


def test_passes_each_message_on_in_order(piper: Piper) -> None:
    piper.put(b"hello")
    piper.put(b"\x00\xff")
    piper.put(b"")
    piper.run(build)
    assert piper.out == [b"hello", b"\x00\xff", b""]
    assert piper.errors == []


@pytest.mark.slow
def test_loses_nothing_wherever_it_is_killed(piper: Piper) -> None:
    piper.crash_walk(build, b"\x00\xff")
