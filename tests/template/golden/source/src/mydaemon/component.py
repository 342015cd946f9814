"""Where messages come from. This file is yours: an update of the template does not touch it."""

from piperkit import Contents
from piperkit.sources import FileSource


class Mydaemon(FileSource):
    """Does one thing."""

    def message(self, line: bytes) -> Contents | None:
        """What a line is as a message: bytes, text, or a dict for JSON. None leaves it out."""
        return line
