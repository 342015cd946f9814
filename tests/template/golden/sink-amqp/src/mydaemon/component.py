"""Where messages end. This file is yours: an update of the template does not touch it."""

from piperkit import Message
from piperkit.amqp import AmqpSink


class Mydaemon(AmqpSink):
    """Does one thing."""

    def contents(self, message: Message) -> bytes:
        """What is published of a message."""
        return message.data
