"""Which messages are made. `piper` gives each test queues of its own."""

from pathlib import Path

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


def rotate(piper: Piper) -> None:
    (piper.directory / "followed").rename(piper.directory / "followed.1")


def test_makes_a_message_of_each_line_in_order(piper: Piper) -> None:
    add(piper, b"one\n\nGr\xfc\xdfe\r\nthree\n")
    piper.run(build)
    assert piper.out == [b"one", b"Gr\xfc\xdfe", b"three"]


def test_a_line_is_fetched_when_it_is_complete(piper: Piper) -> None:
    add(piper, b"one\ntw")
    piper.run(build)
    assert piper.out == [b"one"]
    add(piper, b"o\n")
    piper.run(build)
    assert piper.out == [b"one", b"two"]


def test_nothing_is_lost_when_the_file_is_rotated(piper: Piper) -> None:
    add(piper, b"one\n")
    piper.run(build)
    add(piper, b"two\nthe end, without a newline")
    rotate(piper)
    add(piper, b"three\n")
    piper.run(build)
    assert piper.out == [b"one", b"two", b"the end, without a newline", b"three"]


def test_a_file_that_was_cut_short_is_read_from_its_beginning(piper: Piper) -> None:
    add(piper, b"one\ntwo\n")
    piper.run(build)
    (piper.directory / "followed").write_bytes(b"new\n")
    piper.run(build)
    assert piper.out == [b"one", b"two", b"new"]


def test_loses_nothing_wherever_it_is_killed(piper: Piper) -> None:
    piper.crash_walk(build, places=["position"])
