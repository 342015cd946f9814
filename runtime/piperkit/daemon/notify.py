"""Telling the service manager how we are: the protocol of sd_notify(3), one datagram a message.

Without a service manager that wants to know, nothing is told, and nothing is in the way.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from piperkit.text import harmless


class ServiceManager:
    """systemd, or whatever started us and set NOTIFY_SOCKET."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._socket: socket.socket | None = None
        address = environment.get("NOTIFY_SOCKET", "")
        if address.startswith(("/", "@")):
            # Connected now: after a chroot the path would be another one.
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            try:
                self._socket.connect("\0" + address[1:] if address[0] == "@" else address)
            except OSError:
                self._socket = None
        #: Whether somebody waits for a sign of life, and restarts us if none comes.
        self.watches = self._socket is not None and environment.get("WATCHDOG_USEC", "0") != "0"
        self._alive = 0.0
        self._pause = 1.0

    def tell(self, *lines: str) -> None:
        """Send a message, such as "READY=1". No line can hold another one."""
        if self._socket is not None:
            try:
                self._socket.send("\n".join(map(harmless, lines)).encode("utf-8", "backslashreplace"))
            except OSError:
                pass  # it has gone away, and will ask systemd's way if it wants to know

    def forget(self) -> None:
        """Tell nothing from now on. Idempotent."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self.watches = None, False

    def alive(self) -> None:
        """A sign of life; as often as one likes, since few of them are sent."""
        if self.watches and (now := time.monotonic()) - self._alive >= self._pause:
            self._alive = now
            self.tell("WATCHDOG=1")

    def watch_every(self, seconds: float) -> None:
        """Have the service manager wait this long for a sign of life."""
        self._pause = min(1.0, seconds / 10)
        if self.watches:
            self._alive = time.monotonic()
            self.tell(f"WATCHDOG_USEC={int(seconds * 1e6)}", "WATCHDOG=1")

    def reloading(self) -> None:
        """The configuration is being read; `tell("READY=1")` ends it."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
