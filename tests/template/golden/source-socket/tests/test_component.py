"""Which messages are made. `piper` gives each test queues of its own."""

import socket

from piperkit import Contents, PiperDaemon
from piperkit.testing import Piper

from mydaemon.component import Mydaemon


class Sent(Mydaemon):
    """Has these datagrams sent to it before it looks for the first time."""

    def __init__(self, *datagrams: bytes) -> None:
        super().__init__()
        self.datagrams = list(datagrams)

    def fetch(self) -> list[Contents]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.connect(self.socket_path)
            while self.datagrams:
                client.send(self.datagrams.pop(0))
        return super().fetch()


def run(piper: Piper, *datagrams: bytes) -> None:
    """Run a daemon with this component alone, and a socket in the test's directory."""
    piper.run(
        lambda argv: PiperDaemon(
            name="mydaemon",
            argv=argv,
            components=[Sent(*datagrams)],
            default_message_format="bytes",
            default_socket_path="it.socket",
        )
    )


def test_makes_a_message_of_each_datagram_in_order(piper: Piper) -> None:
    run(piper, b"one", b" \n", b"Gr\xfc\xdfe")
    assert piper.out == [b"one", b"Gr\xfc\xdfe"]


def test_listens_anew_when_it_is_started_again(piper: Piper) -> None:
    for text in (b"one", b"two"):
        run(piper, text)
    assert piper.out == [b"one", b"two"]
