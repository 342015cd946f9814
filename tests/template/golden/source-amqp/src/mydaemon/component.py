"""Where messages come from. This file is yours: an update of the template does not touch it."""

from piperkit import Contents
from piperkit.amqp import AmqpSource


class Mydaemon(AmqpSource):
    """Does one thing."""

    def message(self, data: bytes) -> Contents | None:
        """What the broker sends is as a message: bytes, text, or a dict for JSON. None leaves it out."""
        return data
