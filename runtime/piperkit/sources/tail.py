"""`Tail`: one file, read line by line from a place on, for as long as it is the file that was begun."""

from __future__ import annotations

import bz2
import codecs
import dataclasses
import errno
import gzip
import hashlib
import lzma
import os
import zlib
from collections.abc import Callable
from typing import Protocol

from piperkit.sources.positions import Key, Place


class _Stream(Protocol):
    """What gzip, bz2 and lzma give."""

    def seek(self, offset: int, /) -> int: ...
    def tell(self) -> int: ...
    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


#: Bytes that are read at once; a multiple of the width of any character.
PIECE = 1 << 16
#: Bytes by which a file is recognised: of its beginning, and before the place where reading goes on.
_HEAD, _LAST = 1024, 256
_OPENERS: dict[str, Callable[[str], _Stream]] = {".gz": gzip.GzipFile, ".bz2": bz2.BZ2File, ".xz": lzma.LZMAFile}
#: Suffixes of compressed files: those that can be read, and others.
READABLE = tuple(_OPENERS)
COMPRESSED = (*READABLE, ".zst", ".lz4", ".lzma", ".Z", ".zip")
#: MiB of a compressed file that are read to see whether it is complete.
_PROBED = 64
#: What a compressed file raises that is no such file, or not whole yet.
_BROKEN = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, ValueError)


class Contents(Protocol):
    """What can be read at any place. Raises OSError."""

    def read(self, offset: int, size: int) -> bytes: ...
    def skip_hole(self, offset: int) -> int:
        """Where there is something again, from `offset` on, which is in a hole perhaps."""
        ...

    def close(self) -> None: ...


class Plain:
    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self.fd, size, offset)

    def skip_hole(self, offset: int) -> int:
        try:
            return os.lseek(self.fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return os.fstat(self.fd).st_size
            return offset

    def close(self) -> None:
        os.close(self.fd)


class Packed:
    """A compressed file. It grows while it is being compressed: where it ends too early, that is its end for now."""

    def __init__(self, path: str, opener: Callable[[str], _Stream]) -> None:
        self._file = opener(path)

    def read(self, offset: int, size: int) -> bytes:
        try:
            self._file.seek(offset)
            if self._file.tell() < offset:
                return b""
            return self._file.read(size)
        except _BROKEN:
            return b""

    def skip_hole(self, offset: int) -> int:
        return offset

    def close(self) -> None:
        self._file.close()


def contents(path: str) -> Contents:
    """What is in a file, decompressed where its name says that it is compressed. Raises OSError."""
    opener = _OPENERS.get(os.path.splitext(path)[1])
    return Plain(path) if opener is None else Packed(path, opener)


class Text:
    """How lines are told apart, and what they are as messages.

    encoding: of the text. UTF-8 is passed on as it is; other text as UTF-8, and what is none with escapes.
    line_max: bytes of a line.
    """

    def __init__(self, encoding: str, line_max: int) -> None:
        """Raises LookupError for an encoding that nobody knows."""
        name = codecs.lookup(encoding).name
        self.line_max = line_max
        # A byte order mark at the beginning says which of the two it is; without one, it is this machine's.
        self._encoding = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}.get(name, name)
        self._plain = self._encoding in ("utf-8", "ascii")
        self._mark = "\ufeff".encode(self._encoding) if self._encoding.startswith("utf") else b""
        self.newline = "\n".encode(self._encoding)
        self._return = "\r".encode(self._encoding)
        self.width = len(self.newline)

    def end_of_line(self, data: bytes | bytearray, start: int) -> int:
        """Where the first newline is, from `start` on; -1 where there is none. `data` begins with a character."""
        while (end := data.find(self.newline, start)) >= 0 and end % self.width:
            start = end + 1
        return end

    def message(self, line: bytes, *, first: bool) -> bytes | None:
        """A line as a message; None for a blank one. first: it is at the beginning of its file."""
        if first and self._mark:
            line = line.removeprefix(self._mark)
        line = line.removesuffix(self._return)
        if self.width == 1 and not line.strip():
            return None
        if not self._plain:
            text = line.decode(self._encoding, "backslashreplace")
            return text.encode() if text.strip() else None
        return line


