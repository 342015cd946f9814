"""Where messages come from. This file is yours: an update of the template does not touch it."""

import os
from pathlib import Path
from typing import BinaryIO

from piperkit import Option, PiperDaemon, Source

#: Lines that are fetched at once.
PART = 500


class Mydaemon(Source):
    """Does one thing.

    It goes on where it was, after a restart and when the file is rotated: while the rotated file stands beside the new
    one, under a name that begins alike, it is read to its end first. A blank line is no message.
    """

    follow = Option(str, "{var}/lib/{name}/followed", kind="path", help="file whose lines are messages", fixed=True)
    position = Option(
        str, "{var}/lib/{name}/position", kind="path", help="file that remembers how far it was read", fixed=True
    )

    def setup(self, daemon: PiperDaemon) -> None:
        self.path, self.place = Path(self.follow), Path(self.position)
        self.place.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.resume()

    def fetch(self) -> list[bytes]:
        """The lines that are complete. An end without a newline counts as a line when the file has been rotated."""
        if self.file is None:
            self.file = self.begin()
        if self.file is None:
            return []
        lines = read(self.file)
        if not lines and self.rotated(self.file):
            lines = read(self.file, to_the_end=True)  # what came before it was rotated, and after the look above
            if not lines:
                self.file.close()
                self.file = self.begin()
                lines = read(self.file) if self.file else []
        return [line.rstrip(b"\r\n") for line in lines]

    def fetched(self) -> None:
        """Remember the file and the place in it, atomically: it is the old one, or the new one."""
        if self.file is not None:
            new = self.place.with_name(f"{self.place.name}.new")
            with open(new, "w", encoding="ascii") as file:
                file.write(f"{os.fstat(self.file.fileno()).st_ino} {self.file.tell()}\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.place)

    def teardown(self, daemon: PiperDaemon) -> None:
        if self.file is not None:
            self.file.close()

    def resume(self) -> BinaryIO | None:
        """The file that was read last, at that place, whatever it is called by now."""
        if self.place.exists():
            inode, offset = map(int, self.place.read_text(encoding="ascii").split())
            for path in self.path.parent.glob(f"{self.path.name}*"):
                if path.stat().st_ino == inode and path.stat().st_size >= offset:
                    file = open(path, "rb")  # noqa: SIM115 (closed in teardown)
                    file.seek(offset)
                    return file
        return self.begin()

    def begin(self) -> BinaryIO | None:
        """The file, from its beginning; None while there is none."""
        return open(self.path, "rb") if self.path.exists() else None

    def rotated(self, file: BinaryIO) -> bool:
        """Whether another file has this one's name now. One that was cut short is read from its beginning again."""
        if os.fstat(file.fileno()).st_size < file.tell():
            file.seek(0)
        return self.path.exists() and not os.path.samestat(self.path.stat(), os.fstat(file.fileno()))


def read(file: BinaryIO, *, to_the_end: bool = False) -> list[bytes]:
    """The next lines of a file, without blank ones; it stands behind the last one then."""
    lines: list[bytes] = []
    while len(lines) < PART:
        place = file.tell()
        line = file.readline()
        if not line or not (line.endswith(b"\n") or to_the_end):
            file.seek(place)
            break
        if line.strip():
            lines.append(line)
    return lines
