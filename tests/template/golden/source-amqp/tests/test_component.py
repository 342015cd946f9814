"""Which messages are made. The connection to the broker is the runtime's, and tested there."""

from mydaemon.component import Mydaemon


def test_makes_a_message_of_whatever_the_broker_sends() -> None:
    assert Mydaemon().message(b"Gr\xfc\xdfe") == b"Gr\xfc\xdfe"