class Tail:
    """A file that is followed. Raises OSError where it cannot be opened.

    current: it has the name that is followed; otherwise it was rotated.
    say: told what cannot be made a message.
    """

    def __init__(self, path: str, text: Text, say: Callable[[str], None], place: Place | None = None) -> None:
        self.path = path
        self._text = text
        self._say = say
        self._contents = contents(path)
        stat = os.stat(path)
        self.key: Key = (stat.st_dev, stat.st_ino)
        self.mtime = stat.st_mtime
        self.current = True
        self.rotated: float | None = None  #: monotonic time since when it was rotated, or has grown after that
        self.offset = place.offset if place else 0  #: where the line begins that is read next
        self._at = self.offset  #: where reading goes on; between the two is `_begun`
        self._begun = bytearray()  #: a line that has no end yet
        self._left_out = 0  #: bytes of such a line, if it is too long
        self._hole = 0  #: bytes of a hole before it
        self._seen = (-1, -1)  #: its size and time of change, when it was last looked whether it is the same
        known = dataclasses.replace(place, path=path, device=stat.st_dev, inode=stat.st_ino) if place else None
        self._known = known or Place(path, *self.key)  #: with what it is recognised by
        if self.offset and not self._known.last:
            self._recognise()

    def close(self) -> None:
        self._contents.close()

    def place(self) -> Place:
        """How far it was read."""
        size = self._status()[0]
        done = not self.current and self.offset >= size
        return dataclasses.replace(self._known, offset=self.offset, size=size, done=done)

    @property
    def compressed(self) -> bool:
        return not isinstance(self._contents, Plain)

    def _status(self) -> tuple[int, int]:
        """The bytes that are in it, as far as is known, and when it was changed."""
        if isinstance(self._contents, Plain):
            there = os.fstat(self._contents.fd)
            return there.st_size, there.st_mtime_ns
        return self.offset, 0

    def is_removed(self) -> bool:
        """Whether it has no name any more."""
        return isinstance(self._contents, Plain) and os.fstat(self._contents.fd).st_nlink == 0

    def is_intact(self) -> bool:
        """Whether what was read is still there: it was not cut short, nor written anew under the same name.

        To be asked before `lines`. Where it has grown, a line that was begun is read again.
        """
        status = self._status()
        if status == self._seen:
            return True
        if status[0] < self._at or not fits(self._contents, self.place()):
            return False
        self._seen = status
        if not self._left_out:
            self._at, self._hole = self.offset, 0
            self._begun.clear()
        return True

    def begins_like(self, path: str) -> bool:
        """Whether a file has the beginning of this one, or part of it. Raises nothing."""
        try:
            other = contents(path)
            try:
                beginning = other.read(0, _HEAD)
            finally:
                other.close()
            return self._contents.read(0, len(beginning)) == beginning
        except OSError:
            return False

    def lines(self, most: int, *, to_the_end: bool = False) -> list[bytes]:
        """The next messages. to_the_end: what has no newline at the end is one too."""
        found: list[bytes] = []
        text = self._text
        before = self.offset
        while len(found) < most:
            piece = self._piece()
            if not piece:
                if to_the_end and (self._begun or self._left_out):
                    self._end_line(found, self._at)
                break
            start = 0
            while (end := text.end_of_line(piece, start)) >= 0:
                self._add(piece[start:end])
                start = end + text.width
                self._end_line(found, self._at + start)
                if len(found) >= most:
                    break
            if len(found) >= most:
                self._at = self.offset
                break
            self._add(piece[start:])
            self._at += len(piece)
        if self.offset != before:
            self._recognise()
        return found

    def _piece(self) -> bytes:
        """What comes next, without a hole before it."""
        while True:
            piece = self._contents.read(self._at, PIECE)
            piece = piece[: len(piece) - len(piece) % self._text.width]
            if self._begun or self._left_out or self._text.width > 1 or not piece.startswith(b"\0"):
                return piece
            rest = piece.lstrip(b"\0")
            skipped = len(piece) - len(rest)
            if not rest:
                skipped = max(skipped, self._contents.skip_hole(self._at) - self._at)
            self._hole += skipped
            self._at += skipped
            if rest:
                return rest

    def _add(self, part: bytes) -> None:
        """More of a line."""
        if self._left_out or len(self._begun) + len(part) > self._text.line_max:
            self._left_out += len(self._begun) + len(part)
            self._begun.clear()
        else:
            self._begun += part

    def _end_line(self, found: list[bytes], end: int) -> None:
        """The line is whole; it ends before `end`."""
        if self._hole:
            self._say(f"{self.path}: a hole of {self._hole} bytes at byte {self.offset} is left out")
        if self._left_out:
            self._say(
                f"{self.path}: a line of {self._left_out} bytes at byte {self.offset + self._hole} is longer than"
                f" line_max, {self._text.line_max} bytes, and is left out"
            )
        else:
            message = self._text.message(bytes(self._begun), first=self.offset == 0)
            if message is not None:
                found.append(message)
        self._begun.clear()
        self._left_out = self._hole = 0
        self.offset = end

    def _recognise(self) -> None:
        """Remember what the file is to be recognised by."""
        known, read = self._known, self._contents.read
        if known.head_size < _HEAD:
            size = min(_HEAD, self.offset)
            known = dataclasses.replace(known, head_size=size, head=digest(read(0, size)))
        size = min(_LAST, self.offset)
        self._known = dataclasses.replace(known, last_size=size, last=digest(read(self.offset - size, size)))


def is_whole(path: str) -> bool:
    """Whether a compressed file is complete, as far as a look at it shows. Raises nothing."""
    opener = _OPENERS.get(os.path.splitext(path)[1])
    if opener is None:
        return True
    try:
        stream = opener(path)
        try:
            for _ in range(_PROBED):
                if not stream.read(1 << 20):
                    return True
        finally:
            stream.close()
    except (OSError, *_BROKEN):
        pass
    return False


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def fits(there: Contents, place: Place) -> bool:
    """Whether this is the file that was read up to `place`. Raises OSError."""
    head = there.read(0, place.head_size)
    if len(head) != place.head_size or (place.head and digest(head) != place.head):
        return False
    last = there.read(place.offset - place.last_size, place.last_size)
    if len(last) != place.last_size or (place.last and digest(last) != place.last):
        return False
    # Where nothing is known but how far it was read, it has to be as long.
    return bool(place.last) or not place.offset or bool(there.read(place.offset - 1, 1))
