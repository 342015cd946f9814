"""What is published of messages. The connection to the broker is the runtime's, and tested there."""

from piperkit import Message

from mydaemon.component import Mydaemon


def test_publishes_messages_as_they_are() -> None:
    assert Mydaemon().contents(Message("1790000000.000000001.1.host", b"Gr\xfc\xdfe")) == b"Gr\xfc\xdfe"
