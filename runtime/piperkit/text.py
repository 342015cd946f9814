"""Text that may hold anything, such as names of files and reasons: `harmless` makes it fit to be shown."""

from __future__ import annotations


def harmless(text: str) -> str:
    """Text for one line of a log, a terminal or a message to the service manager: what these would obey, and what is no
    character, is written as \\xNN or \\uNNNN.
    """
    return text if text.isprintable() else "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else ascii(char)[1:-1]  # a byte that is not UTF-8
