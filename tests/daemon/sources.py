"""Two sources: a file that grows, and a socket."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from piperkit import Option, PiperDaemon, Source


class Lines(Source):
    """Follows a file, and remembers in which one it was, and where."""

    options = (
        Option("follow", "path", "followed", "file"),
        Option("position", "path", "position", "file that remembers how far it was read"),
        *Source.options,
    )

    def setup(self, daemon: PiperDaemon) -> None:
        self.path, self.position = Path(daemon.c("follow")), Path(daemon.c("position"))
        self.inode, self.offset = 0, 0
        if self.position.exists():
            self.inode, self.offset = map(int, self.position.read_text().split())

    def fetch(self) -> list[bytes]:
        path = next(
            (each for each in self.path.parent.glob(f"{self.path.name}*") if each.stat().st_ino == self.inode), None
        )
        if path is None:
            path, self.offset = self.path, 0
        with open(path, "rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            self.inode, self.offset = inode, self.offset if inode == self.inode else 0
            file.seek(self.offset)
            lines = [line for line in file if line.endswith(b"\n")]
        self.offset += sum(map(len, lines))
        if not lines and path != self.path and self.path.exists():
            self.inode, self.offset = self.path.stat().st_ino, 0
            return self.fetch()
        return [line.rstrip() for line in lines]

    def fetched(self) -> None:
        new = self.position.with_suffix(".new")
        new.write_text(f"{self.inode} {self.offset}")
        new.replace(self.position)


class Datagrams(Source):
    """Listens on a local socket; each datagram is a message."""

    options = (Option("address", "path", "socket", "path of the socket"), *Source.options)

    def setup(self, daemon: PiperDaemon) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(daemon.c("address"))

    def fileno(self) -> int:
        return self.socket.fileno()

    def fetch(self) -> list[bytes]:
        found: list[bytes] = []
        try:
            while len(found) < 100:
                found.append(self.socket.recv(65536))
        except BlockingIOError:
            pass
        return found

    def teardown(self, daemon: PiperDaemon) -> None:
        self.socket.close()


def followed(argv: list[str]) -> PiperDaemon:
    """Follows a file that it makes, if need be."""
    if not Path("followed").exists():
        Path("followed").write_text("one\ntwo\n")
    return PiperDaemon(name="lines", argv=argv, components=[Lines()])
