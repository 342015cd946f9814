"""`SocketSource`: what local programs send to a Unix socket, a message each."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
from collections import deque
from pathlib import Path

from piperkit.errors import ConfigError
from piperkit.host import Host
from piperkit.message import Contents
from piperkit.option import Option
from piperkit.source import Source

#: Messages that are fetched at once.
PART = 500
#: Connections at a time; more wait in the kernel.
_CONNECTIONS_MAX = 100
_PIECE = 1 << 16


class SocketSource(Source):
    """Listens on a Unix socket: a message is a datagram, or a line of a connection.

    While processing pauses, nothing is read, so whoever sends waits, and nothing is lost. What was read is enqueued
    and on the disk before more is; a crash in between loses it, since a socket can be read only once.
    Overwrite `message` to leave some out, or change them.
    """

    socket_path = Option(
        str, "{run}/{name}.socket", kind="path", help="Unix socket that messages are sent to", fixed=True
    )
    socket_type = Option(
        str, "datagram", choices=("datagram", "stream"), help="a message is a datagram, or a line", fixed=True
    )
    socket_mode = Option(int, 0o660, kind="mode", help="mode of the socket: who may send", fixed=True)
    line_max = Option(
        int, 1 << 20, help="longest datagram or line; a longer one is left out, and said", unit="bytes", minimum=1
    )

    def setup(self, daemon: Host) -> None:
        self.__logger = daemon.logger
        self.__streams = self.socket_type == "stream"
        self.__connections: deque[_Connection] = deque()
        self.__socket = _bind(self.socket_path, self.__streams, self.socket_mode)
        self.__poll = select.epoll()
        self.__poll.register(self.__socket, select.EPOLLIN)

    def message(self, data: bytes) -> Contents | None:
        """What was received as a message; None: nothing. A line has no newline, and is not blank."""
        return data

    def fileno(self) -> int | None:
        return self.__poll.fileno()

    def fetch(self) -> list[Contents]:
        received = self.__lines() if self.__streams else self.__datagrams()
        return [message for data in received if (message := self.message(data)) is not None]

    def teardown(self, daemon: Host) -> None:
        for connection in self.__connections:
            connection.socket.close()
        self.__poll.close()
        self.__socket.close()
        with contextlib.suppress(OSError):
            os.unlink(self.socket_path)

    def __datagrams(self) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < PART:
            try:
                data = self.__socket.recv(self.line_max + 1)
            except BlockingIOError:
                break
            if len(data) > self.line_max:
                self.__left_out()
            elif data.strip():
                found.append(data)
        return found

    def __lines(self) -> list[bytes]:
        self.__accept()
        found: list[bytes] = []
        for _ in range(len(self.__connections)):
            connection = self.__connections.popleft()
            lines, ended = connection.read(self.line_max, self.__left_out)
            found += lines
            if ended:
                connection.socket.close()
            else:
                self.__connections.append(connection)
            if len(found) >= PART:
                break
        return found

    def __accept(self) -> None:
        while len(self.__connections) < _CONNECTIONS_MAX:
            try:
                accepted, _ = self.__socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.ECONNABORTED, errno.EINTR):
                    continue
                raise
            accepted.setblocking(False)
            self.__poll.register(accepted, select.EPOLLIN)
            self.__connections.append(_Connection(accepted))

    def __left_out(self) -> None:
        self.__logger.warning(
            "%s: what is longer than line_max, %d bytes, is left out", type(self).__name__, self.line_max
        )


class _Connection:
    """One sender of lines."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self._begun = bytearray()  #: a line that has no end yet
        self._too_long = False

    def read(self, most: int, left_out: object) -> tuple[list[bytes], bool]:
        """The lines that are whole, and whether the sender has gone: then what has no newline is a line too."""
        try:
            data = self.socket.recv(_PIECE)
        except BlockingIOError:
            return [], False
        except OSError:
            data = b""
        *lines, rest = data.split(b"\n")
        found: list[bytes] = []
        for line in lines:
            self._add(line, most)
            self._end(found, left_out)
        self._add(rest, most)
        if not data:
            self._end(found, left_out)
        return found, not data

    def _add(self, part: bytes, most: int) -> None:
        if self._too_long or len(self._begun) + len(part) > most:
            self._too_long = True
            self._begun.clear()
        else:
            self._begun += part

    def _end(self, found: list[bytes], left_out: object) -> None:
        line = bytes(self._begun).removesuffix(b"\r")
        if self._too_long:
            assert callable(left_out)
            left_out()
        elif line.strip():
            found.append(line)
        self._begun.clear()
        self._too_long = False


def _bind(path: str, streams: bool, mode: int) -> socket.socket:
    """Listen; what a process left that has died is replaced. Raises ConfigError."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if streams else socket.SOCK_DGRAM)
    made.setblocking(False)
    before = os.umask(0o777)  # nobody sends before the mode is right
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if _is_left(path, made.type):
            os.unlink(path)
        made.bind(path)
        os.chmod(path, mode)
        if streams:
            made.listen(128)
    except OSError as error:
        made.close()
        raise ConfigError(f"socket_path: {path} cannot be listened on: {error.strerror or error}") from None
    finally:
        os.umask(before)
    return made


def _is_left(path: str, kind: int) -> bool:
    """Whether there is a socket that nobody listens on. Raises OSError where somebody does, or it is something else."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "it is there, and is not a socket")
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, kind) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError as error:
            if error.errno == errno.EPROTOTYPE:
                raise OSError(errno.EADDRINUSE, "another program listens on it") from None
            raise
    raise OSError(errno.EADDRINUSE, "another program listens on it")
