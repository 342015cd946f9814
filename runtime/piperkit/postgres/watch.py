"""What a loop can sleep on until a message may have arrived: the server tells of arrivals, by NOTIFY.

It tells either when nobody asks it anything, and then the socket is readable; or with the answer to something else,
and then `ring` is called. A connection that is made anew has another socket. So the descriptor is an epoll(7), with the
socket of the moment in it, and an eventfd(2).
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable

from piperkit.errors import QueueError
from piperkit.postgres.connection import Connection


class Watch:
    """A `piperkit.queue.Watch`. ensure: has the connection listen. Raises QueueError."""

    def __init__(self, connection: Connection, ensure: Callable[[], None]) -> None:
        self._connection = connection
        self._ensure = ensure
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        self._epoll.register(self._event, select.EPOLLIN)
        self._socket: int | None = None
        self._session = 0  #: its number: another one may have the same socket
        self.renew()

    def fileno(self) -> int:
        return self._epoll.fileno()

    def ring(self) -> None:
        """The server has told of an arrival."""
        if not self._epoll.closed:
            os.eventfd_write(self._event, 1)

    def clear(self) -> None:
        """A look follows, which finds all that was told of until now."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)

    def drain(self) -> None:
        """Read what the server has told. That the connection is lost is what the next look finds."""
        self._connection.hear()
        self.clear()
        if not self._connection.is_open:
            self._follow()

    def renew(self) -> bool:
        """Watch the connection that there is now; returns whether that is another one."""
        with contextlib.suppress(QueueError):
            self._ensure()
        return self._follow()

    def _follow(self) -> bool:
        socket = self._connection.fileno()
        if socket == self._socket and self._session == self._connection.number:
            return False
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it is closed, and so not in it any more
                self._epoll.unregister(self._socket)
        self._socket, self._session = socket, self._connection.number
        if socket is not None:
            self._epoll.register(socket, select.EPOLLIN)
        return True

    def close(self) -> None:
        """Stop watching. Idempotent."""
        if not self._epoll.closed:
            self._epoll.close()
            os.close(self._event)
