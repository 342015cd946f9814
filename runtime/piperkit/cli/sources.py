"""What `piperctl queue put` reads: files and standard input, whole or in lines, in bytes.

Nothing here holds more than one message and one chunk in memory, however long the input is.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from piperkit.cli import render
from piperkit.cli.interrupts import Interrupts
from piperkit.errors import ExitStatus, MessageTooLarge, PiperError

_CHUNK = 1 << 16
STDIN = Path("-")

#: Returns some more bytes; none at the end.
Read = Callable[[], bytes]


class NoInput(PiperError):
    """Standard input is closed."""

    exit_status = ExitStatus.NO_INPUT


def title(source: Path) -> str:
    """What a source is called in messages."""
    return "standard input" if source == STDIN else render.name(os.fspath(source))


def total(sources: list[Path]) -> int | None:
    """The bytes of all sources; None where that cannot be known before they are read."""
    known = 0
    for source in sources:
        try:
            if source == STDIN or not source.is_file():
                return None
            known += source.stat().st_size
        except OSError:
            return None
    return known


@contextlib.contextmanager
def reading(source: Path, interrupts: Interrupts, idle: Callable[[], None]) -> Iterator[Read]:
    """A source to read from. `idle` is called before a read that has to wait for somebody to write."""
    if source == STDIN:
        if sys.stdin is None:
            raise NoInput("standard input is closed")
        yield _reader(sys.stdin.fileno(), interrupts, idle)
        return
    with interrupts.allowed():  # opening a FIFO waits for its writer
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield _reader(fd, interrupts, idle)
    finally:
        os.close(fd)


def _reader(fd: int, interrupts: Interrupts, idle: Callable[[], None]) -> Read:
    poll = select.poll()
    poll.register(fd, select.POLLIN)

    def read() -> bytes:
        if not poll.poll(0):
            idle()
        with interrupts.allowed():
            poll.poll()  # and not os.read alone, since the descriptor may be a non-blocking one
            return os.read(fd, _CHUNK)

    return read


def whole(read: Read, limit: int) -> bytes:
    """Everything there is to read. Raises MessageTooLarge over `limit` bytes; 0: no limit."""
    chunks, length = [], 0
    while chunk := read():
        chunks.append(chunk)
        length += len(chunk)
        _check(length, limit)
    return b"".join(chunks)


def lines(read: Read, limit: int) -> Iterator[bytes]:
    """Each line with its newline; the last one may have none. Raises MessageTooLarge as `whole`."""
    parts: list[bytes] = []
    length = 0
    while chunk := read():
        for part in _split(chunk):
            parts.append(part)
            length += len(part)
            ended = part.endswith(b"\n")
            _check(length - ended, limit)
            if ended:
                yield b"".join(parts)
                parts, length = [], 0
    if parts:
        yield b"".join(parts)


def _split(chunk: bytes) -> list[bytes]:
    """The pieces of a chunk that end with a newline, and the rest; bytes.splitlines would also end them at \\r."""
    *ended, rest = chunk.split(b"\n")
    return [line + b"\n" for line in ended] + ([rest] if rest else [])


def _check(length: int, limit: int) -> None:
    if limit and length > limit:
        raise MessageTooLarge(f"it is larger than --message-max, {limit} bytes")
