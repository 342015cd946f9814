"""Which messages are made. `piper` gives each test queues of its own."""

from pathlib import Path

import pytest
from piperkit import PiperDaemon
from piperkit.testing import Piper

from mydaemon.component import Mydaemon


def build(argv: list[str]) -> PiperDaemon:
    """A daemon with this component alone, and a file for it to follow."""
    if not Path("followed").exists():
        Path("followed").write_bytes(b"one\n")
    return PiperDaemon(
        name="mydaemon",
        argv=argv,
        components=[Mydaemon()],
        default_message_format="bytes",
        default_follow="followed",
        default_position="position",
    )


def add(piper: Piper, text: bytes) -> None:
    with open(piper.directory / "followed", "ab") as file:
        file.write(text)


def test_makes_a_message_of_each_line_in_order(piper: Piper) -> None:
    add(piper, b"one\n\nGr\xfc\xdfe\r\nthree\nnot yet a li")
    piper.run(build)
    assert piper.out == [b"one", b"Gr\xfc\xdfe", b"three"]


def test_goes_on_where_it_was_when_the_file_is_rotated(piper: Piper) -> None:
    add(piper, b"one\n")
    piper.run(build)
    add(piper, b"two\n")
    (piper.directory / "followed").rename(piper.directory / "followed.1")
    add(piper, b"three\n")
    piper.run(build)
    assert piper.out == [b"one", b"two", b"three"]


@pytest.mark.slow
def test_loses_nothing_wherever_it_is_killed(piper: Piper) -> None:
    piper.crash_walk(build, places=["position"])
