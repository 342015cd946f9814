"""Where messages come from. This file is yours: an update of the template does not touch it."""

from piperkit import Contents
from piperkit.sources import SocketSource


class Mydaemon(SocketSource):
    """Does one thing."""

    def message(self, data: bytes) -> Contents | None:
        """What a datagram, or a line, is as a message: bytes, text, or a dict for JSON. None leaves it out."""
        return data
